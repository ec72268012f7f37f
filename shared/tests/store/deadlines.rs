//! Deadlines at risk: counted by an index alone, which costs internal checkpoints nothing.

use shared::destination::{Destination, Settings};
use shared::store::deadlines::{self, Deadlines};
use shared::store::destinations;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection};

use super::*;

async fn declared(pool: &PgPool, name: &str, at_risk: &str) -> Destination {
    let settings: Settings = serde_json::from_value(serde_json::json!({
        "limits": "50/s", "concurrency": 8, "max_queued": 100, "slow_start": "30s", "at_risk": at_risk
    }))
    .expect("settings");
    destinations::declare(pool, name, &settings)
        .await
        .expect("the database answers");
    let known = destinations::read(pool).await.expect("the database answers");
    known
        .into_iter()
        .find(|known| known.name == name)
        .expect("it is declared")
}

async fn within(pool: &PgPool, hours: i64, start: Start) -> Uuid {
    let mut item = given(&Uuid::now_v7().to_string(), start);
    item.deadline = Some(whole_second() + time::Duration::hours(hours));
    let id = item.id;
    committed::<AcceptBatch>(pool, &[item], false).await;
    id
}

/// As exact as the database keeps it.
fn whole_second() -> OffsetDateTime {
    OffsetDateTime::now_utc()
        .replace_nanosecond(0)
        .expect("no nanosecond is one")
}

/// Rows that only wait, with deadlines `from` seconds from now on, one a second.
async fn many(pool: &PgPool, count: i32, from: i32) {
    let sql = "insert into work (id, pipeline, state, position, destination, epoch, deadline, first_call_key)
               select gen_random_uuid(), 'v1', 'waiting', 0, 'fiscal', 1, at, at
               from generate_series(1, $1) n, lateral (select now() + ($2 + n) * interval '1 s' as at) t";
    let inserted = sqlx::query(sql).bind(count).bind(from).execute(pool).await;
    inserted.expect("the database answers");
}

#[sqlx::test(migrations = "../migrations")]
async fn what_is_open_counts_where_it_is_bound_for_up_to_a_bound(pool: PgPool) {
    let (fiscal, other) = (
        declared(&pool, FISCAL, "2h").await,
        declared(&pool, "other", "1000000h").await,
    );
    let counted = async || deadlines::count(&pool, &[&other, &fiscal]).await.expect("counted");
    accept(&pool, Start::Waiting).await;
    assert_eq!(counted().await, [Deadlines::default(), Deadlines::default()]);
    within(&pool, 1, Start::Waiting).await;
    within(&pool, 3, Start::FirstCall).await;
    let parked = within(&pool, -1, Start::Owned(ME)).await;
    let registered = within(&pool, 1, Start::Owned(ME)).await;
    assert!(moves(&pool, step(held(parked, 1), To::Park)).await);
    assert!(moves(&pool, step(held(registered, 1), To::Registered)).await);
    let now = whole_second();
    let [there, here]: [Deadlines; 2] = counted().await.try_into().expect("two");
    assert_eq!(there, Deadlines::default());
    assert_eq!((here.at_risk, here.passed), (1, 1));
    let ahead = here.nearest.expect("there is one") - now;
    assert!(
        (-1..=1).contains(&(ahead - time::Duration::HOUR).whole_seconds()),
        "{ahead}"
    );

    many(&pool, 10_100, 60).await;
    many(&pool, 10_100, -20_000).await;
    let here = counted().await[1];
    assert!((7_141..7_300).contains(&here.at_risk), "{here:?}");
    assert_eq!(here.passed, 10_000);
}

#[sqlx::test(migrations = "../migrations")]
async fn an_index_alone_is_read(_: PgPoolOptions, connect: PgConnectOptions) {
    // As `store::connect` has it, and one connection: what it prepared can be explained.
    let connect = connect.options([("plan_cache_mode", "force_generic_plan"), ("enable_seqscan", "off")]);
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .connect_with(connect)
        .await
        .expect("a connection");
    let fiscal = declared(&pool, FISCAL, "15m").await;
    let plan = async || {
        deadlines::count(&pool, &[&fiscal]).await.expect("counted");
        let sql =
            "select name from pg_prepared_statements where statement like '%at_risk.count%' order by name limit 1";
        let name: String = sqlx::query_scalar(sql).fetch_one(&pool).await.expect("it is kept");
        let explain = format!("explain (costs off) execute {name} ('{{fiscal}}', '{{900000}}', 10000)");
        let lines: Vec<String> = sqlx::query_scalar(AssertSqlSafe(explain))
            .fetch_all(&pool)
            .await
            .expect("a plan");
        lines.join("\n")
    };
    let plan_of_nothing = plan().await;
    many(&pool, 20_000, 0).await;
    for sql in ["vacuum analyze work", "discard plans"] {
        sqlx::query(sql).execute(&pool).await.expect("done");
    }
    for plan in [plan_of_nothing, plan().await] {
        let looks = plan.matches("Scan").count() - plan.matches("Function Scan").count();
        let index_only = plan.matches("Index Only Scan using work_deadline on work").count();
        assert_eq!((looks, index_only), (3, 3), "{plan}");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn checkpoints_of_what_has_a_deadline_are_hot(pool: PgPool) {
    let id = within(&pool, 1, Start::Owned(ME)).await;
    let mut connection = pool.acquire().await.expect("a connection");
    let mut transaction = connection.begin().await.expect("a transaction");
    for from in 0..5 {
        let mut success = step(held(id, 1), To::Own);
        (success.from, success.position) = (from, from + 1);
        let stepped = StepBatch::commit(&mut transaction, &[success], false).await;
        assert_eq!(stepped.expect("the database answers"), [Stepped::Moved]);
    }
    let sql = "select n_tup_upd, n_tup_hot_upd from pg_stat_xact_user_tables where relname = 'work'";
    let (updated, hot): (i64, i64) = sqlx::query_as(sql).fetch_one(&mut *transaction).await.expect("counted");
    assert_eq!((updated, hot), (5, 5), "no index was written");
}
