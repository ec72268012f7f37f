//! What each process uses, each second, and what PostgreSQL has written.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use end_to_end::{Database, Processes};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::events::{Sample, Storage};
use crate::load::unix_us;

/// Looks at processes until it is ended.
#[derive(Debug)]
pub struct Sampler {
    stop: CancellationToken,
    looking: JoinHandle<anyhow::Result<Vec<Sample>>>,
}

impl Sampler {
    /// Looks at once, and then each second.
    pub fn start(processes: Processes) -> Self {
        let stop = CancellationToken::new();
        let looking = tokio::spawn(look(Arc::new(processes), stop.clone()));
        Self { stop, looking }
    }

    /// Looks once more, and answers all that was seen.
    pub async fn end(self) -> anyhow::Result<Vec<Sample>> {
        self.stop.cancel();
        self.looking.await.context("nobody looks at processes")?
    }
}

async fn look(processes: Arc<Processes>, stop: CancellationToken) -> anyhow::Result<Vec<Sample>> {
    let mut samples = Vec::new();
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(second.tick()).await.is_some() {
        samples.extend(once(&processes).await?);
    }
    samples.extend(once(&processes).await?);
    Ok(samples)
}

async fn once(processes: &Arc<Processes>) -> anyhow::Result<Vec<Sample>> {
    let processes = Arc::clone(processes);
    let used = spawn_blocking(move || processes.used()).await??;
    let at_us = unix_us();
    let sample = |used: end_to_end::Used| Sample {
        at_us,
        process: used.process.to_owned(),
        cpu_us: u64::try_from(used.cpu.as_micros()).unwrap_or(u64::MAX),
        memory: used.memory,
        written: used.written,
    };
    Ok(used.into_iter().map(sample).collect())
}

impl Storage {
    /// So far, of the whole server: every arm has it to itself while it runs.
    pub fn of(database: &Database) -> anyhow::Result<Self> {
        let text = database.sql(
            "select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint, (select sum(pg_database_size(oid)) from pg_database)::bigint",
        )?;
        let (wal, stored) = text.split_once('|').context("two numbers are wanted")?;
        Ok(Self {
            wal: wal.parse()?,
            stored: stored.parse()?,
        })
    }
}
