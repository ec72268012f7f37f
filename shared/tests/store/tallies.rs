//! Kept counts: whatever moves a receipt, they say what a count of the rows would.

use std::time::Duration;

use shared::store::accept::Start;
use shared::store::backlog;
use shared::store::step::{Standing, To};
use shared::store::tallies::{self, Kind, Tally};
use shared::store::{heal, relay};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, PgPool};

use super::{FISCAL, ME, accept, bounds, claimed, claims, held, moves, queued, send, steered, step};

/// What is tallied, which is what there is.
async fn tallied(pool: &PgPool) -> Vec<(Kind, i16, bool, i64)> {
    let kept = tallies::read(pool, None).await.expect("the database answers");
    let counted: Vec<(String, String, i16, String, bool, i64)> = sqlx::query_as(
        "select destination, pipeline, position, kind, unresolved, count(*)
         from (select *, tallied(state, call_due_at, first_call_key, waits_for) as kind from work) w
         where kind is not null group by 1, 2, 3, 4, 5 order by 1, 2, 3, 4, 5",
    )
    .fetch_all(pool)
    .await
    .expect("the database answers");
    let row = |tally: &Tally| {
        let Tally {
            destination,
            pipeline,
            position,
            kind,
            unresolved,
            count,
        } = tally.clone();
        (
            destination,
            pipeline,
            position,
            kind.name().to_owned(),
            unresolved,
            count,
        )
    };
    assert_eq!(kept.iter().map(row).collect::<Vec<_>>(), counted);
    let short = |tally: Tally| (tally.kind, tally.position, tally.unresolved, tally.count);
    kept.into_iter().map(short).collect()
}

#[sqlx::test(migrations = "../migrations")]
async fn whatever_moves_a_receipt_is_tallied(pool: PgPool) {
    assert_eq!(tallied(&pool).await, []);
    accept(&pool, Start::Owned(ME)).await;
    assert_eq!(tallied(&pool).await, [], "who is owned does not wait");
    for _ in 0..3 {
        accept(&pool, Start::Waiting).await;
    }
    accept(&pool, Start::FirstCall).await;
    assert_eq!(
        tallied(&pool).await,
        [(Kind::Internal, 0, false, 3), (Kind::Turn, 0, false, 1)]
    );
    let ids = claimed(&pool, ME, 2).await;
    assert_eq!(
        tallied(&pool).await,
        [(Kind::Internal, 0, false, 1), (Kind::Turn, 0, false, 1)]
    );
    assert!(moves(&pool, step(held(ids[0], 2), To::WaitCall(Duration::ZERO))).await);
    assert!(moves(&pool, step(held(ids[1], 2), To::Park)).await);
    let put = relay::queue(&pool, FISCAL, bounds(100, 100), &mut relay::Walk::default()).await;
    assert_eq!(put.expect("the database answers").len(), 2);
    assert_eq!(
        tallied(&pool).await,
        [(Kind::Internal, 0, false, 1), (Kind::Parked, 1, false, 1)]
    );
    assert!(steered!(pool, release, ids[1]));
    assert_eq!(
        tallied(&pool).await,
        [(Kind::Internal, 0, false, 1), (Kind::Timer, 1, false, 1)]
    );
    assert!(steered!(pool, cancel, ids[1]));
    assert_eq!(tallied(&pool).await, [(Kind::Internal, 0, false, 1)]);
}

#[sqlx::test(migrations = "../migrations")]
async fn what_was_sent_is_tallied_apart_while_its_outcome_is_unknown(pool: PgPool) {
    let put = queued(&pool).await;
    let hold = claims(&pool, put.id, put.epoch, Some(send()))
        .await
        .expect("it is claimed");
    assert_eq!(tallied(&pool).await, []);
    let mut unknown = step(hold, To::WaitCall(Duration::from_mins(1)));
    unknown.standing = Standing {
        unresolved: true,
        ..Standing::default()
    };
    assert!(moves(&pool, unknown).await);
    assert_eq!(tallied(&pool).await, [(Kind::Timer, 1, true, 1)]);
    let original = accept(&pool, Start::Owned(ME)).await;
    let refund = accept(&pool, Start::Owned(ME)).await;
    assert!(moves(&pool, step(held(refund, 1), To::WaitOriginal(original))).await);
    assert_eq!(tallied(&pool).await.len(), 2);
    assert!(moves(&pool, step(held(original, 1), To::Rejected)).await);
    assert_eq!(
        tallied(&pool).await,
        [(Kind::Parked, 1, false, 1), (Kind::Timer, 1, true, 1)]
    );
    accept(&pool, Start::Owned(ME)).await;
    heal::take_over_internal(&pool, ME, None)
        .await
        .expect("the database answers");
    assert_eq!(tallied(&pool).await.len(), 3);
}

