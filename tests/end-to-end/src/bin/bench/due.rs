//! Picking, updating and committing 500 due receipts out of ten million that wait, and the looks for what came to stand before.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use end_to_end::Stack;
use shared::store::claim;
use shared::store::relay::{self, Bounds, Walk};
use sqlx::PgPool;
use tokio::sync::Mutex;
use uuid::Uuid;

/// Receipts picked at once.
const PICKED: i64 = 500;
/// How often they are picked for one figure.
const TIMES: u32 = 40;
/// What a pick should take at most, in milliseconds.
const WITHIN: f64 = 20.0;
/// Of a pool: for the picks, and for the looks beside them. Each picks before it counts.
const CONNECTIONS: u32 = 2;
/// The receipts of one measurement: of two figures, and those that do not count.
const MEASURED: u64 = 44_000;
/// The receipts of ten minutes, the longest back-off, at 500 a second.
const BACK_OFF: u64 = 300_000;

/// The destination whose timers are due in the order in which a back-off left them.
const IN_ORDER: &str = "backed-off";
/// The destination whose due timers are spread over all that wait: no two of a pick are on one page.
const SCATTERED: &str = "fiscal";

/// Fills the tables with `waiting` receipts, more than a million of them due, picks, and picks again after `handled` more.
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

    let url = stack.database.url();
    let pool = shared::store::connect(&url, CONNECTIONS, "bench")?;
    let apart = if url.contains('?') { '&' } else { '?' };
    let unsynced = shared::store::connect(
        &format!("{url}{apart}options=-c%20synchronous_commit%3Doff"),
        CONNECTIONS,
        "bench",
    )?;
    let pools = [("on the disk,", &pool), ("without waiting for it,", &unsynced)];
    // A relay's commit waits for no disk in any case.
    let relays = [("at first,", &pool), ("then,", &pool)];
    let [in_order, scattered] = [IN_ORDER, SCATTERED].map(|destination| (destination, Mutex::new(Walk::default())));
    let queue = async |pool: &PgPool, (destination, walk): &(&str, Mutex<Walk>)| {
        queue(pool, destination, &mut *walk.lock().await).await
    };
    for when in ["", "after them, "] {
        let of = |what: &str| format!("{when}{what}");
        measure(
            &of("a relay, due as back-off leaves them"),
            stack,
            relays,
            async |pool| queue(pool, &in_order).await,
        )
        .await?;
        measure(&of("a relay, scattered"), stack, relays, async |pool| {
            queue(pool, &scattered).await
        })
        .await?;
        for destination in [IN_ORDER, SCATTERED] {
            look(&of(destination), async || {
                let found = relay::set_back(&pool, destination, false).await?;
                ensure!(!found, "{destination}: nobody came before");
                Ok(())
            })
            .await?;
        }
        // In this order they are due.
        let walk = Mutex::new(claim::Walk::default());
        look(&of("internal work"), async || {
            ensure!(
                claim::due(&pool, &claim::Walk::default()).await?.internal,
                "nothing is due"
            );
            Ok(())
        })
        .await?;
        let claim = async |pool: &PgPool| claim(pool, &mut *walk.lock().await).await;
        measure(&of("an orchestrator, due as back-off leaves them"), stack, pools, claim).await?;
        measure(&of("an orchestrator, scattered"), stack, pools, claim).await?;
        measure(&of("a table with nothing else, scattered"), stack, pools, plain).await?;
        if when.is_empty() {
            let begun = Instant::now();
            let mut done = 0;
            while done < handled {
                done += queue(&pool, &scattered).await?;
            }
            println!("{done} were handled in {:.0} s", begun.elapsed().as_secs_f64());
        }
    }
    plans(stack, &pool).await
}

