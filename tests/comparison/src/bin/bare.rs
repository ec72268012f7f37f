//! The arm `bare`: the calls of so many receipts, rendered, made and judged as Chekhov does it, and nothing else. Nobody is
//! posted to, nothing is stored, nothing is tried again: the limit of the machine.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use clap::{ArgGroup, Args, Parser};
use comparison::stages::{Outcome, Receipt, Stages};
use end_to_end::Receipts;
use serde::Serialize;
use shared::configuration::Configuration;
use shared::pipeline::Subject;
use shared::stage::is_passed_over;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// As Chekhov's processes have it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The same calls, nothing durable
#[derive(Debug, Parser)]
#[command(group = ArgGroup::new("load").args(["count", "rate"]).required(true))]
struct Arguments {
    /// The configuration
    #[arg(long, env = "CHEKHOV_CONFIG", default_value = "chekhov.toml")]
    config: PathBuf,
    /// The receipt that all are made of, under ids of their own
    #[arg(long)]
    receipt: PathBuf,
    #[command(flatten)]
    closed: Option<Closed>,
    #[command(flatten)]
    open: Option<Open>,
}

/// So many receipts, so many at once.
#[derive(Debug, Clone, Copy, Args)]
struct Closed {
    /// Receipts
    #[arg(long, required = false, requires = "concurrency")]
    count: usize,
    /// At once
    #[arg(long, required = false, requires = "count")]
    concurrency: usize,
}

/// So many receipts a second, whatever becomes of them.
#[derive(Debug, Clone, Copy, Args)]
struct Open {
    /// Receipts a second
    #[arg(long, required = false, requires = "seconds")]
    rate: f64,
    /// For so long
    #[arg(long, required = false, requires = "rate")]
    seconds: f64,
}

/// What became of a receipt. Instants are microseconds since 1970.
#[derive(Debug, Serialize)]
struct Way {
    n: usize,
    external_id: String,
    /// When it was due to begin: in an open loop that is its arrival, however late its first call is.
    begun_us: u64,
    /// The end of the internal stages before the first external one; `None`: it did not come so far.
    early_us: Option<u64>,
    ended_us: u64,
    outcome: &'static str,
}

/// What every receipt needs.
struct Run {
    stages: Stages,
    receipts: Receipts,
    clock: Clock,
}

/// Microseconds since 1970 that never go back.
struct Clock {
    begun: Instant,
    since_1970: Duration,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let configuration = Configuration::load(&arguments.config)?;
    let template =
        std::fs::read_to_string(&arguments.receipt).with_context(|| arguments.receipt.display().to_string())?;
    let run = Arc::new(Run {
        stages: Stages::read(&configuration)?,
        receipts: Receipts::new(&template)?,
        clock: Clock::start(),
    });
    // Before anything is called: a template that is no receipt is the caller's mistake.
    run.receipt(0)?;
    let mut ended = match (arguments.closed, arguments.open) {
        (Some(closed), _) => in_a_closed_loop(&run, closed).await?,
        (None, Some(open)) => in_an_open_loop(&run, open).await?,
        (None, None) => anyhow::bail!("--count and --concurrency, or --rate and --seconds"),
    };
    ended.sort_unstable_by_key(|ended| ended.n);
    let mut out = BufWriter::new(std::io::stdout().lock());
    for line in ended {
        serde_json::to_writer(&mut out, &line)?;
        writeln!(out)?;
    }
    out.flush()?;
    Ok(())
}

async fn in_a_closed_loop(run: &Arc<Run>, Closed { count, concurrency }: Closed) -> anyhow::Result<Vec<Way>> {
    let mut workers = JoinSet::new();
    for worker in 0..concurrency {
        let run = Arc::clone(run);
        workers.spawn(async move {
            let mut ended = Vec::new();
            for n in (worker..count).step_by(concurrency) {
                ended.push(run.take(n, Instant::now()).await?);
            }
            anyhow::Ok(ended)
        });
    }
    let mut all = Vec::with_capacity(count);
    while let Some(ended) = workers.join_next().await {
        all.append(&mut ended??);
    }
    Ok(all)
}

async fn in_an_open_loop(run: &Arc<Run>, Open { rate, seconds }: Open) -> anyhow::Result<Vec<Way>> {
    anyhow::ensure!(rate > 0.0, "--rate: more than 0");
    let (begun, length) = (Instant::now(), Duration::try_from_secs_f64(seconds)?);
    let every = Duration::try_from_secs_f64(rate.recip())?;
    let mut under_way = JoinSet::new();
    for n in 0u32.. {
        let after = every.mul_f64(f64::from(n));
        if after >= length {
            break;
        }
        let arrival = begun + after;
        tokio::time::sleep_until(arrival).await;
        let run = Arc::clone(run);
        under_way.spawn(async move { run.take(usize::try_from(n)?, arrival).await });
    }
    let mut all = Vec::with_capacity(under_way.len());
    while let Some(ended) = under_way.join_next().await {
        all.push(ended??);
    }
    Ok(all)
}

impl Run {
    fn receipt(&self, n: usize) -> anyhow::Result<Receipt> {
        Receipt::read(self.receipts.body(n).as_bytes()).context("--receipt is none")
    }

    /// Takes the `n`th receipt through its stages, until one does not succeed.
    async fn take(&self, n: usize, begun: Instant) -> anyhow::Result<Way> {
        let receipt = self.receipt(n)?;
        let mut subject = Subject::new(Arc::clone(&receipt.content), Vec::new());
        let (mut early, mut outcome) = (None, "registered");
        for stage in &self.stages.pipeline.stages {
            if is_passed_over(stage, &subject) {
                continue;
            }
            if stage.destination().is_some() && early.is_none() {
                early = Some(self.clock.at(Instant::now()));
            }
            if !matches!(
                self.stages.attempt(&receipt, stage, 0, &mut subject).await,
                Outcome::Success(_)
            ) {
                outcome = "failed";
                break;
            }
        }
        let ended = self.clock.at(Instant::now());
        Ok(Way {
            n,
            external_id: receipt.external_id,
            begun_us: self.clock.at(begun),
            // Without an external stage they all are early.
            early_us: early.or((outcome == "registered").then_some(ended)),
            ended_us: ended,
            outcome,
        })
    }
}

impl Clock {
    fn start() -> Self {
        Self {
            begun: Instant::now(),
            since_1970: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        }
    }

    fn at(&self, instant: Instant) -> u64 {
        let since_1970 = self.since_1970 + instant.saturating_duration_since(self.begun);
        u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX)
    }
}
