//! Picking, updating and committing 500 due receipts out of ten million that wait.

use std::time::{Duration, Instant};

use anyhow::ensure;
use end_to_end::Stack;
use shared::store::claim;
use shared::store::relay::{self, Bounds, Walk};
use sqlx::PgPool;
use uuid::Uuid;

/// Receipts picked at once.
const PICKED: i64 = 500;
/// How often they are picked for one figure.
const TIMES: usize = 60;

/// Fills the tables with `waiting` receipts, a tenth of them due timers and a hundredth due internal work, and picks `handled`.
pub async fn run(stack: &mut Stack, waiting: u64, handled: u64) -> anyhow::Result<()> {
    let limit = Duration::from_secs(30);
    for member in stack.orchestrators.iter_mut().chain(&mut stack.dispatchers) {
        ensure!(member.process.terminate(limit).await?.success(), "a process failed");
    }
    let begun = Instant::now();
    fill(stack, waiting)?;
    println!(
        "{waiting} receipts wait; made in {:.0} s",
        begun.elapsed().as_secs_f64()
    );

    let pool = shared::store::connect(&stack.database.url(), 4, "bench")?;
    let mut walk = Walk::default();
    measure("a relay, 500 due timers and first calls", TIMES, async || {
        queue(&pool, &mut walk).await
    })
    .await?;
    measure("an orchestrator, 500 due for internal stages", TIMES, async || {
        claim(&pool).await
    })
    .await?;
    let begun = Instant::now();
    let mut done = 0;
    while done < handled {
        done += queue(&pool, &mut walk).await?;
    }
    println!("{done} were handled in {:.0} s", begun.elapsed().as_secs_f64());
    measure("after them: a relay", TIMES, async || queue(&pool, &mut walk).await).await?;
    measure("after them: an orchestrator", TIMES, async || claim(&pool).await).await?;
    plan(stack, &pool).await
}

async fn queue(pool: &PgPool, walk: &mut Walk) -> anyhow::Result<u64> {
    let bounds = Bounds {
        max_queued: i64::MAX / 2,
        limit: PICKED,
        only_sent: false,
        fresh_since: None,
        keys: None,
    };
    Ok(u64::try_from(relay::queue(pool, "fiscal", bounds, walk).await?.len())?)
}

async fn claim(pool: &PgPool) -> anyhow::Result<u64> {
    Ok(u64::try_from(
        claim::internal(pool, Uuid::from_u128(1), PICKED).await?.len(),
    )?)
}

async fn measure(what: &str, times: usize, mut pick: impl AsyncFnMut() -> anyhow::Result<u64>) -> anyhow::Result<()> {
    let mut took = Vec::with_capacity(times);
    for _ in 0..times {
        let begun = Instant::now();
        let picked = pick().await?;
        took.push(begun.elapsed().as_secs_f64() * 1000.0);
        ensure!(picked == PICKED.unsigned_abs(), "{what}: {picked} were picked");
    }
    took.sort_by(f64::total_cmp);
    println!(
        "{what}: median {:.1} ms, most {:.1} ms of {times}",
        took[times / 2],
        took[times - 1]
    );
    Ok(())
}

/// Ids are spread over a day, as they come, and what is due is scattered among them.
fn fill(stack: &Stack, waiting: u64) -> anyhow::Result<()> {
    stack.database.sql(&format!(
        "create temporary table numbers as
         select n, overlay(uuid_from(now() - interval '1 hour' + n * interval '1 hour' / {waiting})::text placing substr(md5(n::text)::uuid::text, 15) from 15 for 22)::uuid as id
         from generate_series(1, {waiting}) n;
         insert into receipts (id, merchant, external_id, pipeline, content, traceparent)
         select id, 'm-1', 'e-' || n, 'bench', '{{}}', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00' from numbers;
         insert into work (id, pipeline, state, position, destination, epoch, call_due_at, internal_due_at, first_call_key)
         select id, 'bench', 'waiting', 3, 'fiscal', 1,
                case when n % 100 <> 0 and n % 10 not in (1, 3, 5, 7) then now() + case when n % 10 = 2 then -1 else 1 end * (hashint8(n) % 100000 + 100000) * interval '1 s' end,
                case when n % 100 = 0 then now() - (hashint8(n) % 1000 + 1000) * interval '1 s' end,
                case when n % 10 in (1, 3, 5, 7) then 'infinity'::timestamptz end
         from numbers"
    ))?;
    stack.database.sql("vacuum analyze work")?;
    stack.database.sql("vacuum analyze receipts").map(drop)
}

/// The plan of the relay's statement, as PostgreSQL itself logs it.
async fn plan(stack: &Stack, pool: &PgPool) -> anyhow::Result<()> {
    let name = stack.database.sql("select current_database()")?;
    for setting in [
        "session_preload_libraries = 'auto_explain'",
        "\"auto_explain.log_min_duration\" = 0",
        "\"auto_explain.log_analyze\" = on",
        "\"auto_explain.log_buffers\" = on",
    ] {
        stack.database.sql(&format!("alter database {name} set {setting}"))?;
    }
    pool.close().await;
    let fresh = shared::store::connect(&stack.database.url(), 1, "bench")?;
    queue(&fresh, &mut Walk::default()).await?;
    let log = format!("{}/log/postgres.log", std::env::var("CHEKHOV_DATA")?);
    let text = std::fs::read_to_string(log)?;
    let statement = text.rfind("with timers as materialized").unwrap_or_default();
    let plan: Vec<&str> = text[statement..]
        .lines()
        .take_while(|line| !line.contains("LOG:"))
        .collect();
    println!("the relay's plan:\n{}", plan.join("\n"));
    Ok(())
}
