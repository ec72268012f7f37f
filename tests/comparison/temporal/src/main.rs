//! The comparison's arm on Temporal: takes receipts in, and works on them.

mod activities;
mod arm;
mod intake;
mod order;
mod plan;
mod workflow;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use comparison::stages::Stages;
use futures::future::try_join_all;
use shared::configuration::Configuration;
use shared::pipeline::Target;
use shared::{life, telemetry};
use temporalio_client::{Client, ClientOptions, Connection, Url};
use temporalio_sdk::{Runtime, Worker};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::activities::Attempts;
use crate::arm::Arm;
use crate::intake::Intake;
use crate::plan::Plan;

/// The same as Chekhov's: what is compared is not the allocator.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[derive(Parser)]
#[command(version, about = "Registers receipts by workflows of Temporal")]
struct Arguments {
    /// The configuration: the pipeline, its services and destinations.
    #[arg(long, env = "CHEKHOV_CONFIG", default_value = "chekhov.toml")]
    config: PathBuf,
    /// Where receipts are posted.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Temporal's frontend: host:port.
    #[arg(long, env = "TEMPORAL_ADDRESS", default_value = "127.0.0.1:7233")]
    temporal: String,
    /// The namespace of the workflows.
    #[arg(long, default_value = "default")]
    namespace: String,
    /// As an expert runs it.
    #[arg(long)]
    tuned: bool,
    /// Calls a second at the destination `fiscal` that the server lets through.
    #[arg(long, requires = "tuned")]
    fiscal_limit: Option<f64>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let configuration = Configuration::load(&arguments.config)?;
    let guard = telemetry::start(&configuration.telemetry, "temporal-worker")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let stop = life::stop_on_signal()?;
        run(arguments, configuration, stop).await
    });
    drop(runtime);
    guard.flush();
    ended
}

async fn run(arguments: Arguments, configuration: Configuration, stop: CancellationToken) -> anyhow::Result<()> {
    let arm = if arguments.tuned {
        Arm::Tuned {
            fiscal_limit: arguments.fiscal_limit,
        }
    } else {
        Arm::Plain
    };
    let stages = Arc::new(Stages::read(&configuration)?);
    let url = Url::parse(&format!("http://{}", arguments.temporal)).context("--temporal")?;
    let connection = Connection::connect(arm.connection(url)).await;
    let connection = connection.with_context(|| format!("no Temporal at {}", arguments.temporal))?;
    let client = Client::new(connection, ClientOptions::new(arguments.namespace).build())?;

    let runtime = Runtime::from_current_tokio(temporalio_sdk::runtime::RuntimeOptions::default())?;
    let options = arm.workers(&Attempts::new(Arc::clone(&stages)), destinations(&stages))?;
    let workers = options
        .into_iter()
        .map(|options| Worker::new(&runtime, client.clone(), options));
    let workers: Vec<Worker> = workers.collect::<Result<_, _>>()?;

    let intake = intake::router(Intake {
        plan: Plan::new(&configuration, &stages, &arm),
        eager: arm.starts_eagerly(),
        client,
    });
    let listener = TcpListener::bind(arguments.listen).await;
    let listener = listener.with_context(|| format!("cannot listen on {}", arguments.listen))?;
    let serving = async {
        let served = axum::serve(listener, intake).with_graceful_shutdown(stop.clone().cancelled_owned());
        served.await.context("the intake failed")
    };
    let all = async { tokio::try_join!(serving, work(workers, &stop)) };
    match life::finish(&stop, all).await {
        Some(ended) => ended.map(drop),
        None => anyhow::bail!("what was in flight did not end in time"),
    }
}

/// Works until it is told to stop, and then finishes what it has.
async fn work(mut workers: Vec<Worker>, stop: &CancellationToken) -> anyhow::Result<()> {
    let shutdowns: Vec<_> = workers.iter().map(Worker::shutdown_handle).collect();
    let stopping = async {
        stop.cancelled().await;
        for shutdown in &shutdowns {
            shutdown();
        }
        anyhow::Ok(())
    };
    let working = try_join_all(workers.iter_mut().map(Worker::run));
    tokio::try_join!(stopping, async { working.await.context("a worker failed") })?;
    Ok(())
}

/// Whom the pipeline calls outside, each once.
fn destinations(stages: &Stages) -> Vec<String> {
    let mut names: Vec<String> = stages
        .pipeline
        .stages
        .iter()
        .filter_map(|stage| match &stage.target {
            Target::External { destination } => Some(destination.clone()),
            Target::Internal => None,
        })
        .collect();
    names.sort();
    names.dedup();
    names
}
