//! Where relays go on, and who came to stand before that.

use std::time::{Duration, Instant};

use shared::store::accept::{AcceptBatch, Start};
use shared::store::claim;
use shared::store::relay::{self, Put, Walk};
use shared::store::step::{StepBatch, Stepped, To};
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use time::OffsetDateTime;
use uuid::Uuid;

use super::search::one_connection;
use super::{FISCAL, ME, accept, bounds, committed, given, held, moves, state, step};

/// So long no walk looks beside its picks: a look passes what no pick does.
const NO_LOOK: Duration = Duration::from_secs(1);

/// What a pick finds with room for `limit`, by a relay that has just started.
async fn picked(pool: &PgPool, limit: i64) -> Vec<Uuid> {
    picked_on(pool, limit, &mut Walk::default()).await
}

async fn picked_on(pool: &PgPool, limit: i64, walk: &mut Walk) -> Vec<Uuid> {
    let put = relay::queue(pool, FISCAL, bounds(10_000, limit), walk).await;
    put.expect("the database answers")
        .into_iter()
        .map(|Put { id, .. }| id)
        .collect()
}

async fn timer(pool: &PgPool) -> Uuid {
    let id = accept(pool, Start::Owned(ME)).await;
    assert!(moves(pool, step(held(id, 1), To::WaitCall(Duration::ZERO))).await);
    id
}

async fn with_deadline(pool: &PgPool, deadline: Duration) -> Uuid {
    let mut urgent = given(&Uuid::now_v7().to_string(), Start::FirstCall);
    urgent.deadline = Some(OffsetDateTime::now_utc() + deadline);
    committed::<AcceptBatch>(pool, std::slice::from_ref(&urgent), false).await;
    urgent.id
}

async fn set_back(pool: &PgPool, only_sent: bool) -> bool {
    relay::set_back(pool, FISCAL, only_sent)
        .await
        .expect("the database answers")
}

/// Entries that were read so far of the indexes by which is picked.
async fn entries_read(pool: &PgPool) -> i64 {
    let sql = "select pg_stat_force_next_flush()";
    sqlx::query(sql).execute(pool).await.expect("done");
    let sql = "select sum(idx_tup_read)::bigint from pg_stat_user_indexes
               where indexrelname in ('work_call_due', 'work_first_call', 'work_internal_due')";
    sqlx::query_scalar(sql).fetch_one(pool).await.expect("counted")
}

