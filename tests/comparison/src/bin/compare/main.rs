//! The same receipts by every arm, under the same load and the same outages, and what each costs.

mod arguments;
mod arms;
mod events;
mod figures;
mod load;
mod report;
mod sampler;
mod scenario;

use std::path::Path;

use anyhow::Context;
use clap::Parser;

use crate::arguments::{Arguments, Run, What};
use crate::report::Report;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { what, run } = Arguments::parse();
    match what {
        None => compare(&run).await,
        Some(What::Report {
            directory,
            prices,
            readme,
        }) => {
            let report = Report::of(&directory, prices.stated())?;
            report.write(&directory)?;
            tell(&report, &directory, readme.as_deref())
        }
        Some(What::Check { directory }) => {
            Report::check(&directory)?;
            println!("{}: the report is what its events come to", directory.display());
            Ok(())
        }
    }
}

/// Runs every arm so many times, in an order that turns from run to run, and reports.
async fn compare(run: &Run) -> anyhow::Result<()> {
    let plan = run.plan();
    let events = run.out.join("events");
    if events.exists() {
        std::fs::remove_dir_all(&events).with_context(|| events.display().to_string())?;
    }
    std::fs::create_dir_all(&events)?;
    events::write_json(&events.join("comparison.json"), &run.comparison()?)?;
    for number in 1..=run.runs {
        let mut arms = run.arms();
        let turned = (number - 1) as usize % arms.len().max(1);
        arms.rotate_left(turned);
        for arm in arms {
            plan.run(number, arm, &events)
                .await
                .with_context(|| format!("run {number} of {arm}"))?;
        }
    }
    let report = Report::of(&run.out, None)?;
    report.write(&run.out)?;
    Report::check(&run.out)?;
    tell(&report, &run.out, run.readme.as_deref())
}

fn tell(report: &Report, directory: &Path, readme: Option<&Path>) -> anyhow::Result<()> {
    println!("\n{}\n", report.shown());
    println!("{}", directory.join("report.html").display());
    match readme {
        Some(readme) => report.write_readme(readme),
        None => Ok(()),
    }
}
