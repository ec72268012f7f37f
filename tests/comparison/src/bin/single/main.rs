//! The arm `single`: one engine, one queue ordered by due time, so many slots for all stages, external ones included.
//!
//! The stages, the store, the group commit and the client are Chekhov's. What is not there is what Chekhov has for the external
//! API: no hand-off, no broker, no gate, no breaker. A receipt holds a slot during an attempt, not in its back-off.
//!
//! Modules in the order of the flow: [`intake`] answers posts, [`queue`] claims what is due, [`engine`] runs stages, with the
//! [`turns`] of destinations that have limits and the [`opening`] of calls that register; [`deaths`] finds what a dead engine
//! left. Refunds do not wait for their originals here.

mod deaths;
mod engine;
mod intake;
mod opening;
mod queue;
mod turns;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use shared::configuration::Configuration;
use shared::destination::Following;
use shared::life::{self, Heart, Holdings};
use shared::pipeline::{Pipeline, Source};
use shared::stage::{Endpoints, LimitKeys, Proofs, Versions};
use shared::store::{self, group::Group};
use shared::telemetry;
use shared::tls::listener;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::engine::Engine;
use crate::queue::Queue;
use crate::turns::Turns;

/// As Chekhov's processes have it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The name of its instances and connections.
const SERVICE: &str = "chekhov-single";
/// How long an engine that stops goes on answering.
const DRAIN: Duration = Duration::from_secs(2);

/// One engine for all stages, one queue
#[derive(Debug, Parser)]
struct Arguments {
    /// The configuration
    #[arg(long, env = "CHEKHOV_CONFIG", default_value = "chekhov.toml")]
    config: PathBuf,
    /// Where receipts are posted
    #[arg(long)]
    listen: SocketAddr,
    /// Receipts at work at once; absent: `orchestrator.in_flight`
    #[arg(long)]
    slots: Option<usize>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let configuration = Configuration::load(&arguments.config)?;
    let guard = telemetry::start(&configuration.telemetry, SERVICE)?;
    // One thread, as the processes that it is compared with.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let stop = life::stop_on_signal()?;
        run(&arguments, configuration, stop).await
    });
    drop(runtime);
    guard.flush();
    ended
}

async fn run(arguments: &Arguments, configuration: Configuration, stop: CancellationToken) -> anyhow::Result<()> {
    let pipeline = Pipeline::compile(Source::read(&configuration.pipeline)?)?;
    let (services, destinations) = configuration.targets();
    pipeline.check_targets(&services, &destinations)?;
    let endpoints = Endpoints::new(&configuration, configuration.dispatcher.sent_at)?;
    let listener = TcpListener::bind(arguments.listen)
        .await
        .with_context(|| format!("--listen {}", arguments.listen))?;
    let url = configuration.database.url.expose();
    let pool = store::connect(url, configuration.database.connections, SERVICE)?;
    store::migrate(url).await.context("database.url")?;
    let versions = Arc::new(Versions::start(pool.clone(), pipeline).await?);
    let heart = Heart::start(&configuration.database, SERVICE, configuration.heartbeat).await?;
    // Its rows alone: look-ups count their settle time by them. Nobody closes a destination here.
    let following = Following::start(&pool, &configuration).await.context("database.url")?;
    let slots = arguments.slots.unwrap_or(configuration.orchestrator.in_flight).max(1);
    tracing::info!(instance = %heart.id(), slots, "started");

    // The heart beats on until everything in flight has been finished or handed back.
    let last = CancellationToken::new();
    let beating = tokio::spawn(Arc::clone(&heart).beat(last.clone()));
    let (holdings, tracker) = (Holdings::default(), TaskTracker::new());
    let engine = Arc::new(Engine {
        heart: Arc::clone(&heart),
        versions,
        queue: Queue::new(),
        endpoints,
        limit_keys: LimitKeys::new(following),
        proofs: Proofs::default(),
        turns: Turns::new(&configuration),
        internal: Group::start(pool.clone()),
        external: Group::start(pool.clone()),
        openings: Group::start(pool.clone()),
        slots: Arc::new(Semaphore::new(slots)),
        holdings: holdings.clone(),
        tracker: tracker.clone(),
        passed: std::sync::Mutex::default(),
        stop: stop.clone(),
        pool: pool.clone(),
    });
    let every = configuration.heartbeat.dead_after;
    tokio::spawn(holdings.watch(pool, heart, every, stop.clone()));
    let bound = configuration.intake.backlog;
    tokio::spawn(queue::run(Arc::clone(&engine), bound, stop.clone()));
    tokio::spawn(deaths::run(Arc::clone(&engine), configuration, stop.clone()));

    let serving = listener::serve(listener, None, intake::router(engine), drained(stop.clone()));
    let work = async {
        serving.await?;
        tracker.close();
        tracker.wait().await;
        anyhow::Ok(())
    };
    life::finish(&stop, work).await.transpose()?;
    last.cancel();
    beating.await?;
    tracing::info!("stopped");
    Ok(())
}

/// Some time after `stop`: until then posts are refused with 503, so that nobody's connection is closed under a request.
async fn drained(stop: CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(DRAIN).await;
}