#[sqlx::test(migrations = "../migrations")]
async fn many_tallies_are_folded_to_the_same_counts(pool: PgPool) {
    for _ in 0..3 {
        accept(&pool, Start::FirstCall).await;
    }
    let before = tallied(&pool).await;
    assert_eq!(
        tallies::fold(&pool).await.expect("the database answers"),
        0,
        "few are left as they are"
    );
    let many =
        "insert into tallies select 'old', 'v' || n, 1, 'timer', false, shard, case shard when 1 then 2 else -2 end
                from generate_series(1, 300) n, generate_series(1, 2) shard";
    sqlx::query(many).execute(&pool).await.expect("the database answers");
    assert!(tallies::fold(&pool).await.expect("the database answers") >= 600);
    assert_eq!(tallied(&pool).await, before);
    tallies::fold(&pool).await.expect("the database answers");
    let rows: i64 = sqlx::query_scalar("select count(*) from tallies")
        .fetch_one(&pool)
        .await
        .expect("counted");
    assert_eq!(
        rows, 301,
        "few again only when they are many: the next fold forgets what is none"
    );
    accept(&pool, Start::FirstCall).await;
    assert_eq!(tallied(&pool).await, [(Kind::Turn, 0, false, 4)]);
}

#[sqlx::test(migrations = "../migrations")]
async fn what_waits_longest_is_found(pool: PgPool) {
    let looked = async || {
        let looked = backlog::read(&pool, &[FISCAL.to_owned()]).await;
        looked.expect("the database answers").pop().expect("one")
    };
    assert_eq!(looked().await, backlog::Waiting::default());
    let id = accept(&pool, Start::Owned(ME)).await;
    assert!(moves(&pool, step(held(id, 1), To::WaitCall(Duration::ZERO))).await);
    accept(&pool, Start::FirstCall).await;
    accept(&pool, Start::Waiting).await;
    let aged = "update work set call_due_at = call_due_at - interval '1 hour', internal_due_at = internal_due_at - interval '2 hours',
                                moved_at = moved_at - interval '3 hours'";
    sqlx::query(aged).execute(&pool).await.expect("the database answers");
    let found = looked().await;
    let hours: Vec<(Kind, u64)> = found
        .oldest
        .iter()
        .map(|(kind, age)| (*kind, age.as_secs() / 3600))
        .collect();
    assert_eq!(hours, [(Kind::Timer, 1), (Kind::Turn, 3), (Kind::Internal, 2)]);
    assert_eq!((found.due, found.queued), (1, 0));
}

#[sqlx::test(migrations = "../migrations")]
async fn what_waits_longest_is_found_by_indexes(_: PgPoolOptions, connect: PgConnectOptions) {
    // As `store::connect` has it, and one connection: what it prepared can be explained.
    let connect = connect.options([("plan_cache_mode", "force_generic_plan"), ("enable_seqscan", "off")]);
    let pool = PgPoolOptions::new().max_connections(1).connect_with(connect).await;
    let pool = pool.expect("a connection");
    backlog::read(&pool, &[FISCAL.to_owned()])
        .await
        .expect("the database answers");
    for (part, parameters, indexes) in [
        (
            "turn_ms",
            "'{fiscal}', 10000, 100",
            vec!["work_call_due", "work_call_due", "work_first_call", "work_first_call"],
        ),
        ("age_ms", "100", vec!["work_internal_due", "work_waits_for"]),
    ] {
        let named = format!(
            "select name from pg_prepared_statements where statement like '%{part}%' and statement not like '%prepared%'"
        );
        let name: String = sqlx::query_scalar(AssertSqlSafe(named))
            .fetch_one(&pool)
            .await
            .expect("it is kept");
        let explain = format!("explain (costs off) execute {name} ({parameters})");
        let lines: Vec<String> = sqlx::query_scalar(AssertSqlSafe(explain))
            .fetch_all(&pool)
            .await
            .expect("a plan");
        let looks = lines.iter().filter(|line| line.contains(" on work"));
        let mut found: Vec<&str> = looks
            .map(|line| {
                line.split(" using ")
                    .nth(1)
                    .and_then(|rest| rest.split(' ').next())
                    .unwrap_or(line)
            })
            .collect();
        found.sort_unstable();
        assert_eq!(found, indexes, "{lines:#?}");
        let sorts = lines.iter().filter(|line| line.contains("Sort")).count();
        assert!(sorts <= 1, "only the names are sorted: {lines:#?}");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn what_is_there_when_tallies_come_is_counted(pool: PgPool) {
    for sql in [
        "drop table tallies",
        "drop function tally cascade",
        "drop function tallied",
    ] {
        sqlx::query(sql).execute(&pool).await.expect("it goes");
    }
    accept(&pool, Start::Waiting).await;
    accept(&pool, Start::FirstCall).await;
    let parked = accept(&pool, Start::Owned(ME)).await;
    assert!(moves(&pool, step(held(parked, 1), To::Park)).await);
    let migration = include_str!("../../../migrations/20261125000006_tallies.sql");
    sqlx::raw_sql(migration).execute(&pool).await.expect("it is migrated");
    let before = [
        (Kind::Internal, 0, false, 1),
        (Kind::Turn, 0, false, 1),
        (Kind::Parked, 1, false, 1),
    ];
    let mut found = tallied(&pool).await;
    found.sort_by_key(|(kind, ..)| *kind);
    assert_eq!(found, before);
    assert!(steered!(pool, cancel, parked));
    assert_eq!(tallied(&pool).await.len(), 2, "what goes from what was there");
}
