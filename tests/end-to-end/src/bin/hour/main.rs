//! An outage of the fiscal API that lasts an hour, behind a hundred thousand receipts: what it costs meanwhile, who dies in it,
//! and how it ends.

mod drain;
mod fresh;
mod judge;
mod memory;
mod outage;
mod plan;
mod report;
mod samples;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use end_to_end::{Options, Stack};

use crate::fresh::Fresh;
use crate::plan::{DISPATCHERS, LIMIT, ORCHESTRATORS, Plan};
use crate::report::Report;
use crate::samples::Samples;

/// Takes the fiscal API away behind a backlog, for long
#[derive(Debug, Parser)]
struct Arguments {
    /// Minutes that the outage lasts
    #[arg(default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
    /// Receipts that wait behind it
    #[arg(default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(5000..))]
    receipts: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let plan = Plan {
        outage: Duration::from_mins(arguments.minutes),
        receipts: arguments.receipts,
    };
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/pipeline/receipts.toml");
    let options = Options {
        orchestrators: ORCHESTRATORS,
        dispatchers: DISPATCHERS,
        pipeline: Some(shipped.into()),
        ..Options::default()
    };
    let options = options.with("destination.fiscal.limits", &format!("{LIMIT}/s"));
    let mut stack = Stack::start(&options).await?;
    println!(
        "{ORCHESTRATORS} orchestrators and {DISPATCHERS} dispatchers run; their logs are in {}",
        stack.directory().display()
    );

    let mut report = Report::default();
    outage::pattern(&mut stack).await?;
    let (mut outage, backlog) = outage::begin(&mut stack, &plan, &mut report).await?;
    let apis = stack.orchestrators.iter().map(|member| member.api.clone()).collect();
    let fresh = Fresh::start(apis)?;
    let mut samples = Samples::begin();
    outage
        .last(&mut stack, &plan, &backlog, &mut samples, &mut report)
        .await?;
    drain::run(&stack, &plan, &mut samples, &mut report).await?;
    stack.posted.extend(fresh.stop().await?);
    judge::run(&stack, &plan, &mut report).await?;

    println!("\n{}", report.table());
    println!(
        "every sample is in {}",
        report.write(&samples.all, stack.directory())?.display()
    );
    for sentence in report.broken() {
        eprintln!("did not hold: {sentence}");
    }
    Ok(if report.held() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
