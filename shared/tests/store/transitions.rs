//! The transition table, a test a row.

use std::time::Duration;

use shared::store::accept::{AcceptBatch, Accepted, Start};
use shared::store::claim::{self, Dispatch, DispatchBatch};
use shared::store::group::{Batch, Group};
use shared::store::heal::{self, Evidence};
use shared::store::load::{self, Send, Work};
use shared::store::step::{Call, Standing, StepBatch, To};
use shared::store::{Hold, instances, operate, relay};
use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{FISCAL, accept, given, moves, state, step, work};

const ME: Uuid = Uuid::from_u128(1);
const OTHER: Uuid = Uuid::from_u128(2);

fn held(id: Uuid, epoch: i32) -> Hold {
    Hold { id, epoch, owner: ME }
}

fn send() -> Send {
    Send {
        call_id: "c1".into(),
        method: "POST".into(),
        path: "/v4".into(),
        headers: "[]".into(),
        body: Some(b"{}".to_vec()),
    }
}

async fn queued(pool: &PgPool) -> relay::Queued {
    accept(pool, Start::FirstCall).await;
    relay::queue(pool, FISCAL, 100, 100)
        .await
        .expect("the database answers")
        .pop()
        .expect("the database answers")
}

async fn claims(pool: &PgPool, id: Uuid, epoch: i32, send: Option<Send>) -> Option<Hold> {
    DispatchBatch(pool.clone())
        .commit(
            &[Dispatch {
                id,
                epoch,
                owner: ME,
                send,
            }],
            false,
        )
        .await
        .expect("the database answers")[0]
}

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
    let batch = AcceptBatch(pool.clone());
    let (first, mut twin) = (given("a", Start::Waiting), given("a", Start::Waiting));
    let id = first.id;
    assert_eq!(batch.commit(&[first], false).await.unwrap(), [Accepted::New]);
    assert_eq!(
        batch.commit(std::slice::from_ref(&twin), false).await.unwrap(),
        [Accepted::Same(id)]
    );
    twin.content_hash = [8; 32];
    assert_eq!(batch.commit(&[twin], false).await.unwrap(), [Accepted::Other(id)]);
}