async fn queue(pool: &PgPool, destination: &str, walk: &mut Walk) -> anyhow::Result<u64> {
    let bounds = Bounds {
        max_queued: i64::MAX / 2,
        limit: PICKED,
        only_sent: false,
        fresh_since: None,
        keys: None,
    };
    Ok(u64::try_from(
        relay::queue(pool, destination, bounds, walk).await?.len(),
    )?)
}

async fn claim(pool: &PgPool, walk: &mut claim::Walk) -> anyhow::Result<u64> {
    Ok(u64::try_from(
        claim::internal(pool, Uuid::from_u128(1), PICKED, walk).await?.len(),
    )?)
}

/// The least that a pick can be: found by one index, marked, and found by it no more.
async fn plain(pool: &PgPool) -> anyhow::Result<u64> {
    let picked = sqlx::query(
        "with due as materialized (
             select ctid as place from plain where due_at <= now() order by due_at limit $1 for update skip locked
         )
         update plain set epoch = epoch + 1, due_at = null from due where plain.ctid = due.place returning id",
    );
    Ok(u64::try_from(picked.bind(PICKED).fetch_all(pool).await?.len())?)
}

/// Picks so often by each of the pools, whose connections know the statement, from a checkpoint on: a page is written ahead whole
/// when it is changed for the first time after one. Not in turns, or each commit that waits for the disk would also wait for what the one before it has left.
async fn measure(
    what: &str,
    stack: &Stack,
    pools: [(&str, &PgPool); 2],
    pick: impl AsyncFn(&PgPool) -> anyhow::Result<u64>,
) -> anyhow::Result<()> {
    for (_, pool) in pools {
        drop([pool.acquire().await?, pool.acquire().await?]);
        for _ in 0..2 * CONNECTIONS {
            pick(pool).await?;
        }
    }
    stack.database.sql("checkpoint")?;
    let before = written(pools[0].1).await?;
    let mut figures = Vec::new();
    for (how, pool) in pools {
        let mut took = Vec::new();
        for _ in 0..TIMES {
            let begun = Instant::now();
            let picked = pick(pool).await?;
            took.push(begun.elapsed().as_secs_f64() * 1000.0);
            ensure!(picked == PICKED.unsigned_abs(), "{what}: {picked} were picked");
        }
        took.sort_by(f64::total_cmp);
        let most = took.last().copied().unwrap_or_default();
        let within = took.iter().filter(|took| **took <= WITHIN).count();
        figures.push(format!(
            "{how} median {:.1} ms, most {most:.1} ms, {within} of {TIMES} within {WITHIN} ms",
            took[took.len() / 2]
        ));
    }
    let megabytes = (written(pools[0].1).await? - before) / 1e6 / f64::from(2 * TIMES);
    println!(
        "{what}: {}; {megabytes:.1} MB written ahead each time",
        figures.join("; ")
    );
    Ok(())
}

/// Looks once and again: what is met for the first time costs most.
async fn look(what: &str, look: impl AsyncFn() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut took = Vec::new();
    for _ in 0..3 {
        let begun = Instant::now();
        look().await?;
        took.push(format!("{:.1} ms", begun.elapsed().as_secs_f64() * 1000.0));
    }
    println!("a look before where they go on, {what}: {}", took.join(", then "));
    Ok(())
}

/// Bytes that were written ahead so far.
async fn written(pool: &PgPool) -> anyhow::Result<f64> {
    let bytes = sqlx::query_scalar("select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8");
    Ok(bytes.fetch_one(pool).await?)
}

