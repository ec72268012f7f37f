//! Limit keys: each is handed off at its own pace, and its calls have slots of their own.

use shared::configuration::Limits;
use shared::store::limit_keys::{self, Take, TakeBatch, Taken};

use super::*;

/// Waits for its first call, with a key or without one.
async fn waits(pool: &PgPool, key: Option<&str>, deadline: Option<OffsetDateTime>) -> Uuid {
    let mut item = given(&Uuid::now_v7().to_string(), Start::Owned(ME));
    item.deadline = deadline;
    let id = item.id;
    committed::<AcceptBatch>(pool, &[item], false).await;
    let step = Step {
        limit_key: key.map(str::to_owned),
        ..step(held(id, 1), To::WaitFirstCall)
    };
    assert!(moves(pool, step).await);
    id
}

fn limits(text: &str) -> Limits {
    serde_json::from_str(&format!("{text:?}")).expect("limits")
}

async fn hands_off(pool: &PgPool, room: i64, limits: &Limits, walk: &mut relay::Walk) -> Vec<Uuid> {
    let bounds = relay::Bounds {
        keys: Some(limits),
        ..bounds(1_000, room)
    };
    let queued = relay::queue(pool, FISCAL, bounds, walk).await;
    queued.expect("the database answers").iter().map(|put| put.id).collect()
}

const SECOND: Duration = Duration::from_secs(1);
const NOTHING: [Uuid; 0] = [];

#[sqlx::test(migrations = "../migrations")]
async fn each_key_is_handed_off_at_its_own_pace(pool: PgPool) {
    let mut first = Vec::new();
    for _ in 0..5 {
        first.push(waits(&pool, Some("a"), None).await);
    }
    let second = waits(&pool, Some("b"), None).await;
    let none = [waits(&pool, Some(""), None).await, waits(&pool, Some(""), None).await];
    let mut walk = relay::Walk::default();
    let mut queued = hands_off(&pool, 100, &limits("1/s"), &mut walk).await;
    queued.sort_unstable();
    assert_eq!(
        queued,
        [first[0], second, none[0], none[1]],
        "who has no key waits for nobody"
    );
    let pause = walk.pause().unwrap();
    assert!(pause > Duration::ZERO && pause <= SECOND, "{pause:?}");
    assert_eq!(hands_off(&pool, 100, &limits("1/s"), &mut walk).await, NOTHING);
    let third = waits(&pool, Some("c"), None).await;
    assert_eq!(hands_off(&pool, 100, &limits("1/s"), &mut walk).await, [third]);
    sqlx::query("update limit_keys set handed_at = now()")
        .execute(&pool)
        .await
        .unwrap();
    assert_eq!(hands_off(&pool, 100, &limits("1/s"), &mut walk).await, [first[1]]);
    let mut rest = hands_off(&pool, 100, &limits(""), &mut walk).await;
    rest.sort_unstable();
    assert_eq!(rest, first[2..], "without limits keys only take turns");
    assert_eq!(hands_off(&pool, 100, &limits("1/s"), &mut walk).await, NOTHING);
}

#[sqlx::test(migrations = "../migrations")]
async fn where_room_is_short_keys_take_turns_and_deadlines_go_first(pool: PgPool) {
    let mut walk = relay::Walk::default();
    let at = |hours| Some(OffsetDateTime::now_utc() + time::Duration::hours(hours));
    for _ in 0..3 {
        waits(&pool, Some("a"), None).await;
    }
    let (b, c) = (
        waits(&pool, Some("b"), at(2)).await,
        waits(&pool, Some("c"), at(1)).await,
    );
    assert_eq!(hands_off(&pool, 2, &limits(""), &mut walk).await, [c, b]);
    let timer = accept(&pool, Start::Owned(ME)).await;
    let step = Step {
        limit_key: Some("a".to_owned()),
        ..step(held(timer, 1), To::WaitCall(Duration::ZERO))
    };
    assert!(moves(&pool, step).await);
    let queued = hands_off(&pool, 100, &limits(""), &mut walk).await;
    assert!(queued.len() == 4 && queued.contains(&timer), "{queued:?}");
}

