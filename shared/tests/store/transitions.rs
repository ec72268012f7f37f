//! The transition table, a test a row.

use std::time::Duration;

use shared::store::accept::{AcceptBatch, Accepted, Start};
use shared::store::step::{StepBatch, Stepped, To};
use shared::store::{Hold, claim, record, relay};
use sqlx::PgPool;
use time::OffsetDateTime;

use super::{
    FISCAL, ME, OTHER, accept, bounds, claimed, claims, committed, given, held, moves, queued, send, state, step, work,
};

#[sqlx::test(migrations = "../migrations")]
async fn intake_gives_a_receipt_to_its_orchestrator_or_to_any(pool: PgPool) {
    let owned = accept(&pool, Start::Owned(ME)).await;
    assert_eq!(state(&pool, owned).await, "running");
    assert_eq!(work(&pool, owned).await.unwrap().hold, held(owned, 1));
    let waiting = accept(&pool, Start::Waiting).await;
    assert_eq!(state(&pool, waiting).await, "waiting");
}

#[sqlx::test(migrations = "../migrations")]
async fn the_same_key_is_accepted_once(pool: PgPool) {
    let (first, mut twin) = (given("a", Start::Waiting), given("a", Start::Waiting));
    let id = first.id;
    assert_eq!(committed::<AcceptBatch>(&pool, &[first], false).await, [Accepted::New]);
    assert_eq!(
        committed::<AcceptBatch>(&pool, std::slice::from_ref(&twin), false).await,
        [Accepted::Same(id)]
    );
    twin.content_hash = [8; 32];
    assert_eq!(
        committed::<AcceptBatch>(&pool, &[twin], false).await,
        [Accepted::Other(id)]
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn an_owner_goes_on_and_nobody_else(pool: PgPool) {
    let id = accept(&pool, Start::Owned(ME)).await;
    let success = step(held(id, 1), To::Own).came_to(Some(r#"{"rules": {"ok": true}}"#.to_owned()));
    assert!(
        !moves(
            &pool,
            step(
                Hold {
                    id,
                    epoch: 1,
                    owner: OTHER
                },
                To::Own
            )
        )
        .await,
        "another owner"
    );
    assert!(!moves(&pool, step(held(id, 2), To::Own)).await, "another epoch");
    assert!(moves(&pool, success).await);
    let work = work(&pool, id).await.unwrap();
    assert_eq!((work.position, work.results.len()), (1, 1));
}

#[sqlx::test(migrations = "../migrations")]
async fn an_owner_lets_go_once(pool: PgPool) {
    for to in [
        To::WaitInternal(Duration::ZERO),
        To::WaitCall(Duration::from_secs(9)),
        To::WaitFirstCall,
        To::Park,
    ] {
        let id = accept(&pool, Start::Owned(ME)).await;
        let expected = if to == To::Park { "parked" } else { "waiting" };
        assert!(moves(&pool, step(held(id, 1), to.clone())).await);
        assert_eq!(state(&pool, id).await, expected);
        assert!(!moves(&pool, step(held(id, 1), to)).await, "it is the owner's no more");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn an_owner_queues_its_receipt_while_there_is_room_for_it_and_for_all_that_is_due(pool: PgPool) {
    let hand_off = async |to: To| {
        let id = accept(&pool, Start::Owned(ME)).await;
        let stepped = committed::<StepBatch>(&pool, &[step(held(id, 1), to)], false).await;
        (stepped[0], state(&pool, id).await)
    };
    let relay = async |most: i64| {
        let queued = relay::queue(&pool, FISCAL, bounds(most, most), &mut relay::Walk::default()).await;
        queued.unwrap().len()
    };
    let (queued, waiting) = (
        (Stepped::Queued, "queued".to_owned()),
        (Stepped::Moved, "waiting".to_owned()),
    );
    assert_eq!(hand_off(To::Queue(2)).await, waiting, "no horizon yet");
    assert_eq!(relay(1).await, 1);
    assert_eq!(hand_off(To::Queue(1)).await, waiting, "no room: one is queued");
    assert_eq!(hand_off(To::Queue(2)).await, waiting, "it is for who waits");
    assert_eq!(hand_off(To::Queue(4)).await, queued, "room for all three");
    assert_eq!(hand_off(To::WaitCall(Duration::ZERO)).await, waiting);
    assert_eq!(hand_off(To::WaitCall(Duration::from_secs(9))).await, waiting);
    assert_eq!(hand_off(To::Queue(5)).await, waiting, "the room is for what is due");
    assert_eq!(hand_off(To::Queue(7)).await, queued, "room for all four that are due");
    assert_eq!((relay(9).await, relay::depth(&pool, FISCAL).await.unwrap()), (4, 7));

    let id = accept(&pool, Start::Owned(ME)).await;
    assert!(moves(&pool, step(held(id, 1), To::Queue(10))).await);
    let hold = claims(&pool, id, 2, None).await.unwrap();
    assert_eq!((hold.epoch, relay::depth(&pool, FISCAL).await.unwrap()), (3, 7));
}

#[sqlx::test(migrations = "../migrations")]
async fn an_owner_ends_a_receipt_once(pool: PgPool) {
    for (to, name) in [(To::Registered, "registered"), (To::Rejected, "rejected")] {
        let id = accept(&pool, Start::Owned(ME)).await;
        assert!(moves(&pool, step(held(id, 1), to.clone())).await);
        assert_eq!(state(&pool, id).await, name);
        assert!(work(&pool, id).await.is_none(), "what is final leaves work");
        assert!(!moves(&pool, step(held(id, 1), to)).await);
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn who_claims_on_and_on_claims_each_once_and_what_came_before_it_too(pool: PgPool) {
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(accept(&pool, Start::Waiting).await);
    }
    let mut walk = claim::Walk::default();
    let mut claimed = claim::internal(&pool, ME, 2, &mut walk).await.unwrap();
    assert_eq!(claimed, ids[..2]);
    let before = accept(&pool, Start::Waiting).await;
    sqlx::query("update work set internal_due_at = now() - interval '1 hour' where id = $1")
        .bind(before)
        .execute(&pool)
        .await
        .unwrap();
    ids.push(before);
    while claimed.len() < ids.len() {
        let more = claim::internal(&pool, ME, 2, &mut walk).await.unwrap();
        assert!(!more.is_empty(), "{claimed:?} of {ids:?}");
        claimed.extend(more);
    }
    claimed.sort_unstable();
    ids.sort_unstable();
    assert_eq!(claimed, ids, "each of them, once");
    assert!(claim::internal(&pool, ME, 2, &mut walk).await.unwrap().is_empty());
}

#[sqlx::test(migrations = "../migrations")]
async fn internal_work_is_claimed_when_it_is_due_and_by_one(pool: PgPool) {
    let due = accept(&pool, Start::Waiting).await;
    let later = accept(&pool, Start::Owned(ME)).await;
    assert!(moves(&pool, step(held(later, 1), To::WaitInternal(Duration::from_mins(1)))).await);
    assert_eq!(claimed(&pool, ME, 10).await, [due]);
    assert!(claimed(&pool, OTHER, 10).await.is_empty());
    assert_eq!(work(&pool, due).await.unwrap().hold, held(due, 2));
}

#[sqlx::test(migrations = "../migrations")]
async fn the_horizon_bounds_what_is_queued_and_counts_what_is_taken(pool: PgPool) {
    for _ in 0..5 {
        accept(&pool, Start::FirstCall).await;
    }
    let queued = relay::queue(&pool, FISCAL, bounds(3, 100), &mut relay::Walk::default())
        .await
        .unwrap();
    assert_eq!(queued.len(), 3);
    let messages = relay::messages(&pool, &queued).await.unwrap();
    let said = messages.iter().map(|message| (message.id, message.epoch));
    assert!(said.eq(queued.iter().map(|put| (put.id, put.epoch))), "in their order");
    assert!(
        relay::queue(&pool, FISCAL, bounds(3, 100), &mut relay::Walk::default())
            .await
            .unwrap()
            .is_empty(),
        "no room"
    );
    assert_eq!(state(&pool, queued[0].id).await, "queued");
    assert!(claims(&pool, queued[0].id, queued[0].epoch, None).await.is_some());
    assert_eq!(relay::depth(&pool, FISCAL).await.unwrap(), 2);
    assert_eq!(
        relay::queue(&pool, FISCAL, bounds(3, 100), &mut relay::Walk::default())
            .await
            .unwrap()
            .len(),
        1
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn a_timer_is_queued_when_it_is_due_and_a_deadline_goes_first(pool: PgPool) {
    let timer = accept(&pool, Start::Owned(ME)).await;
    assert!(moves(&pool, step(held(timer, 1), To::WaitCall(Duration::from_mins(1)))).await);
    accept(&pool, Start::FirstCall).await;
    let mut urgent = given("urgent", Start::FirstCall);
    urgent.deadline = Some(OffsetDateTime::now_utc() + Duration::from_hours(1));
    let id = urgent.id;
    committed::<AcceptBatch>(&pool, &[urgent], false).await;
    let first = relay::queue(&pool, FISCAL, bounds(100, 1), &mut relay::Walk::default())
        .await
        .unwrap();
    assert_eq!(first[0].id, id);
    assert_eq!(
        relay::queue(&pool, FISCAL, bounds(100, 100), &mut relay::Walk::default())
            .await
            .unwrap()
            .len(),
        1,
        "the timer is not due"
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn a_dispatcher_claims_with_the_messages_epoch_and_once(pool: PgPool) {
    let message = queued(&pool).await;
    assert!(
        claims(&pool, message.id, message.epoch - 1, None).await.is_none(),
        "stale"
    );
    let hold = claims(&pool, message.id, message.epoch, Some(send())).await.unwrap();
    assert_eq!(hold, held(message.id, message.epoch + 1));
    assert!(
        claims(&pool, message.id, message.epoch, None).await.is_none(),
        "doubled"
    );
    assert!(
        work(&pool, message.id).await.unwrap().standing.unresolved,
        "sent or not, nobody knows yet"
    );
    assert_eq!(record::read(&pool, message.id, "c1").await.unwrap().send, Some(send()));
}

#[sqlx::test(migrations = "../migrations")]
async fn first_calls_do_not_starve_behind_timers(pool: PgPool) {
    for _ in 0..20 {
        let id = accept(&pool, Start::Owned(ME)).await;
        assert!(moves(&pool, step(held(id, 1), To::WaitCall(Duration::ZERO))).await);
        accept(&pool, Start::FirstCall).await;
    }
    let firsts = async || {
        sqlx::query_scalar::<_, i64>("select count(*) from work where first_call_key is not null")
            .fetch_one(&pool)
            .await
            .unwrap()
    };
    assert_eq!(
        relay::queue(&pool, FISCAL, bounds(100, 10), &mut relay::Walk::default())
            .await
            .unwrap()
            .len(),
        10
    );
    assert_eq!(firsts().await, 17);
}