#[sqlx::test(migrations = "../migrations")]
async fn no_pick_passes_what_was_picked_before_whichever_relay_made_it(_: PgPoolOptions, connect: PgConnectOptions) {
    let pool = one_connection(connect).await;
    for _ in 0..60 {
        timer(&pool).await;
        accept(&pool, Start::FirstCall).await;
    }
    let begun = Instant::now();
    let mut walks = [Walk::default(), Walk::default()];
    // With the first look of each.
    for walk in &mut walks {
        assert_eq!(picked_on(&pool, 20, walk).await.len(), 20);
    }
    for n in 0..4 {
        let before = entries_read(&pool).await;
        assert_eq!(picked_on(&pool, 20, &mut walks[n % 2]).await.len(), 20);
        let passed = entries_read(&pool).await - before;
        // Both kinds also meet the last one that was picked, and it is looked whether there are first calls.
        let is_looked = begun.elapsed() >= NO_LOOK;
        assert!(is_looked || (20..=24).contains(&passed), "{passed} entries in pick {n}");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn no_claim_passes_what_was_claimed_before(_: PgPoolOptions, connect: PgConnectOptions) {
    let pool = one_connection(connect).await;
    for _ in 0..120 {
        accept(&pool, Start::Waiting).await;
    }
    let begun = Instant::now();
    let mut walk = claim::Walk::default();
    for n in 0..5 {
        let before = entries_read(&pool).await;
        assert_eq!(claim::internal(&pool, ME, 20, &mut walk).await.expect("done").len(), 20);
        assert!(claim::due(&pool, &walk).await.expect("done").internal);
        let passed = entries_read(&pool).await - before;
        // The first is looked for before, and a look afterwards meets the last and the next.
        let is_looked = begun.elapsed() >= NO_LOOK;
        assert!(
            is_looked || (20..=24).contains(&passed),
            "{passed} entries in claim {n}"
        );
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn who_came_to_stand_before_is_found_by_a_look_and_picked_first(pool: PgPool) {
    let mut walk = Walk::default();
    let (sent, first, next) = (
        timer(&pool).await,
        accept(&pool, Start::FirstCall).await,
        accept(&pool, Start::FirstCall).await,
    );
    assert_eq!(picked_on(&pool, 2, &mut walk).await, [sent, first]);
    assert!(!set_back(&pool, false).await, "nobody did");
    let (later, sooner) = (
        with_deadline(&pool, Duration::from_hours(2)).await,
        with_deadline(&pool, Duration::from_hours(1)).await,
    );
    let earlier = timer(&pool).await;
    sqlx::query("update work set call_due_at = now() - interval '1 hour' where id = $1")
        .bind(earlier)
        .execute(&pool)
        .await
        .expect("done");
    assert!(!set_back(&pool, true).await, "nobody who was sent");
    assert!(set_back(&pool, false).await);
    assert_eq!(picked_on(&pool, 9, &mut walk).await, [earlier, sooner, later, next]);
    assert!(!set_back(&pool, false).await, "each of them");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_walk_looks_for_who_came_to_stand_before_and_comes_to_its_end(pool: PgPool) {
    accept(&pool, Start::FirstCall).await;
    let mut walk = Walk::default();
    assert_eq!(picked_on(&pool, 9, &mut walk).await.len(), 1);
    let urgent = with_deadline(&pool, Duration::from_hours(1)).await;
    let mut picked = Vec::new();
    while picked.is_empty() {
        picked = picked_on(&pool, 9, &mut walk).await;
    }
    assert_eq!(picked, [urgent]);
    while walk.pause().is_some() {
        assert!(picked_on(&pool, 9, &mut walk).await.is_empty());
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn who_came_to_stand_before_is_passed_once(_: PgPoolOptions, connect: PgConnectOptions) {
    let pool = one_connection(connect).await;
    let mut walk = Walk::default();
    for _ in 0..5 {
        for _ in 0..20 {
            timer(&pool).await;
            accept(&pool, Start::FirstCall).await;
        }
        assert_eq!(picked_on(&pool, 99, &mut walk).await.len(), 40);
    }
    let urgent = with_deadline(&pool, Duration::from_hours(1)).await;
    assert!(set_back(&pool, false).await);
    assert_eq!(picked_on(&pool, 99, &mut walk).await, [urgent]);
    let last = [timer(&pool).await, accept(&pool, Start::FirstCall).await];
    let before = entries_read(&pool).await;
    assert_eq!(picked_on(&pool, 2, &mut walk).await, last);
    let passed = entries_read(&pool).await - before;
    assert!(passed <= 6, "{passed} entries");
}

#[sqlx::test(migrations = "../migrations")]
async fn they_go_on_where_they_had_come_to_if_who_came_before_is_gone(pool: PgPool) {
    for _ in 0..2 {
        accept(&pool, Start::FirstCall).await;
    }
    assert_eq!(picked(&pool, 9).await.len(), 2);
    let urgent = with_deadline(&pool, Duration::from_hours(1)).await;
    assert!(set_back(&pool, false).await);
    assert_eq!(
        claim::canary(&pool, FISCAL, ME, false).await.expect("done"),
        Some(urgent)
    );
    assert!(picked(&pool, 9).await.is_empty());
    let from =
        "select firsts_from = firsts_to and firsts_from_id = firsts_to_id and firsts_from = 'infinity' from horizons";
    assert!(
        sqlx::query_scalar::<_, bool>(from)
            .fetch_one(&pool)
            .await
            .expect("one row")
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn of_two_looks_at_once_the_one_that_found_further_back_holds(pool: PgPool) {
    accept(&pool, Start::FirstCall).await;
    assert_eq!(picked(&pool, 9).await.len(), 1);
    let found = with_deadline(&pool, Duration::from_hours(2)).await;
    // The first look has found him, and waits for the row.
    let mut locked = pool.begin().await.expect("the database answers");
    let sql = "select from horizons for update";
    sqlx::query(sql).execute(&mut *locked).await.expect("locked");
    let look = tokio::spawn({
        let pool = pool.clone();
        async move { set_back(&pool, false).await }
    });
    let waits =
        "select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')";
    while !sqlx::query_scalar::<_, bool>(waits)
        .fetch_one(&pool)
        .await
        .expect("answered")
    {
        tokio::task::yield_now().await;
    }
    // The second, which has found somebody before him, was quicker.
    let further = with_deadline(&pool, Duration::from_hours(1)).await;
    let sql =
        "update horizons set firsts_from = work.first_call_key, firsts_from_id = work.id from work where work.id = $1";
    sqlx::query(sql)
        .bind(further)
        .execute(&mut *locked)
        .await
        .expect("done");
    locked.commit().await.expect("done");
    assert!(look.await.expect("no panic"));
    assert_eq!(
        relay::queue(&pool, FISCAL, bounds(9, 9), &mut Walk::default())
            .await
            .expect("done")
            .len(),
        2
    );
    assert_eq!(state(&pool, found).await, "queued");
}

#[sqlx::test(migrations = "../migrations")]
async fn an_owner_leaves_room_for_who_waits_before_once_a_look_has_found_him(pool: PgPool) {
    accept(&pool, Start::FirstCall).await;
    assert_eq!(picked(&pool, 9).await.len(), 1);
    let urgent = with_deadline(&pool, Duration::from_hours(1)).await;
    let owners = async |room| {
        let id = accept(&pool, Start::Owned(ME)).await;
        committed::<StepBatch>(&pool, &[step(held(id, 1), To::Queue(room))], false).await
    };
    assert_eq!(owners(2).await, [Stepped::Queued], "beside the one that is queued");
    assert!(set_back(&pool, false).await);
    assert_eq!(
        owners(3).await,
        [Stepped::Moved],
        "it waits, for the third place is not its"
    );
    assert_eq!(picked(&pool, 1).await, [urgent]);
}

#[sqlx::test(migrations = "../migrations")]
async fn the_fresh_have_their_share_until_relays_have_come_to_them(pool: PgPool) {
    let accepted = async |ago: u64, n: u64| {
        let mut item = given(&Uuid::now_v7().to_string(), Start::FirstCall);
        let now = u64::try_from(OffsetDateTime::now_utc().unix_timestamp()).expect("after 1970");
        let at = uuid::Timestamp::from_unix(uuid::NoContext, now - ago, u32::try_from(n).expect("few") * 1_000_000);
        item.id = Uuid::new_v7(at);
        committed::<AcceptBatch>(&pool, std::slice::from_ref(&item), false).await;
        item.id
    };
    let (mut old, mut new) = (Vec::new(), Vec::new());
    for n in 0..28 {
        old.push(accepted(3600, n).await);
    }
    for n in 0..32 {
        new.push(accepted(1, n).await);
    }
    let bounds = relay::Bounds {
        fresh_since: Some(OffsetDateTime::now_utc() - Duration::from_hours(2)),
        ..bounds(10_000, 20)
    };
    let mut walk = Walk::default();
    let mut pick = async || {
        let put = relay::queue(&pool, FISCAL, bounds, &mut walk)
            .await
            .expect("the database answers");
        put.into_iter().map(|put| put.id).collect::<Vec<_>>()
    };
    let newest = |n: usize| new[32 - n..38 - n].iter().rev().copied().collect::<Vec<_>>();
    assert_eq!(
        pick().await,
        [&old[..14], &newest(6)].concat(),
        "three tenths of the room"
    );
    assert_eq!(
        pick().await,
        [&old[14..], &newest(12)].concat(),
        "also of what was not accepted before"
    );
    assert_eq!(pick().await, new[..20], "they have come to them");
    assert!(pick().await.is_empty());
}

#[sqlx::test(migrations = "../migrations")]
async fn no_place_is_taken_as_soon_as_it_is_free(pool: PgPool) {
    for _ in 0..9 {
        accept(&pool, Start::FirstCall).await;
    }
    let mut walk = Walk::default();
    let waits = |walk: &Walk| walk.pause().is_some_and(|pause| !pause.is_zero()) && !walk.may_look();
    for (most, found) in [(8, 8), (8, 0), (9, 1)] {
        let put = relay::queue(&pool, FISCAL, bounds(most, 99), &mut walk).await;
        assert_eq!(put.expect("the database answers").len(), found);
        assert!(waits(&walk), "it left no room");
    }
    assert!(picked_on(&pool, 1, &mut walk).await.is_empty());
    accept(&pool, Start::FirstCall).await;
    assert_eq!(picked_on(&pool, 1, &mut walk).await.len(), 1);
    assert!(!waits(&walk), "there is more room than was picked");
}

#[sqlx::test(migrations = "../migrations")]
async fn of_little_room_everybody_has_a_share_in_time(pool: PgPool) {
    for _ in 0..60 {
        timer(&pool).await;
    }
    let first = accept(&pool, Start::FirstCall).await;
    let mut picked = Vec::new();
    while !picked.contains(&first) {
        assert!(picked.len() < 60, "not before the last timer");
        picked.extend(picked_on(&pool, 1, &mut Walk::default()).await);
    }
}