/// A tenth are due timers of one destination, scattered, two fifths its first calls; the last twentieth are another's, three tenths
/// first calls, the others due as a back-off leaves them: later than they failed by anything up to `BACK_OFF` receipts. What
/// orchestrators take is due in the order in which it is measured: `MEASURED` as a back-off leaves them, as many scattered, and
/// both once more; 7919 has no divisor in common with `BACK_OFF`, so its multiples meet each place once, in no order. The rest
/// waits. Beside them a table with nothing but what a pick needs, as many rows, as many of them due.
fn fill(stack: &Stack, waiting: u64) -> anyhow::Result<()> {
    let orderly = 2 * BACK_OFF;
    let apart = (waiting - orderly) / (2 * MEASURED);
    stack.database.sql(&format!(
        "create temporary table numbers as
         select n, overlay(uuid_from(now() - interval '1 hour' + n * interval '1 hour' / {waiting})::text placing substr(md5(n::text)::uuid::text, 15) from 15 for 22)::uuid as id,
                case when n <= {orderly} and n::bigint * 7919 % {BACK_OFF} < {MEASURED} then now() - ((n <= {BACK_OFF})::int + 1) * interval '1 hour' + (n::bigint * 7919 % {BACK_OFF}) * interval '1 ms'
                     when n > {orderly} and (n - {orderly}) % {apart} = 0 and (n - {orderly}) / {apart} <= 2 * {MEASURED}
                     then now() - ((n - {orderly}) / {apart} % 2 + 1) * interval '1 hour' + interval '30 min' + hashint8(n) % 1000 * interval '1 s' end as internal_due_at,
                n > {waiting} * 19 / 20 as in_order
         from generate_series(1, {waiting}) n;
         insert into receipts (id, merchant, external_id, pipeline, content, traceparent)
         select id, 'm-1', 'e-' || n, 'bench', '{{}}', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00' from numbers;
         insert into work (id, pipeline, state, position, destination, epoch, call_due_at, internal_due_at, first_call_key)
         select id, 'bench', 'waiting', 3, case when in_order then '{IN_ORDER}' else '{SCATTERED}' end, 1,
                case when internal_due_at is not null then null
                     when in_order and n % 10 > 2 then now() - interval '10 days' + (n + abs(hashint8(n)::bigint) % {BACK_OFF}) * interval '1 ms'
                     when not in_order and n % 10 not in (1, 3, 5, 7) then now() + case when n % 10 = 2 then -1 else 1 end * (hashint8(n) % 100000 + 100000) * interval '1 s' end,
                internal_due_at,
                case when internal_due_at is null and (in_order and n % 10 <= 2 or not in_order and n % 10 in (1, 3, 5, 7)) then 'infinity'::timestamptz end
         from numbers;
         create table plain (id uuid primary key, due_at timestamptz, epoch integer not null, rest text not null) with (fillfactor = 85);
         create index on plain (due_at) where due_at is not null;
         insert into plain select id, now() + case when n % 10 = 2 then -1 else 1 end * (hashint8(n) % 100000 + 100000) * interval '1 s', 1, repeat('-', 80) from numbers"
    ))?;
    for table in ["work", "receipts", "plain"] {
        stack.database.sql(&format!("vacuum analyze {table}"))?;
    }
    // Nothing that is measured pays for what this has written.
    stack.database.sql("checkpoint").map(drop)
}

/// The plans of a relay that has just started, of its pick and of its look, as PostgreSQL itself logs them.
async fn plans(stack: &Stack, pool: &PgPool) -> anyhow::Result<()> {
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
    queue(&fresh, SCATTERED, &mut Walk::default()).await?;
    relay::set_back(&fresh, SCATTERED, false).await?;
    let log = format!("{}/log/postgres.log", std::env::var("CHEKHOV_DATA")?);
    let text = std::fs::read_to_string(log)?;
    for (what, part) in [
        ("pick", "), fresh as materialized"),
        ("look", "), timer as materialized"),
    ] {
        let statement = text
            .rfind(part)
            .with_context(|| format!("PostgreSQL logged no plan of the relay's {what}"))?;
        let plan = text[statement..]
            .lines()
            .skip_while(|line| !line.contains("cost="))
            .take_while(|line| !line.contains("LOG:"));
        println!(
            "the plan of the relay's {what}:\n{}",
            plan.collect::<Vec<_>>().join("\n")
        );
    }
    Ok(())
}
