//! What operators do to receipts: each guard, and what each leaves behind.

use std::time::Duration;

use shared::store::accept::Start;
use shared::store::steer::{self, Move, seen as looked};
use shared::store::step::{Call, Counters, Standing, To};
use shared::store::{claim, read, relay};
use sqlx::PgPool;
use uuid::Uuid;

use super::{FISCAL, ME, accept, bounds, call, claims, held, moves, queued, seen, send, state, steered, step, work};

const HOUR: Duration = Duration::from_hours(1);
const RESOLVED: Standing = Standing {
    unresolved: false,
    registered: false,
    sent: false,
    absents: 0,
};
const UNRESOLVED: Standing = Standing {
    unresolved: true,
    ..RESOLVED
};
const REGISTERED: Standing = Standing {
    registered: true,
    ..RESOLVED
};

/// A receipt that came to `to` with its first step, which called for it.
async fn at(pool: &PgPool, to: To, standing: Standing, calls: Vec<Call>) -> Uuid {
    let id = accept(pool, Start::Owned(ME)).await;
    let mut first = step(held(id, 1), to);
    first.standing = standing;
    first.counters = Counters {
        attempt: 3,
        failures: 2,
        reissues: 1,
        spent_ms: 700,
        ..Counters::default()
    };
    first.calls = calls;
    assert!(moves(pool, first.came_to(Some("{}".to_owned()))).await);
    id
}

async fn is(pool: &PgPool, id: Uuid, what: &'static str) -> bool {
    let sql = format!("select {what} from work where id = $1");
    let is: Option<bool> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
        .bind(id)
        .fetch_one(pool)
        .await
        .expect("it is open");
    is == Some(true)
}

async fn restarted(pool: &PgPool, one: Move) -> bool {
    let mut connection = pool.acquire().await.expect("the database answers");
    let id = one.id;
    steer::restart(&mut connection, &[one], "by hand")
        .await
        .expect("the database answers")
        == [id]
}

async fn reopened(pool: &PgPool, one: Move) -> bool {
    let mut connection = pool.acquire().await.expect("the database answers");
    let id = one.id;
    let moved = steer::reopen(&mut connection, &[one], "v2", "by hand").await;
    moved.expect("the database answers") == [id]
}

#[sqlx::test(migrations = "../migrations")]
async fn a_timer_is_made_due_once_and_counts_on(pool: PgPool) {
    for to in [To::WaitCall(HOUR), To::WaitInternal(HOUR)] {
        let id = at(&pool, to, UNRESOLVED, Vec::new()).await;
        assert!(steered!(pool, retry, id));
        assert!(
            is(
                &pool,
                id,
                "epoch = 2 and coalesce(call_due_at, internal_due_at) <= now()"
            )
            .await
        );
        let counters = work(&pool, id).await.unwrap().counters;
        assert_eq!((counters.failures, counters.spent_ms), (2, 700));
        assert!(work(&pool, id).await.unwrap().standing.unresolved);
        assert!(!steered!(pool, retry, id), "it is due");
    }
    for start in [Start::Owned(ME), Start::FirstCall] {
        let id = accept(&pool, start).await;
        assert!(!steered!(pool, retry, id), "{start:?}");
    }
    let parked = at(&pool, To::Park, RESOLVED, Vec::new()).await;
    assert!(!steered!(pool, retry, parked));
}

#[sqlx::test(migrations = "../migrations")]
async fn nothing_is_moved_that_somebody_else_moved_since_it_was_seen(pool: PgPool) {
    let id = at(&pool, To::WaitCall(HOUR), RESOLVED, Vec::new()).await;
    let before = seen(&pool, id).await;
    assert!(steered!(pool, retry, id));
    assert_eq!(claim::canary(&pool, FISCAL, ME, false).await.unwrap(), Some(id));
    let hold = held(id, 3);
    let mut connection = pool.acquire().await.unwrap();
    for one in [before.clone(), seen(&pool, id).await] {
        for moved in [
            steer::retry(&mut connection, std::slice::from_ref(&one), "").await,
            steer::cancel(&mut connection, std::slice::from_ref(&one), "").await,
            steer::release(&mut connection, std::slice::from_ref(&one), "").await,
            steer::restart(&mut connection, std::slice::from_ref(&one), "").await,
            steer::reopen(&mut connection, std::slice::from_ref(&one), "v2", "").await,
        ] {
            assert!(moved.unwrap().is_empty(), "it is in work");
        }
    }
    let mut parked = step(hold, To::Park);
    parked.from = 1;
    assert!(moves(&pool, parked).await, "its owner has it still");
    for moved in [
        steer::cancel(&mut connection, std::slice::from_ref(&before), "").await,
        steer::release(&mut connection, std::slice::from_ref(&before), "").await,
        steer::restart(&mut connection, std::slice::from_ref(&before), "").await,
    ] {
        assert!(moved.unwrap().is_empty(), "of another epoch");
    }
    assert!(steered!(pool, release, id));
}

