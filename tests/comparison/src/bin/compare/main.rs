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

use anyhow::{Context, bail, ensure};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::{Arguments, Run, What};
use crate::events::Comparison;
use crate::report::Report;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { what, run } = Arguments::parse();
    match what {
        // What runs is ended with it, and what is whole is kept.
        None => tokio::select! {
            compared = compare(&run) => compared,
            ended = ended() => ended.and_then(|()| bail!("ended before it was done: --resume goes on with it")),
        },
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
    let comparison = begin(run, &events)?;
    for number in 1..=run.runs {
        let mut arms = run.arms();
        let turned = (number - 1) as usize % arms.len().max(1);
        arms.rotate_left(turned);
        for arm in arms {
            if run.resume && events::has_whole(&events, &comparison, number, arm) {
                println!("run {number} of {arm}: made before");
                continue;
            }
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

/// Begins anew, or goes on with what was begun in the same way.
fn begin(run: &Run, events: &Path) -> anyhow::Result<Comparison> {
    let comparison = run.comparison()?;
    let kept = events.join("comparison.json");
    if run.resume {
        let differs = comparison.differs(&events::read_json(&kept)?)?;
        ensure!(
            differs.is_empty(),
            "{} was begun otherwise, and cannot be gone on with: {}",
            run.out.display(),
            differs.join(", ")
        );
        return Ok(comparison);
    }
    if events.exists() {
        std::fs::remove_dir_all(events).with_context(|| events.display().to_string())?;
    }
    std::fs::create_dir_all(events)?;
    events::write_json(&kept, &comparison)?;
    Ok(comparison)
}

/// Until somebody ends this process.
async fn ended() -> anyhow::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = term.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    Ok(())
}

fn tell(report: &Report, directory: &Path, readme: Option<&Path>) -> anyhow::Result<()> {
    println!("\n{}\n", report.shown());
    println!("{}", directory.join("report.html").display());
    match readme {
        Some(readme) => report.write_readme(readme),
        None => Ok(()),
    }
}
