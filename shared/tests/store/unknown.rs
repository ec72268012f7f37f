//! Calls of unknown outcome: how long they have settled, what proves a look-up, what a person finds out.

use std::time::Duration;

use shared::store::operate::{self, Resolution, Resolved};
use shared::store::step::{Standing, Step, To};
use shared::store::{Hold, heal, record, relay};
use sqlx::PgPool;
use uuid::Uuid;

use super::{FISCAL, ME, accept, bounds, call, claims, held, moves, queued, send, state, step, work};
use shared::store::accept::Start;

async fn destination(pool: &PgPool) {
    sqlx::query("insert into destinations (name, declared) values ($1, '{}')")
        .bind(FISCAL)
        .execute(pool)
        .await
        .expect("the database answers");
}

/// As if so much time had passed for the receipt.
async fn passes(pool: &PgPool, id: Uuid, seconds: f64) {
    sqlx::query("update work set unknown_at = unknown_at - $2 * interval '1 s' where id = $1")
        .bind(id)
        .bind(seconds)
        .execute(pool)
        .await
        .expect("the database answers");
}

async fn settled(pool: &PgPool, id: Uuid) -> u64 {
    record::settled(pool, id).await.expect("the database answers").as_secs()
}

fn came_to(hold: Hold, absents: i32) -> Step {
    let mut unknown = step(hold, To::WaitCall(Duration::ZERO));
    unknown.position = 0;
    unknown.standing = Standing {
        unresolved: true,
        absents,
        ..Standing::default()
    };
    unknown
}

/// A receipt whose call was sent and not answered.
async fn unknown(pool: &PgPool) -> Uuid {
    let message = queued(pool).await;
    let hold = claims(pool, message.id, message.epoch, Some(send()))
        .await
        .expect("it is queued");
    assert!(moves(pool, came_to(hold, 0)).await);
    hold.id
}

/// Takes it for work, as a dispatcher does.
async fn taken(pool: &PgPool, id: Uuid) -> Hold {
    let sql = "update work set state = 'dispatching', owner = $2, epoch = epoch + 1, call_due_at = null where id = $1 returning epoch";
    let epoch: i32 = sqlx::query_scalar(sql)
        .bind(id)
        .bind(ME)
        .fetch_one(pool)
        .await
        .expect("the database answers");
    held(id, epoch)
}

#[sqlx::test(migrations = "../migrations")]
async fn an_unknown_call_settles_from_the_last_time_it_may_have_been_made(pool: PgPool) {
    destination(&pool).await;
    let id = unknown(&pool).await;
    passes(&pool, id, 60.0).await;
    assert_eq!(settled(&pool, id).await, 60);
    let hold = taken(&pool, id).await;
    assert!(moves(&pool, came_to(hold, 1)).await);
    assert_eq!(
        settled(&pool, id).await,
        0,
        "the API may have been away until it answered that"
    );
    passes(&pool, id, 60.0).await;
    let hold = taken(&pool, id).await;
    assert!(moves(&pool, came_to(hold, 2)).await);
    assert_eq!(settled(&pool, id).await, 60, "a later look-up changes nothing");
    assert_eq!(work(&pool, id).await.unwrap().standing.absents, 2);

    let hold = taken(&pool, id).await;
    assert!(moves(&pool, came_to(hold, 0)).await);
    assert_eq!(settled(&pool, id).await, 0, "it was made again");

    passes(&pool, id, 60.0).await;
    taken(&pool, id).await;
    assert_eq!(heal::take_over_calls(&pool, ME).await.unwrap(), 1);
    assert_eq!(settled(&pool, id).await, 0, "whoever died may have made it last");
    assert_eq!(work(&pool, id).await.unwrap().standing.absents, 0);
}