#[sqlx::test(migrations = "../migrations")]
async fn what_nobody_has_is_cancelled_and_nothing_unresolved(pool: PgPool) {
    let waiting = accept(&pool, Start::Waiting).await;
    assert!(steered!(pool, cancel, waiting));
    assert_eq!(state(&pool, waiting).await, "cancelled");
    assert!(!steered!(pool, cancel, waiting), "twice");

    let message = queued(&pool).await;
    assert!(steered!(pool, cancel, message.id));
    assert_eq!(relay::depth(&pool, FISCAL).await.unwrap(), 0);
    assert!(
        claims(&pool, message.id, message.epoch, None).await.is_none(),
        "its message is stale"
    );

    let running = accept(&pool, Start::Owned(ME)).await;
    assert!(!steered!(pool, cancel, running), "in work");
    for standing in [UNRESOLVED, REGISTERED] {
        let id = at(&pool, To::Park, standing, Vec::new()).await;
        assert!(!steered!(pool, cancel, id), "{standing:?}");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn what_is_parked_is_released_and_nothing_else(pool: PgPool) {
    let id = accept(&pool, Start::Owned(ME)).await;
    assert!(!steered!(pool, release, id));
    assert!(moves(&pool, step(held(id, 1), To::Park)).await);
    assert!(steered!(pool, release, id));
    let mut walk = relay::Walk::default();
    let queued = relay::queue(&pool, FISCAL, bounds(10, 10), &mut walk).await.unwrap();
    assert_eq!(queued[0].id, id);
}

#[sqlx::test(migrations = "../migrations")]
async fn many_are_moved_together_and_each_by_its_own_guard(pool: PgPool) {
    let mut batch = Vec::new();
    for n in 0..20 {
        let to = if n % 4 == 0 { To::Park } else { To::WaitCall(HOUR) };
        let id = at(&pool, to, RESOLVED, Vec::new()).await;
        batch.push(seen(&pool, id).await);
    }
    batch[1].epoch -= 1;
    batch.reverse();
    let mut connection = pool.acquire().await.unwrap();
    assert_eq!(steer::retry(&mut connection, &batch, "").await.unwrap().len(), 14);
    assert_eq!(steer::cancel(&mut connection, &batch, "").await.unwrap().len(), 5);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_restart_leaves_no_way_to_register_twice(pool: PgPool) {
    let back = async |id, registers| Move {
        registers,
        superseded: vec!["register".to_owned(), "confirm".to_owned()],
        ..seen(&pool, id).await
    };
    for standing in [UNRESOLVED, REGISTERED] {
        let id = at(&pool, To::Park, standing, Vec::new()).await;
        assert!(!restarted(&pool, back(id, true).await).await, "{standing:?}");
        assert!(
            restarted(&pool, back(id, false).await).await,
            "nothing registers from there on"
        );
        let now = work(&pool, id).await.unwrap();
        assert_eq!((now.standing, now.counters.reissues), (standing, 1));
    }
    let id = at(&pool, To::WaitCall(HOUR), RESOLVED, vec![call("retry", None)]).await;
    let mut ahead = back(id, true).await;
    ahead.position = 2;
    assert!(!restarted(&pool, ahead).await, "it has not come as far");
    assert!(restarted(&pool, back(id, true).await).await);
    let now = work(&pool, id).await.unwrap();
    let counters = Counters {
        reissues: 1,
        ..Counters::default()
    };
    assert_eq!(
        (now.position, now.counters),
        (0, counters),
        "no call id was used to register"
    );
    assert!(
        is(
            &pool,
            id,
            "state = 'waiting' and internal_due_at <= now() and call_due_at is null"
        )
        .await
    );
    let results = read::results(&pool, id).await.unwrap();
    assert_eq!(
        results.len(),
        2,
        "what never came to a result has none that is superseded"
    );
    assert_eq!(results[1], ("register".to_owned(), "{}".to_owned()));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_call_id_that_was_used_to_register_is_not_used_again(pool: PgPool) {
    let message = queued(&pool).await;
    let hold = claims(&pool, message.id, message.epoch, Some(send())).await.unwrap();
    let mut refused = step(hold, To::WaitCall(HOUR));
    refused.position = 0;
    assert!(moves(&pool, refused).await);
    let again = Move {
        registers: true,
        ..seen(&pool, hold.id).await
    };
    assert!(restarted(&pool, again).await);
    assert_eq!(work(&pool, hold.id).await.unwrap().counters.reissues, 1);
    let again = Move {
        registers: true,
        ..seen(&pool, hold.id).await
    };
    assert!(restarted(&pool, again).await);
    assert_eq!(
        work(&pool, hold.id).await.unwrap().counters.reissues,
        1,
        "the new one was not used yet"
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn what_was_rejected_is_open_again_and_once(pool: PgPool) {
    let id = at(&pool, To::Rejected, RESOLVED, vec![call("reject", None)]).await;
    let mut back = seen(&pool, id).await;
    back.position = 2;
    let mut other = back.clone();
    other.epoch += 1;
    assert!(!reopened(&pool, other).await, "of another epoch");
    assert!(reopened(&pool, back.clone()).await);
    let now = work(&pool, id).await.unwrap();
    assert_eq!((now.pipeline.as_str(), now.position, now.hold.epoch), ("v2", 2, 2));
    assert_eq!(now.counters.reissues, 1, "other call ids than those that were refused");
    assert!(
        is(
            &pool,
            id,
            "state = 'waiting' and internal_due_at <= now() and destination = 'fiscal'"
        )
        .await
    );
    assert_eq!(state(&pool, id).await, "waiting");
    assert!(!reopened(&pool, back).await, "twice");
    assert_eq!(
        read::history(&pool, id).await.unwrap().len(),
        1,
        "what was called stays on record"
    );

    let registered = Call {
        registered: true,
        ..call("success", Some("{}"))
    };
    let late = at(&pool, To::Rejected, RESOLVED, vec![registered]).await;
    assert!(
        !reopened(&pool, seen(&pool, late).await).await,
        "an answer says that it is registered"
    );
    let good = at(&pool, To::Registered, REGISTERED, Vec::new()).await;
    assert!(!reopened(&pool, seen(&pool, good).await).await);
    let cancelled = accept(&pool, Start::Waiting).await;
    assert!(steered!(pool, cancel, cancelled));
    assert!(!reopened(&pool, seen(&pool, cancelled).await).await);
}

#[sqlx::test(migrations = "../migrations")]
async fn two_operators_reopen_it_once(pool: PgPool) {
    for _ in 0..10 {
        let id = at(&pool, To::Rejected, RESOLVED, Vec::new()).await;
        let back = seen(&pool, id).await;
        let (one, other) = tokio::join!(reopened(&pool, back.clone()), reopened(&pool, back));
        assert!(one ^ other);
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn answers_that_do_not_say_that_a_call_failed_are_found(pool: PgPool) {
    let answered = |outcome, status| Call {
        status,
        ..call(outcome, None)
    };
    for (calls, doubt) in [
        (vec![], false),
        (vec![answered("reject", Some(422))], false),
        (
            vec![
                answered("retry", None),
                answered("retry", Some(503)),
                answered("retry", Some(429)),
            ],
            false,
        ),
        (vec![answered("unknown", None), answered("absent", Some(404))], false),
        (vec![answered("retry", Some(404))], true),
        (vec![answered("park", Some(200))], true),
        (
            vec![answered("success", Some(200)), answered("reject", Some(422))],
            true,
        ),
    ] {
        let said = format!("{calls:?}");
        let id = at(&pool, To::Park, RESOLVED, calls).await;
        let of = |call_id: &str| vec![(id, call_id.to_owned())];
        let found = looked::doubtful(&pool, &of("c1")).await.unwrap();
        assert_eq!(found.contains(&id), doubt, "{said}");
        assert!(looked::doubtful(&pool, &of("another")).await.unwrap().is_empty());
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn an_answer_that_came_after_the_end_is_a_doubt(pool: PgPool) {
    let rejected = at(&pool, To::Rejected, RESOLVED, vec![call("reject", None)]).await;
    let ended = async || {
        looked::ended(&pool, &[rejected])
            .await
            .unwrap()
            .remove(&rejected)
            .unwrap()
    };
    let before = ended().await;
    assert_eq!(
        (before.state.as_str(), before.doubtful, before.stage.as_deref()),
        ("rejected", false, Some("validate"))
    );
    let mut late = step(held(rejected, 1), To::WaitCall(HOUR));
    late.calls = vec![call("unknown", None)];
    assert!(!moves(&pool, late).await, "its step is dropped, its call is on record");
    assert!(ended().await.doubtful);
}

#[sqlx::test(migrations = "../migrations")]
async fn what_is_seen_is_as_it_stands(pool: PgPool) {
    let timer = at(&pool, To::WaitCall(HOUR), UNRESOLVED, Vec::new()).await;
    let due = at(&pool, To::WaitInternal(Duration::ZERO), RESOLVED, Vec::new()).await;
    let turn = accept(&pool, Start::FirstCall).await;
    let refund = at(&pool, To::WaitOriginal(turn), RESOLVED, Vec::new()).await;
    let ended = at(&pool, To::Registered, REGISTERED, Vec::new()).await;
    let found = looked::open(&pool, &[timer, due, turn, refund, ended, Uuid::nil()])
        .await
        .unwrap();
    assert_eq!(found.len(), 4);
    assert_eq!(
        (found[&timer].due, found[&timer].unresolved, found[&timer].position),
        (Some(false), true, 1)
    );
    assert_eq!(found[&due].due, Some(true));
    assert_eq!((found[&turn].due, found[&turn].waits_for_original), (None, false));
    assert_eq!((found[&refund].due, found[&refund].waits_for_original), (None, true));
}
