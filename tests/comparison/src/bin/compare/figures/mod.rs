//! The figures of a phase, all by pure functions of its raw events.

mod cost;
mod outcome;
mod summary;
mod timeline;
mod times;
mod usage;

#[cfg(test)]
pub mod tests;

use std::collections::BTreeMap;

use end_to_end::Way;
use serde::{Deserialize, Serialize};

use crate::events::Recorded;

pub use cost::{Cost, Prices, cost};
pub use outcome::throughput;
pub use summary::{Spread, Summary, summarize};
pub use timeline::{Timeline, timeline};

/// Figures by name: what, of whom, when, in which unit: `early_stages.during.p99_ms`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Figures(BTreeMap<String, f64>);

impl Figures {
    fn set(&mut self, name: impl Into<String>, value: f64) {
        self.0.insert(name.into(), value);
    }

    /// One of them.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// All of them, in the order of their names.
    pub fn all(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }
}

/// All figures of a phase.
pub fn of(recorded: &Recorded) -> Figures {
    let mut figures = Figures::default();
    outcome::add(&mut figures, recorded);
    times::add(&mut figures, recorded);
    usage::add(&mut figures, recorded);
    figures
}

/// A phase in a line, for whoever waits.
pub fn line(recorded: &Recorded) -> String {
    let figures = of(recorded);
    let phase = &recorded.phase;
    let shown = |name: &str| figures.get(name).map_or("-".to_owned(), |value| format!("{value:.1}"));
    let window = if phase.outage.is_some() { "during" } else { "all" };
    format!(
        "run {} {:<14} {:<8} {:>7}/s, early stages p99 {} ms, CPU {} s/1,000, done {} of {}{}",
        phase.run,
        phase.arm.name(),
        phase.scenario.name(),
        shown("receipts_per_s"),
        shown(&format!("early_stages.{window}.p99_ms")),
        shown("cpu_s_per_1000.system"),
        shown("done"),
        shown("posted"),
        if phase.drained { "" } else { " (the watch ended first)" },
    )
}

/// The external id of a receipt's way.
pub fn external_id(way: &Way) -> &str {
    way.reference.split_once('/').map_or(&way.reference, |(_, id)| id)
}

/// The nearest-rank percentile of values in order; none of none.
fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[expect(clippy::cast_precision_loss, reason = "counts of receipts and bytes, far below 2^52")]
fn float(count: u64) -> f64 {
    count as f64
}

#[expect(clippy::cast_precision_loss, reason = "counts of receipts, far below 2^52")]
fn count(count: usize) -> f64 {
    count as f64
}
