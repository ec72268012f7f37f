//! How fast Chekhov is, against the same calls made with no durability at all, and what it costs.

mod bare;
mod due;
mod idle;
mod loaded;
mod outage;
mod pairs;
mod size;
mod telemetry;

use std::path::Path;

use clap::{Parser, Subcommand};
use end_to_end::{Options, Stack};

/// Measures Chekhov
#[derive(Debug, Parser)]
struct Arguments {
    /// Calls in flight at most to the fiscal API
    #[arg(long, global = true, default_value_t = 2048)]
    calls: usize,
    /// Calls in flight at most to each service
    #[arg(long, global = true, default_value_t = 64)]
    service_calls: usize,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Against the bare calls, in one run, pair by pair
    Throughput(Throughput),
    /// What each process costs while it has nothing to do
    Idle,
    /// What a collector of traces that hangs costs
    Telemetry(telemetry::Telemetry),
    /// What early stages feel of an outage of the fiscal API, with a backlog
    Outage(outage::Outage),
    /// What a receipt costs with few and with very many in the tables
    Size(size::Size),
    /// Picking 500 due receipts out of very many
    Due {
        /// Receipts that wait
        #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(2_000_000..))]
        waiting: u64,
        /// Receipts that are handled before it is measured again
        #[arg(long, default_value_t = 900_000)]
        handled: u64,
    },
}

#[derive(Debug, Parser)]
struct Throughput {
    /// Pairs of a run of the bare calls and one through Chekhov
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    /// Receipts of each run
    #[arg(long, default_value_t = 60_000)]
    receipts: usize,
    /// Receipts under way at once, in both
    #[arg(long, default_value_t = 1024)]
    concurrency: usize,
}

/// More receipts than are ever under way at once.
const WIDE: &str = "2048";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let bench = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench");
    let template = std::fs::read_to_string(bench.join("receipt.json"))?;
    let options = Options {
        pipeline: Some(bench.join("receipts.toml")),
        ..Options::default()
    };
    let mut options = options
        .with("destination.fiscal.limits", "")
        .with("destination.fiscal.concurrency", &arguments.calls.to_string())
        .with("orchestrator.in_flight", WIDE);
    for service in ["validation", "tax", "documents"] {
        options = options.with(
            &format!("service.{service}.concurrency"),
            &arguments.service_calls.to_string(),
        );
    }
    match &arguments.what {
        Some(What::Telemetry(arguments)) => return telemetry::run(&options, &template, arguments).await,
        Some(What::Size(arguments)) => return size::run(&options, &template, arguments).await,
        _ => {}
    }
    let mut stack = Stack::start(&options).await?;
    stack.ledger.set(&serde_json::json!({"done_after_ms": 0})).await?;
    match arguments.what {
        Some(What::Throughput(arguments)) => pairs::run(&stack, &template, &arguments).await,
        Some(What::Idle) => idle::run(&mut stack).await,
        Some(What::Telemetry(_) | What::Size(_)) => Ok(()),
        Some(What::Outage(arguments)) => outage::run(&stack, &template, &arguments).await,
        Some(What::Due { waiting, handled }) => due::run(&mut stack, waiting, handled).await,
        None => {
            let arguments = Throughput::parse_from(["throughput"]);
            pairs::run(&stack, &template, &arguments).await?;
            idle::run(&mut stack).await
        }
    }
}
