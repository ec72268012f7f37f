//! Destinations' rows: one state for all, changed by guarded statements.

use shared::configuration::Limits;
use shared::destination::{Change, Destination, Mode, Settings, State};
use shared::store::claim;
use shared::store::destinations::{self, Leased, Probed};

use super::*;

fn settings(limits: &str) -> Settings {
    serde_json::from_value(serde_json::json!({
        "limits": limits, "concurrency": 8, "max_queued": 100, "slow_start": "30s"
    }))
    .expect("settings")
}

async fn declared(pool: &PgPool) -> Destination {
    destinations::declare(pool, FISCAL, &settings("50/s"))
        .await
        .expect("the database answers");
    known(pool).await
}

async fn known(pool: &PgPool) -> Destination {
    destinations::read(pool)
        .await
        .expect("the database answers")
        .pop()
        .expect("it is declared")
}

fn change(json: &str) -> Change {
    serde_json::from_str(json).expect("a change")
}

const SECOND: Duration = Duration::from_secs(1);

#[sqlx::test(migrations = "../migrations")]
async fn what_an_operator_changed_outlives_another_configuration(pool: PgPool) {
    let first = declared(&pool).await;
    assert_eq!(first.state(), State::Open);
    let twenty = change(r#"{"limits": ["20/s"]}"#);
    assert!(
        destinations::change(&pool, FISCAL, &twenty, Some(Mode::Paused), None, "why")
            .await
            .unwrap()
    );
    assert!(
        !destinations::change(&pool, "other", &twenty, None, None, "why")
            .await
            .unwrap()
    );
    destinations::declare(&pool, FISCAL, &settings("80/s")).await.unwrap();
    let changed = known(&pool).await;
    assert_eq!((changed.state(), changed.version), (State::Paused, first.version + 2));
    assert_eq!(changed.settings.limits, settings("20/s").limits);
    assert_eq!(changed.reason().as_deref(), Some("fiscal is paused: why"));
    let back = change(r#"{"limits": null}"#);
    assert!(
        destinations::change(&pool, FISCAL, &back, None, None, "why")
            .await
            .unwrap()
    );
    let back = known(&pool).await;
    assert_eq!(
        (back.state(), back.settings.limits),
        (State::Paused, settings("80/s").limits)
    );
    destinations::declare(&pool, FISCAL, &settings("80/s")).await.unwrap();
    assert_eq!(known(&pool).await.version, back.version, "nothing changed");
}

#[sqlx::test(migrations = "../migrations")]
async fn one_canary_at_a_time_opens_what_is_closed_or_closes_it_for_longer(pool: PgPool) {
    declared(&pool).await;
    let lease = Duration::from_mins(1);
    assert!(
        !destinations::take_canary(&pool, FISCAL, ME, lease).await.unwrap(),
        "it is open"
    );
    assert!(
        destinations::close(&pool, FISCAL, Duration::ZERO, 0, "answered 503")
            .await
            .unwrap()
    );
    assert!(
        !destinations::close(&pool, FISCAL, Duration::ZERO, 0, "again")
            .await
            .unwrap(),
        "it is closed already"
    );
    assert_eq!(
        known(&pool).await.reason().as_deref(),
        Some("fiscal is closed: answered 503")
    );
    assert!(destinations::take_canary(&pool, FISCAL, ME, lease).await.unwrap());
    assert!(
        !destinations::take_canary(&pool, FISCAL, OTHER, lease).await.unwrap(),
        "somebody has it"
    );
    assert!(
        !destinations::probed(&pool, FISCAL, OTHER, &Probed::Alive)
            .await
            .unwrap(),
        "nor may end it"
    );

    let failed = Probed::Failed {
        pause: Duration::ZERO,
        reason: "hangs".to_owned(),
    };
    assert!(destinations::probed(&pool, FISCAL, ME, &failed).await.unwrap());
    let closed = known(&pool).await;
    assert_eq!((closed.state(), closed.probes), (State::Closed, 1));
    assert!(
        destinations::take_canary(&pool, FISCAL, OTHER, Duration::ZERO)
            .await
            .unwrap()
    );
    assert!(
        destinations::take_canary(&pool, FISCAL, ME, lease).await.unwrap(),
        "the other's lease has ended"
    );
    assert!(
        !destinations::probed(&pool, FISCAL, OTHER, &Probed::Alive)
            .await
            .unwrap(),
        "too late"
    );
    assert!(destinations::probed(&pool, FISCAL, ME, &Probed::Alive).await.unwrap());
    let open = known(&pool).await;
    assert_eq!(open.state(), State::Open);
    assert!(open.speed() < 0.2, "it begins slowly");
    assert_eq!(open.probes, 1, "whether it is well is seen only later");
    for (probes, stays) in [(2, 2), (0, 2)] {
        destinations::close(&pool, FISCAL, SECOND, probes, "again")
            .await
            .unwrap();
        assert_eq!(known(&pool).await.probes, stays, "whoever closes it says so");
    }
    let by_hand = Change::default();
    destinations::change(&pool, FISCAL, &by_hand, Some(Mode::Open), None, "why")
        .await
        .unwrap();
    assert_eq!(known(&pool).await.probes, 0);
}

#[sqlx::test(migrations = "../migrations")]
async fn whoever_waits_longest_decides_and_a_paused_destination_is_not_probed(pool: PgPool) {
    declared(&pool).await;
    assert!(
        destinations::close(&pool, FISCAL, 100 * SECOND, 0, "429")
            .await
            .unwrap()
    );
    assert!(!destinations::close(&pool, FISCAL, SECOND, 0, "503").await.unwrap());
    assert!(
        !destinations::take_canary(&pool, FISCAL, ME, SECOND).await.unwrap(),
        "not yet"
    );
    let nothing = Change::default();
    let now = Some(OffsetDateTime::now_utc() - SECOND);
    assert!(
        destinations::change(&pool, FISCAL, &nothing, None, now, "try now")
            .await
            .unwrap()
    );
    assert!(
        destinations::change(&pool, FISCAL, &nothing, Some(Mode::Paused), None, "why")
            .await
            .unwrap()
    );
    assert!(
        !destinations::take_canary(&pool, FISCAL, ME, SECOND).await.unwrap(),
        "paused"
    );
    assert!(
        destinations::change(&pool, FISCAL, &nothing, Some(Mode::Open), None, "why")
            .await
            .unwrap()
    );
    assert_eq!(known(&pool).await.state(), State::Open, "opened by hand it is open");
}

#[sqlx::test(migrations = "../migrations")]
async fn no_slot_is_given_to_two(pool: PgPool) {
    let fiscal = declared(&pool).await;
    let leases = (0..8).map(|_| async {
        let mut connection = pool.acquire().await.unwrap();
        let mut slots = Vec::new();
        while slots.len() < 10 {
            match destinations::lease(&mut connection, &fiscal, 5).await.unwrap() {
                Leased::Slots { slots: given, .. } => slots.extend(given),
                Leased::Later(pause) => tokio::time::sleep(pause).await,
                Leased::Changed => panic!("nobody changed it"),
            }
        }
        slots
    });
    let mut slots: Vec<i64> = futures_util::future::join_all(leases).await.concat();
    slots.sort_unstable();
    assert!(slots.windows(2).all(|pair| pair[1] - pair[0] >= 20_833), "{slots:?}");

    destinations::declare(
        &pool,
        FISCAL,
        &Settings {
            limits: Limits::default(),
            ..settings("")
        },
    )
    .await
    .unwrap();
    let mut connection = pool.acquire().await.unwrap();
    let leased = destinations::lease(&mut connection, &fiscal, 5).await.unwrap();
    assert!(matches!(leased, Leased::Changed), "{leased:?}");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_relay_sees_what_is_due_for_whom_and_nothing_behind_a_closed_one(pool: PgPool) {
    declared(&pool).await;
    let due = async || destinations::look(&pool).await.unwrap()[0].1;
    let nothing = Change::default();
    assert!(!due().await);
    accept(&pool, Start::FirstCall).await;
    assert!(due().await);
    assert!(
        destinations::change(&pool, FISCAL, &nothing, Some(Mode::Draining), None, "why")
            .await
            .unwrap()
    );
    assert!(!due().await, "nothing was sent");
    let mut walk = relay::Walk::default();
    assert!(
        relay::queue(
            &pool,
            FISCAL,
            relay::Bounds {
                only_sent: true,
                ..bounds(9, 9)
            },
            &mut walk
        )
        .await
        .unwrap()
        .is_empty()
    );
    let sent = accept(&pool, Start::Owned(ME)).await;
    let mut step = step(held(sent, 1), To::WaitCall(Duration::ZERO));
    (step.standing.unresolved, step.standing.sent) = (true, true);
    assert!(moves(&pool, step).await);
    assert!(due().await);
    assert!(
        destinations::close(&pool, FISCAL, Duration::ZERO, 0, "503")
            .await
            .unwrap()
    );
    assert!(!due().await);
    assert!(
        destinations::change(&pool, FISCAL, &nothing, Some(Mode::Draining), None, "why")
            .await
            .unwrap()
    );
    assert_eq!(known(&pool).await.state(), State::Closed, "draining opens nothing");
    let mut walk = relay::Walk::default();
    assert_eq!(
        relay::queue(
            &pool,
            FISCAL,
            relay::Bounds {
                only_sent: true,
                ..bounds(9, 9)
            },
            &mut walk
        )
        .await
        .unwrap()[0]
            .id,
        sent
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn a_canary_is_what_is_due_then_what_is_new_then_what_is_due_later_then_what_is_queued(pool: PgPool) {
    declared(&pool).await;
    let canary = async |only_sent| claim::canary(&pool, FISCAL, ME, only_sent).await.unwrap();
    assert_eq!(canary(false).await, None);
    let queued = queued(&pool).await.id;
    let new = accept(&pool, Start::FirstCall).await;
    let (sent, later) = (
        accept(&pool, Start::Owned(ME)).await,
        accept(&pool, Start::Owned(ME)).await,
    );
    assert!(moves(&pool, step(held(sent, 1), To::WaitCall(Duration::ZERO))).await);
    assert!(moves(&pool, step(held(later, 1), To::WaitCall(Duration::from_mins(1)))).await);
    assert_eq!(canary(true).await, None, "nothing is unresolved");
    let probes = async |probes: i32| {
        let sql = "update destinations set probes = $1";
        sqlx::query(sql).bind(probes).execute(&pool).await.unwrap();
    };
    probes(1).await;
    assert_eq!(canary(false).await, Some(new), "in turns");
    probes(2).await;
    let new = accept(&pool, Start::FirstCall).await;
    assert_eq!(canary(false).await, Some(sent));
    assert_eq!(canary(false).await, Some(new));
    assert_eq!(canary(false).await, Some(later));
    assert_eq!(relay::depth(&pool, FISCAL).await.unwrap(), 1);
    assert_eq!(canary(false).await, Some(queued));
    assert_eq!(relay::depth(&pool, FISCAL).await.unwrap(), 0);
    assert_eq!(state(&pool, queued).await, "dispatching");
    assert_eq!(claims(&pool, queued, 2, None).await, None, "its message is stale");
    assert_eq!(canary(false).await, None);
}

#[sqlx::test(migrations = "../migrations")]
async fn what_is_handed_back_waits_and_its_message_is_stale(pool: PgPool) {
    let put = queued(&pool).await;
    let handed = [(put.id, put.epoch), (Uuid::now_v7(), 1)];
    assert_eq!(claim::hand_back(&pool, ME, &handed, "why").await.unwrap(), 1);
    assert_eq!(claim::hand_back(&pool, ME, &handed, "why").await.unwrap(), 0);
    assert_eq!(relay::depth(&pool, FISCAL).await.unwrap(), 0);
    assert_eq!(claims(&pool, put.id, put.epoch, None).await, None);
    assert_eq!(state(&pool, put.id).await, "waiting");
    let mut walk = relay::Walk::default();
    assert_eq!(
        relay::queue(&pool, FISCAL, bounds(9, 9), &mut walk).await.unwrap()[0].id,
        put.id
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn neither_timers_nor_age_starve_what_is_fresh(pool: PgPool) {
    let since = OffsetDateTime::now_utc() + SECOND;
    let first_call = async |after: Duration| {
        let mut item = given(&Uuid::now_v7().to_string(), Start::FirstCall);
        let hour_ago = u64::try_from(since.unix_timestamp()).expect("after 1970") - 3600;
        item.id = Uuid::new_v7(uuid::Timestamp::from_unix(
            uuid::NoContext,
            hour_ago + after.as_secs(),
            0,
        ));
        committed::<AcceptBatch>(&pool, std::slice::from_ref(&item), false).await;
        item.id
    };
    let mut sent = Vec::new();
    for n in 0..30 {
        let id = accept(&pool, Start::Owned(ME)).await;
        assert!(moves(&pool, step(held(id, 1), To::WaitCall(Duration::ZERO))).await);
        sent.push(id);
        first_call(n * SECOND).await;
    }
    let mut fresh = Vec::new();
    for n in 1..=20 {
        fresh.push(first_call(Duration::from_hours(1) + n * SECOND).await);
    }
    let bounds = relay::Bounds {
        fresh_since: Some(since),
        ..bounds(99, 20)
    };
    let queued = relay::queue(&pool, FISCAL, bounds, &mut relay::Walk::default())
        .await
        .unwrap();
    let among = |ids: &[Uuid]| queued.iter().filter(|put| ids.contains(&put.id)).count();
    assert_eq!((among(&sent), among(&fresh), queued.len()), (10, 6, 20));
    let newest: Vec<Uuid> = queued[14..].iter().map(|put| put.id).collect();
    assert!(fresh[14..].iter().all(|id| newest.contains(id)), "the newest of them");
}
