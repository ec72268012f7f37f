//! The plans of every statement that reading takes, as PostgreSQL keeps them.

use std::path::Path;

use anyhow::ensure;
use serde_json::{Value, json};
use shared::pipeline::{Pipeline, Source};
use shared::stage::Versions;
use shared::store::search::{self, Bounds, Filter, Order};
use shared::store::{self, failures, read};
use sqlx::{AssertSqlSafe, PgPool, Row};

/// Reads in every way over one connection, and then the plan of each statement that was prepared for it: an error if one scans
/// a table, or sorts more than what it answers.
pub async fn read(url: &str, pipeline: &Path) -> anyhow::Result<Vec<String>> {
    let pool = store::connect(url, 1, "search")?;
    let versions = Versions::start(pool.clone(), Pipeline::compile(Source::read(pipeline)?)?).await?;
    for given in filters() {
        let filter: Filter = serde_json::from_value(given)?;
        for order in [Order::Nearest, Order::ById] {
            let mut after = None;
            // Several windows: a walk may have several sources.
            for _ in 0..20 {
                let bounds = Bounds {
                    examine: 1000,
                    most: 200,
                };
                let window = search::window(&pool, &versions, &filter, order, after.take(), bounds).await?;
                read::several(&pool, &window.ids).await?;
                if let Some(id) = window.ids.first() {
                    whole(&pool, *id).await?;
                }
                after = window.next;
                if after.is_none() {
                    break;
                }
            }
        }
    }
    for destination in [None, Some("fiscal")] {
        failures::sample(&pool, destination, 10_000).await?;
    }
    explained(&pool).await
}

async fn whole(pool: &PgPool, id: uuid::Uuid) -> anyhow::Result<()> {
    read::receipt(pool, id).await?;
    read::results(pool, id).await?;
    read::history(pool, id).await?;
    read::turn(pool, "fiscal", "").await?;
    Ok(())
}

/// One of each source.
fn filters() -> Vec<Value> {
    vec![
        json!({}),
        json!({"merchant": "m-7"}),
        json!({"merchant": "m-7", "external_id": "search-7"}),
        json!({"state": "parked"}),
        json!({"state": "parked", "destination": "other"}),
        json!({"state": "waiting", "destination": "other"}),
        json!({"state": "waiting", "stage": "register"}),
        json!({"deadline_before": "2999-01-01T00:00:00Z"}),
        json!({"state": "rejected"}),
        json!({"state": "registered"}),
    ]
}

async fn explained(pool: &PgPool) -> anyhow::Result<Vec<String>> {
    let sql = "select name, statement, cardinality(parameter_types) as parameters from pg_prepared_statements
               where statement ~ '(work|finished|receipts|receipt_keys|calls)' and statement !~ 'pg_prepared_statements'";
    let mut plans = Vec::new();
    for row in sqlx::query(sql).fetch_all(pool).await? {
        let (name, statement, parameters): (String, String, i32) = (row.get(0), row.get(1), row.get(2));
        let nulls = vec!["null"; usize::try_from(parameters)?].join(", ");
        let arguments = if nulls.is_empty() { nulls } else { format!("({nulls})") };
        let explain = format!("explain (costs off) execute {name}{arguments}");
        let lines: Vec<String> = sqlx::query_scalar(AssertSqlSafe(explain)).fetch_all(pool).await?;
        let plan = lines.join("\n");
        ensure!(!plan.contains("Seq Scan"), "a table is scanned:\n{statement}\n{plan}");
        plans.push(plan);
    }
    ensure!(plans.len() >= 20, "{} plans alone were found", plans.len());
    Ok(plans)
}
