//! What a collector that hangs costs: pairs of runs with and without one, beside pairs of two runs without.

#![expect(clippy::cast_precision_loss, reason = "counts of receipts, far below 2^52")]

use std::sync::Arc;

use anyhow::ensure;
use clap::Parser;
use end_to_end::{Collector, Options, Receipts, Stack};

use crate::loaded;
use crate::pairs::Figures;

/// Receipts that go first and are not measured: connections are opened, statements prepared, and the queue of spans is full.
const WARMING: usize = 2_000;

#[derive(Debug, Parser)]
pub struct Telemetry {
    /// Pairs of each kind
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    /// Receipts of each run
    #[arg(long, default_value_t = 10_000)]
    receipts: usize,
    /// Receipts under way at once
    #[arg(long, default_value_t = 512)]
    concurrency: usize,
}

/// Runs the pairs, each kind in turn and in it one and the other first, and judges the median by the spread of those that
/// differ in nothing.
pub async fn run(options: &Options, template: &str, arguments: &Telemetry) -> anyhow::Result<()> {
    let endpoint = Collector::hanging().await?;
    let hanging = options.clone().with("telemetry.endpoint", &endpoint);
    let without = Measured::start(options, template, arguments).await?;
    let again = Measured::start(options, template, arguments).await?;
    let hanging = Measured::start(&hanging, template, arguments).await?;
    let mut figures = Figures::default();
    let (mut alike, mut unlike) = (Vec::new(), Vec::new());
    for pair in 0..arguments.pairs {
        for turn in [pair % 2, 1 - pair % 2] {
            let (other, ratios, name) = if turn == 0 {
                (&again, &mut alike, "ratio, none to none")
            } else {
                (&hanging, &mut unlike, "ratio, hanging to none")
            };
            let (first, second) = if pair % 2 == 0 {
                let first = without.rate(template, arguments).await?;
                (first, other.rate(template, arguments).await?)
            } else {
                let second = other.rate(template, arguments).await?;
                (without.rate(template, arguments).await?, second)
            };
            figures.add("without a collector, receipts/s".to_owned(), first);
            figures.add(name.to_owned(), second / first);
            ratios.push(second / first);
            println!("pair {}: {name}: {:.3}", pair + 1, second / first);
        }
    }
    println!("{}", figures.table());
    hanging.lost().await?;
    alike.sort_by(f64::total_cmp);
    unlike.sort_by(f64::total_cmp);
    let (least, most) = (alike[0], alike[alike.len() - 1]);
    let median = f64::midpoint(unlike[(unlike.len() - 1) / 2], unlike[unlike.len() / 2]);
    println!(
        "the median with a collector that hangs: {median:.3}; two runs without one differ by {least:.3} to {most:.3}"
    );
    ensure!(median >= least, "a collector that hangs slows receipts");
    Ok(())
}

/// A stack that is measured.
struct Measured(Stack);

impl Measured {
    async fn start(options: &Options, template: &str, arguments: &Telemetry) -> anyhow::Result<Self> {
        let stack = Stack::start(options).await?;
        stack.ledger.set(&serde_json::json!({"done_after_ms": 0})).await?;
        let receipts = Arc::new(Receipts::new(template)?);
        loaded::run(&stack, &receipts, WARMING, arguments.concurrency)?;
        Ok(Self(stack))
    }

    /// Receipts a second.
    async fn rate(&self, template: &str, arguments: &Telemetry) -> anyhow::Result<f64> {
        self.0.ledger.forget().await?;
        let receipts = Arc::new(Receipts::new(template)?);
        let took = loaded::run(&self.0, &receipts, arguments.receipts, arguments.concurrency)?;
        let summary = self.0.ledger.summary().await?;
        ensure!(
            summary["registrations"] == arguments.receipts,
            "the simulator has: {summary}"
        );
        Ok(arguments.receipts as f64 / took.whole.as_secs_f64())
    }

    /// Spans were lost indeed, by both processes.
    async fn lost(&self) -> anyhow::Result<()> {
        for member in self.0.orchestrators.iter().chain(&self.0.dispatchers) {
            let lost = member
                .measured("chekhov_spans_dropped_total{reason=\"queue_full\"}")
                .await?;
            ensure!(lost.is_some_and(|lost| lost > 0.0), "no span was dropped");
        }
        Ok(())
    }
}