#[sqlx::test(migrations = "../migrations")]
async fn an_owner_goes_on_and_nobody_else(pool: PgPool) {
    let id = accept(&pool, Start::Owned(ME)).await;
    let mut success = step(held(id, 1), To::Own);
    success.result = Some(r#"{"rules": {"ok": true}}"#.to_owned());
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
async fn internal_work_is_claimed_when_it_is_due_and_by_one(pool: PgPool) {
    let due = accept(&pool, Start::Waiting).await;
    let later = accept(&pool, Start::Owned(ME)).await;
    assert!(moves(&pool, step(held(later, 1), To::WaitInternal(Duration::from_mins(1)))).await);
    assert_eq!(claim::internal(&pool, ME, 10).await.unwrap(), [due]);
    assert!(claim::internal(&pool, OTHER, 10).await.unwrap().is_empty());
    assert_eq!(work(&pool, due).await.unwrap().hold, held(due, 2));
}

#[sqlx::test(migrations = "../migrations")]
async fn the_horizon_bounds_what_is_queued_and_counts_what_is_taken(pool: PgPool) {
    for _ in 0..5 {
        accept(&pool, Start::FirstCall).await;
    }
    let queued = relay::queue(&pool, FISCAL, 3, 100).await.unwrap();
    assert_eq!(queued.len(), 3);
    assert!(relay::queue(&pool, FISCAL, 3, 100).await.unwrap().is_empty(), "no room");
    assert_eq!(state(&pool, queued[0].id).await, "queued");
    assert!(claims(&pool, queued[0].id, queued[0].epoch, None).await.is_some());
    assert_eq!(relay::depth(&pool, FISCAL).await.unwrap(), 2);
    assert_eq!(relay::queue(&pool, FISCAL, 3, 100).await.unwrap().len(), 1);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_timer_is_queued_when_it_is_due_and_a_deadline_goes_first(pool: PgPool) {
    let timer = accept(&pool, Start::Owned(ME)).await;
    assert!(moves(&pool, step(held(timer, 1), To::WaitCall(Duration::from_mins(1)))).await);
    accept(&pool, Start::FirstCall).await;
    let mut urgent = given("urgent", Start::FirstCall);
    urgent.deadline = Some(OffsetDateTime::now_utc() + Duration::from_hours(1));
    let id = urgent.id;
    AcceptBatch(pool.clone()).commit(&[urgent], false).await.unwrap();
    let first = relay::queue(&pool, FISCAL, 100, 1).await.unwrap();
    assert_eq!(first[0].id, id);
    assert!(relay::is_due(&pool, FISCAL).await.unwrap());
    assert_eq!(
        relay::queue(&pool, FISCAL, 100, 100).await.unwrap().len(),
        1,
        "the timer is not due"
    );
    assert!(!relay::is_due(&pool, FISCAL).await.unwrap());
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
    assert_eq!(load::record(&pool, message.id, "c1").await.unwrap().send, Some(send()));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_claim_of_unknown_fate_is_found_again(pool: PgPool) {
    let message = queued(&pool).await;
    let item = Dispatch {
        id: message.id,
        epoch: message.epoch,
        owner: ME,
        send: None,
    };
    let batch = DispatchBatch(pool.clone());
    let first = batch.commit(std::slice::from_ref(&item), false).await.unwrap();
    assert_eq!(batch.commit(&[item], true).await.unwrap(), first);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_step_of_unknown_fate_is_found_again_and_its_calls_stand_once(pool: PgPool) {
    let batch = shared::store::step::StepBatch(pool.clone());
    for to in [To::WaitCall(Duration::ZERO), To::Park, To::Registered] {
        let id = accept(&pool, Start::Owned(ME)).await;
        let mut step = step(held(id, 1), to);
        step.calls = vec![call("success", Some("{}"))];
        assert_eq!(batch.commit(std::slice::from_ref(&step), false).await.unwrap(), [true]);
        assert_eq!(batch.commit(&[step], true).await.unwrap(), [true]);
        let calls = shared::store::read::history(&pool, id, OffsetDateTime::now_utc())
            .await
            .unwrap();
        assert_eq!(calls.len(), 1);
    }
}

fn call(outcome: &'static str, value: Option<&str>) -> Call {
    Call {
        id: Uuid::now_v7(),
        stage: "register".into(),
        request: "send".into(),
        attempt: 1,
        call_id: "c1".into(),
        started_at: OffsetDateTime::now_utc(),
        duration: Duration::from_millis(3),
        outcome,
        status: Some(200),
        error: None,
        retry_after_s: None,
        registers: true,
        registered: false,
        value: value.map(str::to_owned),
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
        load::record(&pool, message.id, "c1").await.unwrap().value.as_deref(),
        Some(r#"{"uuid": "u"}"#)
    );
}

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
        relay::queue(&pool, FISCAL, 10, 10).await.unwrap()[0].epoch,
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
    assert_eq!(relay::queue(&pool, FISCAL, 100, 10).await.unwrap().len(), 10);
    assert_eq!(firsts().await, 17);
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
async fn a_step_that_cannot_be_stored_parks_its_receipt_where_it_stood(pool: PgPool) {
    let group = Group::start(StepBatch(pool.clone()));
    let message = queued(&pool).await;
    let hold = claims(&pool, message.id, message.epoch, Some(send())).await.unwrap();
    let before = Work {
        hold,
        ..work(&pool, message.id).await.unwrap()
    };
    let mut bad = step(hold, To::Registered);
    bad.result = Some("{not json".to_owned());
    bad.calls = vec![call("success", Some("{not json"))];
    assert!(shared::store::step::commit(&group, &before, bad).await.unwrap());
    assert_eq!(state(&pool, message.id).await, "parked");
    let after = work(&pool, message.id).await.unwrap();
    assert_eq!(after.position, before.position);
    assert!(after.standing.unresolved, "it was sent");
    let calls = shared::store::read::history(&pool, message.id, OffsetDateTime::now_utc())
        .await
        .unwrap();
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
async fn calls_that_landed_beside_their_day_move_in_when_it_is_made(pool: PgPool) {
    let id = accept(&pool, Start::Owned(ME)).await;
    let mut late = step(held(id, 1), To::Own);
    late.calls = vec![Call {
        started_at: OffsetDateTime::now_utc() + Duration::from_hours(24 * 10),
        ..call("success", Some("{}"))
    }];
    assert!(moves(&pool, late).await);
    let in_default = async || {
        sqlx::query_scalar::<_, i64>("select count(*) from calls_default")
            .fetch_one(&pool)
            .await
            .unwrap()
    };
    assert_eq!(in_default().await, 1);
    sqlx::query("select create_partitions(12)")
        .execute(&pool)
        .await
        .unwrap();
    assert_eq!(in_default().await, 0);
    let record = load::record(&pool, id, "c1").await.unwrap();
    assert_eq!(record.value.as_deref(), Some("{}"));
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
async fn an_operator_cancels_what_nobody_has_and_nothing_unresolved(pool: PgPool) {
    let waiting = accept(&pool, Start::Waiting).await;
    assert!(operate::cancel(&pool, waiting, "by hand").await.unwrap());
    assert_eq!(state(&pool, waiting).await, "cancelled");
    assert!(!operate::cancel(&pool, waiting, "twice").await.unwrap());

    let message = queued(&pool).await;
    assert!(operate::cancel(&pool, message.id, "by hand").await.unwrap());
    assert_eq!(relay::depth(&pool, FISCAL).await.unwrap(), 0);

    let running = accept(&pool, Start::Owned(ME)).await;
    assert!(!operate::cancel(&pool, running, "in work").await.unwrap());
    for standing in [
        Standing {
            unresolved: true,
            registered: false,
        },
        Standing {
            unresolved: false,
            registered: true,
        },
    ] {
        let id = accept(&pool, Start::Owned(ME)).await;
        let mut parked = step(held(id, 1), To::Park);
        parked.standing = standing;
        assert!(moves(&pool, parked).await);
        assert!(!operate::cancel(&pool, id, "too early").await.unwrap());
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn an_operator_releases_what_is_parked_and_nothing_else(pool: PgPool) {
    let id = accept(&pool, Start::Owned(ME)).await;
    assert!(!operate::release(&pool, id, true).await.unwrap());
    assert!(moves(&pool, step(held(id, 1), To::Park)).await);
    assert!(operate::release(&pool, id, true).await.unwrap());
    assert_eq!(relay::queue(&pool, FISCAL, 10, 10).await.unwrap()[0].id, id);
}
