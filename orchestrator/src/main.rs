//! The orchestrator's binary.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Parser, Subcommand};
use shared::configuration::Configuration;
use shared::pipeline::{Pipeline, Source};
use shared::stage::Endpoints;
use shared::tls::listener::Acceptor;
use shared::{life, telemetry};

/// A receipt is made of many small strings that are soon dropped: one that gives out first what came back last finds them in the
/// processor's cache.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[derive(Parser)]
#[command(version, about = "Takes receipts in, runs their internal stages, hands them off")]
struct Arguments {
    /// The configuration.
    #[arg(long, env = "CHEKHOV_CONFIG", default_value = "chekhov.toml", global = true)]
    config: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Reports every mistake of a pipeline, and the requests it would make; sends nothing.
    Check {
        /// The pipeline's file.
        pipeline: PathBuf,
        /// A receipt to render requests for.
        #[arg(long)]
        receipt: Option<PathBuf>,
    },
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let Some(Command::Check { pipeline, receipt }) = arguments.command {
        return check(&arguments.config, &pipeline, receipt.as_deref());
    }
    let configuration = Configuration::load(&arguments.config)?;
    let guard = telemetry::start(&configuration.telemetry, "chekhov-orchestrator")?;
    // One thread: nothing has to be handed from one to another, and whoever needs more starts more instances.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let stop = life::stop_on_signal()?;
        orchestrator::app::run(configuration, stop).await
    });
    drop(runtime);
    guard.flush();
    ended
}

fn check(configuration: &Path, pipeline: &Path, receipt: Option<&Path>) -> anyhow::Result<()> {
    let pipeline = Pipeline::compile(Source::read(pipeline)?)?;
    // Where there is a configuration it says which services and destinations there are.
    if configuration.exists() {
        let configuration = Configuration::load(configuration)?;
        let (services, destinations) = configuration.targets();
        pipeline.check_targets(&services, &destinations)?;
        // Keys and certificates are read too.
        Endpoints::new(&configuration, false)?;
        orchestrator::app::files(&configuration)?;
        Acceptor::read("dispatcher", configuration.dispatcher.tls.as_ref())?;
    }
    let receipt = match receipt {
        Some(path) => {
            let body = std::fs::read(path).with_context(|| path.display().to_string())?;
            Some(shared::receipt::parse(&body, time::OffsetDateTime::now_utc())?)
        }
        None => None,
    };
    let report = shared::pipeline::check::report(&pipeline, receipt.as_ref());
    print!("{}", report.text);
    anyhow::ensure!(report.mistakes.is_empty(), report.mistakes.join("\n"));
    Ok(())
}
