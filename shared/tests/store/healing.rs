//! What a dead holder leaves behind, and messages that are lost.

use std::time::Duration;

use shared::store::accept::Start;
use shared::store::heal::{self, Evidence, Owned};
use shared::store::step::To;
use shared::store::{StoreError, instances, relay};
use sqlx::PgPool;

use super::{FISCAL, ME, OTHER, accept, bounds, claimed, claims, held, moves, queued, send, state, step, work};

#[sqlx::test(migrations = "../migrations")]
async fn a_lost_message_is_queued_again_and_the_old_one_is_stale(pool: PgPool) {
    let message = queued(&pool).await;
    assert_eq!(
        heal::requeue_lost(&pool, OTHER, FISCAL, Duration::from_mins(1), Evidence::Empty)
            .await
            .unwrap(),
        0,
        "too young"
    );
    assert_eq!(
        heal::requeue_lost(&pool, OTHER, FISCAL, Duration::ZERO, Evidence::Passed)
            .await
            .unwrap(),
        0,
        "nothing later was claimed: it may stand in a long queue"
    );
    assert_eq!(
        heal::requeue_lost(&pool, OTHER, FISCAL, Duration::ZERO, Evidence::Empty)
            .await
            .unwrap(),
        1
    );
    assert_eq!(relay::depth(&pool, FISCAL).await.unwrap(), 0);
    assert!(claims(&pool, message.id, message.epoch, None).await.is_none());
    assert_eq!(
        relay::queue(&pool, FISCAL, bounds(10, 10), &mut relay::Walk::default())
            .await
            .unwrap()[0]
            .epoch,
        message.epoch + 2
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn a_message_is_lost_once_later_ones_were_claimed(pool: PgPool) {
    let lost = queued(&pool).await;
    let later = queued(&pool).await;
    assert!(claims(&pool, later.id, later.epoch, None).await.is_some());
    let requeue = async |age| {
        heal::requeue_lost(&pool, OTHER, FISCAL, age, Evidence::Passed)
            .await
            .unwrap()
    };
    assert_eq!(requeue(Duration::from_mins(1)).await, 0, "within the margin");
    assert_eq!(requeue(Duration::ZERO).await, 1);
    assert_eq!(state(&pool, lost.id).await, "waiting");
}

#[sqlx::test(migrations = "../migrations")]
async fn whoever_beat_after_all_is_not_dead(pool: PgPool) {
    instances::register(&pool, ME, "test").await.unwrap();
    let running = accept(&pool, Start::Owned(ME)).await;
    assert!(instances::beat(&pool, ME).await.unwrap().is_some());
    assert_eq!(heal::take_over_internal(&pool, ME, Some(0)).await.unwrap(), None);
    assert_eq!(
        heal::take_over_internal(&pool, ME, None).await.unwrap(),
        None,
        "it is listed"
    );
    assert_eq!(state(&pool, running).await, "running");
    assert_eq!(heal::take_over_internal(&pool, ME, Some(1)).await.unwrap(), Some(1));
}

#[sqlx::test(migrations = "../migrations")]
async fn the_dead_lose_internal_work_first_and_open_calls_stay_unresolved(pool: PgPool) {
    instances::register(&pool, ME, "test").await.unwrap();
    let running = accept(&pool, Start::Owned(ME)).await;
    let others = accept(&pool, Start::Owned(OTHER)).await;
    let message = queued(&pool).await;
    claims(&pool, message.id, message.epoch, Some(send())).await.unwrap();

    assert_eq!(heal::take_over_internal(&pool, ME, Some(0)).await.unwrap(), Some(1));
    assert!(
        instances::beat(&pool, ME).await.unwrap().is_none(),
        "the dead learn of it"
    );
    assert_eq!(state(&pool, running).await, "waiting");
    assert_eq!(state(&pool, others).await, "running");
    assert_eq!(state(&pool, message.id).await, "dispatching");
    let mut unlisted = heal::unlisted_owners(&pool).await.unwrap();
    unlisted.sort();
    assert_eq!(unlisted, [ME, OTHER]);

    assert_eq!(heal::take_over_calls(&pool, ME).await.unwrap(), 1);
    let work = work(&pool, message.id).await.unwrap();
    assert!(work.standing.unresolved);
    assert!(
        !moves(&pool, step(held(running, 1), To::Own)).await,
        "the dead write nothing"
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn a_stray_is_given_back_by_its_owner_and_at_its_epoch_only(pool: PgPool) {
    let running = accept(&pool, Start::Owned(ME)).await;
    let message = queued(&pool).await;
    let hold = claims(&pool, message.id, message.epoch, Some(send())).await.unwrap();
    let mut owned = heal::owned(&pool, ME).await.unwrap();
    owned.sort_by_key(|row| row.epoch);
    assert_eq!(
        owned,
        [
            Owned { id: running, epoch: 1 },
            Owned {
                id: hold.id,
                epoch: hold.epoch
            }
        ]
    );
    assert_eq!(heal::give_back(&pool, OTHER, &owned).await.unwrap(), 0, "another's");
    let old = owned.iter().map(|row| Owned {
        epoch: row.epoch - 1,
        ..*row
    });
    assert_eq!(heal::give_back(&pool, ME, &old.collect::<Vec<_>>()).await.unwrap(), 0);
    assert_eq!(heal::give_back(&pool, ME, &owned).await.unwrap(), 2);
    assert_eq!(claimed(&pool, OTHER, 10).await, [running]);
    assert_eq!(
        relay::queue(&pool, FISCAL, bounds(10, 10), &mut relay::Walk::default())
            .await
            .unwrap()[0]
            .id,
        hold.id
    );
    assert!(
        work(&pool, hold.id).await.unwrap().standing.unresolved,
        "its call stays open"
    );
    assert!(
        !moves(&pool, step(hold, To::Own)).await,
        "the forgetful write nothing more"
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn a_row_that_somebody_holds_is_no_outage(pool: PgPool) {
    let running = accept(&pool, Start::Owned(ME)).await;
    let mut paused = pool.begin().await.unwrap();
    sqlx::query("select from work where id = $1 for update")
        .bind(running)
        .execute(&mut *paused)
        .await
        .unwrap();
    let mut impatient = pool.acquire().await.unwrap();
    sqlx::query("set lock_timeout = '50ms'")
        .execute(&mut *impatient)
        .await
        .unwrap();
    let refused = sqlx::query("update work set epoch = epoch where id = $1")
        .bind(running)
        .execute(&mut *impatient)
        .await
        .unwrap_err();
    assert!(matches!(StoreError::from(refused), StoreError::Locked(_)));
}
