//! The closed loop through Chekhov: each of so many clients posts a receipt, waits until it is final, and posts the next.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use end_to_end::{Poster, Receipts, Stack};
use serde_json::Value;
use sqlx::{Connection, PgConnection};
use tokio::sync::oneshot;
use uuid::Uuid;

/// How often it is looked whose receipts are final: a client learns it half a look late on average.
const LOOK: Duration = Duration::from_millis(20);
/// So many are looked at, the oldest: those that were posted last have their way before them.
const OLDEST: usize = 192;

/// What a run took.
#[derive(Debug, Default)]
pub struct Took {
    /// From the first post to the last receipt's end.
    pub whole: Duration,
    /// From each post to its 202.
    pub acknowledgement: Vec<Duration>,
    /// From each post to its receipt's end, seen a look late, or later if it overtook many.
    pub way: Vec<Duration>,
    /// From each receipt's acceptance to the end of its last internal stage, by the database's clock.
    pub early: Vec<Duration>,
}

/// The receipts under way, and who waits for them.
type Waiting = Arc<Mutex<BTreeMap<Uuid, oneshot::Sender<()>>>>;

/// Takes `count` receipts from post to end, `concurrency` at once.
pub async fn run(stack: &Stack, receipts: &Arc<Receipts>, count: usize, concurrency: usize) -> anyhow::Result<Took> {
    let poster = Poster::new(stack.orchestrators[0].api.base())?;
    let waiting = Waiting::default();
    let observing = tokio::spawn(observe(stack.database.url(), Arc::clone(&waiting)));
    let begun = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for first in 0..concurrency {
        let (poster, receipts, waiting) = (poster.clone(), Arc::clone(receipts), Arc::clone(&waiting));
        clients.spawn(async move {
            let mut took = Vec::new();
            for n in (first..count).step_by(concurrency) {
                took.push(receipt(&poster, receipts.body(n), &waiting).await?);
            }
            anyhow::Ok(took)
        });
    }
    let mut took = Took::default();
    let mut ids = Vec::with_capacity(count);
    while let Some(client) = clients.join_next().await {
        for (id, acknowledgement, way) in client?? {
            ids.push(id);
            took.acknowledgement.push(acknowledgement);
            took.way.push(way);
        }
    }
    took.whole = begun.elapsed();
    observing.abort();
    took.early = early(&stack.database.url(), &ids).await?;
    Ok(took)
}

async fn receipt(poster: &Poster, body: String, waiting: &Waiting) -> anyhow::Result<(Uuid, Duration, Duration)> {
    let begun = Instant::now();
    let reply = poster.post(body).await?;
    let answer: Value = serde_json::from_slice(&reply.body)?;
    ensure!(reply.status == 202, "a post was answered {}: {answer}", reply.status);
    let acknowledged = begun.elapsed();
    let id: Uuid = answer["id"].as_str().context("no id")?.parse()?;
    let (ended, end) = oneshot::channel();
    waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(id, ended);
    end.await.context("the observer ended")?;
    Ok((id, acknowledged, begun.elapsed()))
}

/// Asks the database which of the receipts under way are final: an index look-up each.
async fn observe(url: String, waiting: Waiting) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(&url).await?;
    // Indexes alone, whatever the tables looked like when it began.
    sqlx::query("set enable_seqscan = off").execute(&mut connection).await?;
    let mut look = tokio::time::interval(LOOK);
    loop {
        look.tick().await;
        let ids: Vec<Uuid> = waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .keys()
            .take(OLDEST)
            .copied()
            .collect();
        let finished: Vec<Uuid> =
            sqlx::query_scalar("select f.id from unnest($1::uuid[]) as given (id) cross join lateral (select id from finished where finished.id = given.id limit 1) f")
                .bind(ids)
                .fetch_all(&mut connection)
                .await?;
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for id in finished {
            if let Some(waits) = waiting.remove(&id) {
                // A client that is gone has failed, and says so itself.
                let _ = waits.send(());
            }
        }
    }
}

/// From each receipt's acceptance to the end of its last internal stage, by the database's clock.
pub async fn early(url: &str, ids: &[Uuid]) -> anyhow::Result<Vec<Duration>> {
    let mut connection = PgConnection::connect(url).await?;
    let seconds: Vec<f64> = sqlx::query_scalar(
        "select extract(epoch from calls.stored_at - receipts.accepted_at)::float8 from receipts join calls on calls.receipt = receipts.id
         where calls.stage = 'document' and calls.result is not null and receipts.id = any($1)",
    )
    .bind(ids)
    .fetch_all(&mut connection)
    .await?;
    ensure!(
        seconds.len() == ids.len(),
        "results of {} receipts, of {} posted",
        seconds.len(),
        ids.len()
    );
    Ok(seconds
        .into_iter()
        .map(|seconds| Duration::from_secs_f64(seconds.max(0.0)))
        .collect())
}
