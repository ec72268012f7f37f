//! Finds internal work that is due: what was waiting for room, for its back-off, or for another owner.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use shared::life::Holding;
use shared::store::StoreError;
use shared::store::claim::{self, Due};
use shared::store::load::{self, Work};
use shared::telemetry::metrics::shown;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Runner;

/// How often an orchestrator looks while there is nothing. Work of its own wakes it earlier.
const ROUND: Duration = Duration::from_secs(1);
/// How often it looks once there has been nothing for [`QUIET`] rounds.
const IDLE: Duration = Duration::from_secs(3);
const QUIET: u32 = 10;
/// How often it looks while it finds something.
const BUSY: Duration = Duration::from_millis(50);
/// The most claimed at once.
const CLAIM: usize = 256;

/// Claims due work while there is room, until `stop`. `jobs` is told when nobody is at one.
pub async fn run(runner: Arc<Runner>, jobs: Arc<Notify>, stop: CancellationToken) {
    let mut pause = ROUND;
    let mut quiet = 0;
    let (mut count, mut walk) = (Instant::now(), claim::Walk::default());
    while stop.run_until_cancelled(rest(&runner, pause)).await.is_some() {
        pause = match round(&runner, &jobs, &mut count, &mut walk).await {
            Ok(0) => {
                quiet += 1;
                if quiet > QUIET { IDLE } else { ROUND }
            }
            Ok(_) => {
                quiet = 0;
                BUSY
            }
            Err(error) => {
                tracing::warn!(%error, "due work could not be claimed");
                ROUND
            }
        };
    }
}

async fn rest(runner: &Runner, pause: Duration) {
    tokio::select! {
        () = tokio::time::sleep(pause) => {}
        () = async { runner.wake.notified().await; tokio::time::sleep(BUSY).await } => {}
    }
}

async fn round(
    runner: &Arc<Runner>,
    jobs: &Notify,
    count: &mut Instant,
    walk: &mut claim::Walk,
) -> Result<usize, StoreError> {
    // Looked at before slots are taken: those are for what is accepted meanwhile.
    let Due { internal: due, job } = claim::due(&runner.pool, walk).await?;
    if job {
        jobs.notify_one();
    }
    runner.starved.store(false, Ordering::Relaxed);
    let mut slots = Vec::new();
    // What cannot be sent is left to those who can.
    while due
        && runner.heart.is_strong()
        && slots.len() < CLAIM
        && let Some(slot) = runner.slot()
    {
        slots.push(slot);
    }
    let found = if slots.is_empty() {
        0
    } else {
        let limit = i64::try_from(slots.len()).unwrap_or(i64::MAX);
        let ids = claim::internal(&runner.pool, runner.owner(), limit, walk).await?;
        let mut holdings: HashMap<Uuid, Holding> = ids.iter().map(|id| (*id, runner.hold(*id))).collect();
        for work in claimed(runner, &ids).await {
            if let (Some(slot), Some(holding)) = (slots.pop(), holdings.remove(&work.hold.id)) {
                runner.start(work, slot, holding);
            }
        }
        ids.len()
    };
    // Only while there is a backlog is it worth counting, now and then, and only up to its bound.
    if (due || runner.overloaded()) && Instant::now() >= *count {
        *count = Instant::now() + ROUND;
        let waiting = claim::internal_backlog(&runner.pool, runner.backlog_bound).await?;
        runner
            .overloaded
            .store(waiting >= runner.backlog_bound, Ordering::Relaxed);
        metrics::gauge!("chekhov_internal_backlog").set(shown(waiting));
    }
    Ok(found)
}

/// Reads what was claimed, for as long as it takes: it is ours, and nobody else would come for it.
async fn claimed(runner: &Runner, ids: &[Uuid]) -> Vec<Work> {
    let mut pause = Duration::from_millis(50);
    while !ids.is_empty() {
        match read(runner, ids).await {
            Ok(works) => return works,
            Err(error) => tracing::warn!(%error, "what was claimed could not be read"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    }
    Vec::new()
}

async fn read(runner: &Runner, ids: &[Uuid]) -> Result<Vec<Work>, StoreError> {
    let mut connection = runner.pool.acquire().await?;
    load::works(&mut connection, ids).await
}