#[sqlx::test(migrations = "../migrations")]
async fn nothing_settles_while_the_destination_is_closed(pool: PgPool) {
    destination(&pool).await;
    let id = unknown(&pool).await;
    passes(&pool, id, 60.0).await;
    let change = async |change: &str| {
        sqlx::query(sqlx::AssertSqlSafe(format!("update destinations set {change}")))
            .execute(&pool)
            .await
            .unwrap();
    };
    change("closed_at = now(), closed_for = 'down', probe_at = now()").await;
    assert_eq!(settled(&pool, id).await, 0);
    change("closed_at = null, closed_for = null, probe_at = null, opened_at = now() - interval '7 s'").await;
    assert_eq!(settled(&pool, id).await, 7, "counted from its opening");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_look_up_is_tried_with_what_has_been_registered_for_long_enough(pool: PgPool) {
    let reference = async |stage, ago| record::reference(&pool, "v1", stage, ago).await.unwrap();
    let id = accept(&pool, Start::Owned(ME)).await;
    let mut registered = step(held(id, 1), To::Registered);
    registered.calls = vec![call("unknown", None), call("success", Some("{}"))];
    assert!(
        reference("register", Duration::ZERO).await.is_none(),
        "nothing is registered"
    );
    assert!(moves(&pool, registered).await);
    assert!(
        reference("register", Duration::from_mins(1)).await.is_none(),
        "too young"
    );
    assert!(
        reference("confirm", Duration::ZERO).await.is_none(),
        "not by that stage"
    );
    let found = reference("register", Duration::ZERO).await.unwrap();
    assert_eq!((found.id, found.call_id.as_str()), (id, "c1"));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_person_resolves_what_is_parked_and_as_it_was_seen(pool: PgPool) {
    destination(&pool).await;
    for resolution in [
        Resolution::Absent,
        Resolution::There {
            value: r#"{"uuid": "u"}"#,
            registered: false,
        },
    ] {
        let id = unknown(&pool).await;
        let resolve = async |epoch| {
            let resolved = Resolved {
                id,
                epoch,
                call: ("register", "send", "c1"),
                back: None,
                by: "somebody",
            };
            operate::resolve(&pool, resolved, resolution).await.unwrap()
        };
        let hold = taken(&pool, id).await;
        assert!(!resolve(hold.epoch).await, "it is in work");
        let mut parked = came_to(hold, 0);
        parked.to = To::Park;
        assert!(moves(&pool, parked).await);
        assert!(!resolve(hold.epoch - 1).await, "seen before");
        assert!(resolve(hold.epoch).await);
        assert!(!resolve(hold.epoch + 1).await, "it is resolved");
        assert_eq!(state(&pool, id).await, "waiting");
        let there = matches!(resolution, Resolution::There { .. });
        assert_eq!(work(&pool, id).await.unwrap().standing.unresolved, there);
        let value = record::read(&pool, id, "c1").await.unwrap().value;
        assert_eq!(value.is_some(), there, "{value:?}");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn one_destination_that_is_drained_is_handed_what_was_sent_there_alone(pool: PgPool) {
    let message = queued(&pool).await;
    let hold = claims(&pool, message.id, message.epoch, Some(send())).await;
    let sent = Standing {
        registered: true,
        sent: true,
        ..Standing::default()
    };
    let polled = Step {
        position: 0,
        standing: sent,
        ..step(hold.expect("it is queued"), To::WaitCall(Duration::ZERO))
    };
    assert!(moves(&pool, polled).await);
    let drained = relay::Bounds {
        only_sent: true,
        ..bounds(100, 100)
    };
    let put = relay::queue(&pool, FISCAL, drained, &mut relay::Walk::default()).await;
    let put = put.expect("the database answers");
    assert_eq!(put.len(), 1, "it was sent there");
    let hold = claims(&pool, put[0].id, put[0].epoch, None).await;
    let onward = Step {
        position: 1,
        destination: "orange".to_owned(),
        standing: sent,
        ..step(hold.expect("it is queued"), To::WaitCall(Duration::ZERO))
    };
    let onward = Step { from: 0, ..onward };
    assert!(moves(&pool, onward).await);
    let put = relay::queue(&pool, "orange", drained, &mut relay::Walk::default()).await;
    assert_eq!(put.expect("the database answers"), [], "registered, but not there");
}
