//! Actions upon many receipts: counted, then carried out at a rate, over restarts and deaths.
//!
//! Every orchestrator looks now and then for a job that nobody is at, and takes its lease. See [`shared::store::jobs`].

mod batch;

pub use batch::{gap, size};

use std::sync::Arc;
use std::time::Duration;

use shared::life::Heart;
use shared::stage::Versions;
use shared::store::StoreError;
use shared::store::jobs::{self, Job};
use sqlx::PgPool;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use batch::{Holding, Next};

/// For how long a job is a holder's, from each batch.
const LEASE: Duration = Duration::from_secs(10);
/// How long it waits after an error.
const AGAIN: Duration = Duration::from_secs(1);
/// Jobs that this process is at, at once.
const AT_ONCE: usize = 8;

/// What jobs need.
#[derive(Clone)]
pub struct Jobs {
    /// The database.
    pub pool: PgPool,
    /// Pipelines.
    pub versions: Arc<Versions>,
    /// Whose lease it is.
    pub heart: Arc<Heart>,
    /// Told when a job may be to be taken: by who was asked, and by who looks for internal work.
    pub wake: Arc<Notify>,
    /// Told when receipts may be due for a destination.
    pub due: Arc<Notify>,
}

/// Takes jobs and does them, until `stop`.
pub async fn run(jobs: Jobs, stop: CancellationToken) {
    let tracker = TaskTracker::new();
    let looking = async {
        loop {
            if tracker.len() < AT_ONCE {
                match jobs::take(&jobs.pool, jobs.heart.id(), LEASE).await {
                    Ok(Some(job)) => {
                        let span = tracing::info_span!("job", job.id = %job.id, action = job.action);
                        tracker.spawn(hold(jobs.clone(), job, stop.clone()).instrument(span));
                        continue;
                    }
                    Ok(None) => {}
                    Err(error) => tracing::warn!(%error, "it could not be looked for jobs"),
                }
            }
            jobs.wake.notified().await;
        }
    };
    stop.run_until_cancelled(looking).await;
    tracker.close();
    tracker.wait().await;
}

/// Goes on with a job for as long as it is this process's.
async fn hold(jobs: Jobs, job: Job, stop: CancellationToken) {
    let (id, fence) = (job.id, job.fence);
    match stop.run_until_cancelled(go_on(&jobs, job)).await {
        Some(()) => {}
        None => {
            if let Err(error) = jobs::give_back(&jobs.pool, id, fence).await {
                tracing::warn!(%error, "a job could not be given back; others take it when its lease ends");
            }
        }
    }
}

async fn go_on(jobs: &Jobs, job: Job) {
    let (id, fence) = (job.id, job.fence);
    let mut known = Some(job);
    loop {
        if let Some(job) = known.take() {
            match batches(jobs, job).await {
                Ok(()) => return,
                Err(error) => tracing::warn!(%error, "a batch could not be done"),
            }
        }
        tokio::time::sleep(AGAIN).await;
        // Whether it was done all the same, the row says.
        match jobs::read(&jobs.pool, id).await {
            Ok(Some(job)) if job.fence == fence => known = Some(job),
            Ok(_) => return,
            Err(error) => tracing::warn!(%error, "a job could not be read"),
        }
    }
}

async fn batches(jobs: &Jobs, job: Job) -> Result<(), StoreError> {
    let Some(mut holding) = Holding::new(jobs, job) else {
        // Its lease ends by itself: whoever knows what it is takes it then.
        tracing::error!("a job of another version is left to others");
        return Ok(());
    };
    while let Next::In(pause) = holding.next().await? {
        tokio::time::sleep(pause).await;
    }
    Ok(())
}
