//! What a receipt waited for, as whoever takes it to work again is told.

use std::time::Duration;

use shared::store::accept::Start;
use shared::store::heal::{self, Evidence};
use shared::store::step::To;
use shared::store::{relay, steer};
use sqlx::PgPool;

use super::{FISCAL, ME, OTHER, accept, bounds, call, claimed, claims, held, moves, queued, seen, step, work};

/// Kind and reason, if it waited.
async fn wait(pool: &PgPool, id: uuid::Uuid) -> Option<(String, Option<String>)> {
    let work = work(pool, id).await.expect("it is open");
    let wait = work.wait?;
    assert!(wait.since <= work.moved_at);
    Some((wait.kind, wait.reason))
}

fn waited(kind: &str, reason: Option<&str>) -> (String, Option<String>) {
    (kind.to_owned(), reason.map(str::to_owned))
}

#[sqlx::test(migrations = "../migrations")]
async fn a_claim_is_told_since_when_and_why_and_never_what_an_api_said(pool: PgPool) {
    let id = accept(&pool, Start::Owned(ME)).await;
    assert_eq!(wait(&pool, id).await, None, "it did not wait");
    let mut failed = step(held(id, 1), To::WaitInternal(Duration::ZERO));
    failed.calls = vec![call("retry", None)];
    assert!(moves(&pool, failed).await);
    let before = work(&pool, id).await.unwrap();
    assert_eq!(claimed(&pool, ME, 1).await, [id]);
    let after = work(&pool, id).await.unwrap();
    assert_eq!(after.wait, before.wait);
    assert_eq!(after.wait.unwrap().since, before.moved_at);
    assert!(after.moved_at > before.moved_at, "when it ended");
    assert_eq!(wait(&pool, id).await, Some(waited("timer", Some("retry after 200"))));

    let mut on = step(held(id, 2), To::Own);
    (on.from, on.position) = (1, 2);
    assert!(moves(&pool, on).await);
    assert_eq!(wait(&pool, id).await, None, "its owner took it on");
}

#[sqlx::test(migrations = "../migrations")]
async fn what_is_queued_keeps_what_it_waited_for_before(pool: PgPool) {
    let message = queued(&pool).await;
    assert_eq!(wait(&pool, message.id).await, Some(waited("turn", None)));
    assert!(claims(&pool, message.id, message.epoch, None).await.is_some());
    assert_eq!(wait(&pool, message.id).await, Some(waited("turn", None)));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_lost_message_was_a_wait(pool: PgPool) {
    let id = accept(&pool, Start::Owned(ME)).await;
    accept(&pool, Start::FirstCall).await;
    // So that there is a horizon.
    let walk = &mut relay::Walk::default();
    relay::queue(&pool, FISCAL, bounds(10, 10), walk).await.unwrap();
    assert!(moves(&pool, step(held(id, 1), To::Queue(10))).await);
    assert_eq!(wait(&pool, id).await, None, "it went on at once");
    let lost = heal::requeue_lost(&pool, OTHER, FISCAL, Duration::ZERO, Evidence::Empty);
    assert_eq!(lost.await.unwrap(), 2);
    assert_eq!(
        wait(&pool, id).await,
        Some(waited("queue", Some("its message was lost")))
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn a_release_ends_no_wait_for_a_person(pool: PgPool) {
    let id = accept(&pool, Start::Owned(ME)).await;
    let mut parked = step(held(id, 1), To::Park);
    parked.calls = vec![call("park", None)];
    assert!(moves(&pool, parked).await);
    let parked = work(&pool, id).await.unwrap().wait;
    let internal = steer::Move {
        external: false,
        ..seen(&pool, id).await
    };
    let mut connection = pool.acquire().await.unwrap();
    let released = steer::release(&mut connection, &[internal], "by hand").await;
    assert_eq!(released.unwrap(), [id]);
    assert_eq!(claimed(&pool, ME, 1).await, [id]);
    assert_eq!(work(&pool, id).await.unwrap().wait, parked);
    assert_eq!(wait(&pool, id).await, Some(waited("person", Some("park after 200"))));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_death_begins_a_wait(pool: PgPool) {
    let id = accept(&pool, Start::Owned(OTHER)).await;
    assert_eq!(heal::take_over_internal(&pool, OTHER, None).await.unwrap(), Some(1));
    assert_eq!(
        wait(&pool, id).await,
        Some(waited("timer", Some("its orchestrator died")))
    );
}
