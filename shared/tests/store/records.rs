//! Commits of unknown fate, late answers, and data that PostgreSQL refuses: what was answered is never dropped.

use std::time::Duration;

use shared::store::accept::Start;
use shared::store::claim::{Dispatch, DispatchBatch};
use shared::store::group::Group;
use shared::store::load::Work;
use shared::store::record;
use shared::store::step::{StepBatch, Stepped, To};
use shared::store::{heal, relay};
use sqlx::PgPool;

use super::{FISCAL, ME, accept, bounds, call, claims, committed, held, moves, queued, send, state, step, work};

#[sqlx::test(migrations = "../migrations")]
async fn a_claim_of_unknown_fate_is_found_again(pool: PgPool) {
    let message = queued(&pool).await;
    let item = Dispatch {
        id: message.id,
        epoch: message.epoch,
        owner: ME,
        send: None,
    };
    let first = committed::<DispatchBatch>(&pool, std::slice::from_ref(&item), false).await;
    assert_eq!(committed::<DispatchBatch>(&pool, &[item], true).await, first);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_step_of_unknown_fate_is_found_again_and_stands_once(pool: PgPool) {
    for to in [To::Own, To::WaitCall(Duration::ZERO), To::Park, To::Registered] {
        let id = accept(&pool, Start::Owned(ME)).await;
        let mut step = step(held(id, 1), to);
        step.calls = vec![call("success", Some("{}"))];
        step.result = Some("{}".to_owned());
        assert_eq!(
            committed::<StepBatch>(&pool, std::slice::from_ref(&step), false).await,
            [Stepped::Moved]
        );
        assert_eq!(committed::<StepBatch>(&pool, &[step], true).await, [Stepped::Moved]);
        let calls = shared::store::read::history(&pool, id).await.unwrap();
        assert_eq!(calls.len(), 1);
        let results = shared::store::read::results(&pool, id).await.unwrap();
        assert_eq!(results, [("register".to_owned(), "{}".to_owned())]);
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_hand_off_of_unknown_fate_is_found_again_and_counted_once(pool: PgPool) {
    relay::queue(&pool, FISCAL, bounds(1, 1), &mut relay::Walk::default())
        .await
        .unwrap();
    let id = accept(&pool, Start::Owned(ME)).await;
    let step = step(held(id, 1), To::Queue(10));
    for again in [false, true] {
        let stepped = committed::<StepBatch>(&pool, std::slice::from_ref(&step), again).await;
        assert_eq!(stepped, [Stepped::Queued], "again: {again}");
        assert_eq!(relay::depth(&pool, FISCAL).await.unwrap(), 1);
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn what_was_answered_is_kept_though_the_step_came_too_late(pool: PgPool) {
    let message = queued(&pool).await;
    let hold = claims(&pool, message.id, message.epoch, Some(send())).await.unwrap();
    assert_eq!(heal::take_over_calls(&pool, ME).await.unwrap(), 1);
    let mut late = step(hold, To::Own);
    late.calls = vec![call("success", Some(r#"{"uuid": "u"}"#))];
    assert!(!moves(&pool, late).await);
    assert_eq!(
        record::read(&pool, message.id, "c1").await.unwrap().value.as_deref(),
        Some(r#"{"uuid": "u"}"#)
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn a_step_that_cannot_be_stored_parks_its_receipt_where_it_stood(pool: PgPool) {
    let group = Group::<StepBatch>::start(pool.clone());
    let message = queued(&pool).await;
    let hold = claims(&pool, message.id, message.epoch, Some(send())).await.unwrap();
    let before = Work {
        hold,
        ..work(&pool, message.id).await.unwrap()
    };
    let mut bad = step(hold, To::Registered);
    bad.result = Some("{not json".to_owned());
    bad.calls = vec![call("success", Some("{not json"))];
    assert_eq!(
        shared::store::step::commit(&group, &before, bad).await.unwrap(),
        Stepped::Moved
    );
    assert_eq!(state(&pool, message.id).await, "parked");
    let after = work(&pool, message.id).await.unwrap();
    assert_eq!(after.position, before.position);
    assert!(after.standing.unresolved, "it was sent");
    let calls = shared::store::read::history(&pool, message.id).await.unwrap();
    assert_eq!(calls.len(), 1, "that it was called is on record");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_reason_may_hold_what_postgresql_cannot(pool: PgPool) {
    let id = accept(&pool, Start::Owned(ME)).await;
    let mut parked = step(held(id, 1), To::Park);
    parked.reason = Some("nul \0 in it".to_owned());
    assert!(moves(&pool, parked).await);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_result_stands_where_its_step_was_taken_and_needs_no_call(pool: PgPool) {
    let id = accept(&pool, Start::Owned(ME)).await;
    let mut step = step(held(id, 1), To::Own);
    (step.result, step.calls) = (Some(r#"{"n": 1}"#.to_owned()), Vec::new());
    assert!(moves(&pool, step.clone()).await);
    step.calls = vec![call("success", None)];
    assert!(!moves(&pool, step).await, "the position is another now");

    let results = shared::store::read::results(&pool, id).await.unwrap();
    assert_eq!(results, [("validate".to_owned(), r#"{"n": 1}"#.to_owned())]);
    let calls = shared::store::read::history(&pool, id).await.unwrap();
    assert_eq!(
        calls.len(),
        1,
        "the late step's call is on record, and no other was made"
    );
}