fn take(number: u64, limits: &Limits) -> Take {
    Take {
        destination: FISCAL.to_owned(),
        key: "a".to_owned(),
        ahead: Duration::ZERO,
        missed: None,
        number,
        limits: limits.clone(),
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_keys_slots_are_given_out_once_and_nothing_is_handed_off_meanwhile(pool: PgPool) {
    let second = limits("1/s");
    let items = [take(0, &second), take(1, &second)];
    let taken = committed::<TakeBatch>(&pool, &items, false).await;
    let [Taken::Slot { slot, now, .. }, Taken::Later(wait)] = taken.as_slice() else {
        panic!("{taken:?}")
    };
    assert!(slot <= now, "the first is sent at once");
    assert!(*wait > Duration::from_millis(500) && *wait < 2 * SECOND, "{wait:?}");
    waits(&pool, Some("a"), None).await;
    let mut walk = relay::Walk::default();
    assert_eq!(hands_off(&pool, 9, &second, &mut walk).await, NOTHING);
    assert!(walk.pause().is_some(), "it is known when");
    let missed = Take {
        missed: Some(*slot),
        ..take(2, &second)
    };
    let taken = committed::<TakeBatch>(&pool, std::slice::from_ref(&missed), false).await;
    assert!(matches!(taken[0], Taken::Slot { .. }), "what was missed is there again");
    let long = Take {
        ahead: 2 * SECOND,
        ..take(3, &second)
    };
    let taken = committed::<TakeBatch>(&pool, &[long, missed], false).await;
    let [Taken::Slot { slot, now, .. }, Taken::Later(_)] = taken.as_slice() else {
        panic!("a later one was taken: {taken:?}")
    };
    assert!(slot > now, "who has time takes one ahead");
    let other = limits("50/s");
    let taken = committed::<TakeBatch>(&pool, &[take(4, &other)], false).await;
    assert!(!taken.is_empty(), "other limits hold at once");
    sqlx::query("update limit_keys set used_at = now() - interval '3 hours', handed_at = now() - interval '3 hours'")
        .execute(&pool)
        .await
        .unwrap();
    assert_eq!(limit_keys::forget(&pool).await.unwrap(), 1);
}

#[sqlx::test(migrations = "../migrations")]
async fn who_waits_without_a_key_where_there_are_keys_is_an_orchestrators(pool: PgPool) {
    let keyless = waits(&pool, None, None).await;
    let later = accept(&pool, Start::Owned(ME)).await;
    assert!(moves(&pool, step(held(later, 1), To::WaitCall(SECOND * 60))).await);
    let keyed = waits(&pool, Some(""), None).await;
    assert_eq!(limit_keys::find_keyless(&pool, FISCAL, 10).await.unwrap(), 1);
    assert_eq!(claimed(&pool, ME, 10).await, [keyless]);
    assert_eq!(
        key(&pool, keyed).await.as_deref(),
        Some(""),
        "it has none, and that is known"
    );
    let again = Step {
        from: 1,
        limit_key: Some("a".to_owned()),
        ..step(held(keyless, 3), To::WaitCall(Duration::ZERO))
    };
    assert!(moves(&pool, again).await);
    assert_eq!(key(&pool, keyless).await.as_deref(), Some("a"));
    // From then on it stays what it is, for as long as the receipt is bound there.
    for (destination, kept) in [(FISCAL, Some("a")), ("other", None)] {
        assert_eq!(limit_keys::find_keyless(&pool, FISCAL, 10).await.unwrap(), 0);
        sqlx::query("update work set state = 'dispatching', owner = $2, call_due_at = null where id = $1")
            .bind(keyless)
            .bind(ME)
            .execute(&pool)
            .await
            .unwrap();
        let on = Step {
            from: 1,
            destination: destination.to_owned(),
            ..step(held(keyless, 3), To::WaitCall(Duration::ZERO))
        };
        assert!(moves(&pool, on).await);
        assert_eq!(key(&pool, keyless).await.as_deref(), kept);
    }
}

async fn key(pool: &PgPool, id: Uuid) -> Option<String> {
    work(pool, id).await.expect("it is open").limit_key
}
