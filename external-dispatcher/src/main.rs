//! The external dispatcher's binary.

use std::path::PathBuf;

use clap::Parser;
use shared::configuration::Configuration;
use shared::{life, telemetry};

/// A receipt is made of many small strings that are soon dropped: one that gives out first what came back last finds them in the
/// processor's cache.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[derive(Parser)]
#[command(version, about = "Takes handed-off receipts to external APIs, inside their limits")]
struct Arguments {
    /// The configuration.
    #[arg(long, env = "CHEKHOV_CONFIG", default_value = "chekhov.toml")]
    config: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let configuration = Configuration::load(&Arguments::parse().config)?;
    let guard = telemetry::start(&configuration.telemetry, "chekhov-external-dispatcher")?;
    // One thread: nothing has to be handed from one to another, and whoever needs more starts more instances.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .event_interval(7)
        .enable_all()
        .build()?;
    let ended = runtime.block_on(async {
        let stop = life::stop_on_signal()?;
        external_dispatcher::app::run(configuration, stop).await
    });
    drop(runtime);
    guard.flush();
    ended
}
