//! What is read of many receipts at once: summaries, failures in kinds, and the export of a day; by indexes alone.

use std::collections::BTreeSet;

use shared::store::export::{self, Line};
use shared::store::failures::{self, Failed};
use shared::store::read;
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use super::search::{fill, one_connection, plans, versions};
use super::*;

const MERCHANT: &str = "m-1";

/// The whole export of everything that is younger than two days, in windows of `examine`.
async fn exported(pool: &PgPool, examine: i64) -> Vec<Line> {
    let now = OffsetDateTime::now_utc();
    let mut rest = Some(export::stretch(
        now - time::Duration::days(2),
        now + time::Duration::days(1),
    ));
    let mut lines = Vec::new();
    while let Some(stretch) = rest {
        let (more, then) = export::window(pool, MERCHANT, stretch, examine)
            .await
            .expect("the database answers");
        lines.extend(more);
        rest = then;
    }
    lines
}

#[sqlx::test(migrations = "../migrations")]
async fn an_export_has_each_of_a_merchants_receipts_once_and_nobody_elses(pool: PgPool) {
    let versions = versions(&pool).await;
    fill(&pool, &versions.current().version, 2000).await;
    let result = "insert into calls (id, receipt, stage, request, attempt, call_id, started_at, duration_ms, outcome, registers, registered, result)
                  select gen_random_uuid(), id, 'register', 'send', 1, 'c', now(), 1, 'success', true, true, '{\"send\": {\"uuid\": \"u\"}}' from finished";
    sqlx::query(result).execute(&pool).await.expect("inserted");
    let sql = "select external_id from receipt_keys where merchant = 'm-1'";
    let expected: BTreeSet<String> = sqlx::query_scalar(sql)
        .fetch_all(&pool)
        .await
        .expect("keys")
        .into_iter()
        .collect();
    for examine in [7, 500, 10_000] {
        let lines = exported(&pool, examine).await;
        let names: BTreeSet<String> = lines.iter().map(|line| line.external_id.clone()).collect();
        assert_eq!((&names, lines.len()), (&expected, expected.len()), "by {examine}");
        for line in &lines {
            let has_results = line.results.iter().any(|(stage, _)| stage == "register");
            assert_eq!(has_results, line.state == "registered", "{line:?}");
        }
    }
    let nobodys = export::stretch(OffsetDateTime::UNIX_EPOCH, OffsetDateTime::UNIX_EPOCH);
    let (none, rest) = export::window(&pool, MERCHANT, nobodys, 10)
        .await
        .expect("the database answers");
    assert!(none.is_empty() && rest.is_none());
}

#[sqlx::test(migrations = "../migrations")]
async fn failures_are_counted_in_kinds_up_to_a_bound(pool: PgPool) {
    let versions = versions(&pool).await;
    fill(&pool, &versions.current().version, 2000).await;
    for sql in [
        "update work set reason = 'fiscal answered 503' where failures > 0 or state = 'parked'",
        "update finished set reason = 'why' where state = 'rejected'",
    ] {
        sqlx::query(sql).execute(&pool).await.expect("updated");
    }
    let counted = async |destination: Option<&str>, most: i64| {
        let samples = failures::sample(&pool, destination, most)
            .await
            .expect("the database answers");
        let of = |failed: Failed| {
            let kinds = samples
                .iter()
                .filter(|sample| sample.failed == failed)
                .flat_map(|sample| &sample.kinds);
            kinds.map(|kind| kind.count).sum::<i64>()
        };
        let more = samples.iter().any(|sample| sample.more);
        ([of(Failed::Parked), of(Failed::Retried), of(Failed::Rejected)], more)
    };
    let truth = async |destination: &str| {
        let sql = format!(
            "select count(*) filter (where state = 'parked'), count(*) filter (where failures > 0) from work where {destination}"
        );
        sqlx::query_as::<_, (i64, i64)>(AssertSqlSafe(sql))
            .fetch_one(&pool)
            .await
            .expect("counted")
    };
    let (parked, retried) = truth("true").await;
    assert_eq!(counted(None, 10_000).await, ([parked, retried, 200], false));
    let (parked, retried) = truth("destination = 'other'").await;
    assert_eq!(counted(Some("other"), 10_000).await, ([parked, retried, 200], false));
    let (bounded, more) = counted(None, 20).await;
    assert!(more && bounded.iter().all(|count| *count <= 20), "{bounded:?}");

    let samples = failures::sample(&pool, None, 10_000)
        .await
        .expect("the database answers");
    for kind in samples.iter().flat_map(|sample| &sample.kinds) {
        assert!(kind.reason.is_some() && kind.oldest <= kind.latest, "{kind:?}");
        assert!(
            read::receipt(&pool, kind.example)
                .await
                .expect("the database answers")
                .is_some()
        );
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn several_are_read_in_the_order_they_were_asked_for(pool: PgPool) {
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(accept(&pool, Start::Owned(ME)).await);
    }
    assert!(moves(&pool, step(held(ids[1], 1), To::Registered)).await);
    ids.reverse();
    ids.push(Uuid::nil());
    let read = read::several(&pool, &ids).await.expect("the database answers");
    let found: Vec<(Uuid, &str)> = read.iter().map(|view| (view.id, view.state.as_str())).collect();
    assert_eq!(
        found,
        [(ids[0], "running"), (ids[1], "registered"), (ids[2], "running")]
    );
}

#[sqlx::test(migrations = "../migrations")]
async fn indexes_alone_are_read_whenever_the_plan_was_made(_: PgPoolOptions, connect: PgConnectOptions) {
    let pool = one_connection(connect).await;
    let versions = versions(&pool).await;
    let read_all = async || {
        for destination in [None, Some(FISCAL)] {
            failures::sample(&pool, destination, 1000)
                .await
                .expect("the database answers");
        }
        for line in exported(&pool, 5000).await.into_iter().take(1) {
            read::several(&pool, &[line.id]).await.expect("the database answers");
            read::receipt(&pool, line.id).await.expect("the database answers");
            read::results(&pool, line.id).await.expect("the database answers");
            read::history(&pool, line.id).await.expect("the database answers");
            read::turn(&pool, FISCAL, "k").await.expect("the database answers");
        }
    };
    read_all().await;
    let plans_of_nothing = plans(&pool).await;
    fill(&pool, &versions.current().version, 20_000).await;
    for table in ["work", "finished", "receipts", "receipt_keys"] {
        let done = sqlx::query(AssertSqlSafe(format!("vacuum analyze {table}")))
            .execute(&pool)
            .await;
        done.expect("done");
    }
    sqlx::query("discard plans").execute(&pool).await.expect("done");
    read_all().await;
    let plans = plans(&pool).await;
    assert!(plans.len() >= 10, "{plans:#?}");
    for (statement, plan) in plans_of_nothing.iter().chain(&plans) {
        assert!(!plan.contains("Seq Scan"), "{statement}\n{plan}");
    }
}
