//! Commits of unknown fate, late answers, and data that PostgreSQL refuses: what was answered is never dropped.

use std::time::Duration;

use shared::store::accept::Start;
use shared::store::claim::{Dispatch, DispatchBatch};
use shared::store::group::Group;
use shared::store::record;
use shared::store::step::{Call, Step, StepBatch, Stepped, Stood, To};
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
        let step = step.came_to(Some("{}".to_owned()));
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
    let before = Stood::of(&work(&pool, message.id).await.unwrap());
    let mut bad = step(hold, To::Registered);
    bad.calls = vec![call("success", Some("{not json"))];
    let bad = bad.came_to(Some("{not json".to_owned()));
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
    let mut step = step(held(id, 1), To::Own).came_to(Some(r#"{"n": 1}"#.to_owned()));
    assert!(moves(&pool, step.clone()).await);
    step.calls = vec![call("success", None)];
    let late = step.came_to(Some(r#"{"n": 2}"#.to_owned()));
    assert!(!moves(&pool, late).await, "the position is another now");

    let results = shared::store::read::results(&pool, id).await.unwrap();
    assert_eq!(results, [("validate".to_owned(), r#"{"n": 1}"#.to_owned())]);
    let calls = shared::store::read::history(&pool, id).await.unwrap();
    assert_eq!(
        calls.len(),
        1,
        "the late step's call is on record, and no other was made"
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn steps_that_are_stored_as_one_leave_what_each_came_to(pool: PgPool) {
    let id = accept(&pool, Start::Owned(ME)).await;
    let named = |stage: &str, from, calls: Vec<Call>| {
        let own = Step {
            from,
            position: from + 1,
            stage: stage.to_owned(),
            calls,
            ..step(held(id, 1), To::Own)
        };
        own.came_to(Some(format!(r#"{{"of": "{stage}"}}"#)))
    };
    let made = |stage: &str| Call {
        stage: stage.to_owned(),
        ..call("success", None)
    };
    let validated = named("validate", 0, Vec::new());
    let enriched = named("enrich", 1, vec![made("enrich"), made("enrich")]);
    let all = named("calculate", 2, vec![made("calculate")]).after(enriched.after(validated));
    for again in [false, true] {
        let answers = committed::<StepBatch>(&pool, std::slice::from_ref(&all), again).await;
        assert_eq!(answers, [Stepped::Moved], "again: {again}");
        assert_eq!(work(&pool, id).await.unwrap().position, 3);
        let results = shared::store::read::results(&pool, id).await.unwrap();
        let stages: Vec<_> = results.iter().map(|(stage, _)| stage.as_str()).collect();
        assert_eq!(stages, ["validate", "enrich", "calculate"]);
        assert_eq!(shared::store::read::history(&pool, id).await.unwrap().len(), 3);
    }
    assert!(!moves(&pool, named("enrich", 1, Vec::new())).await, "it has gone on");
}
