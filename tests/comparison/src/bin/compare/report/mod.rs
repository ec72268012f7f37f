//! The report: everything that the events of a comparison come to, as JSON, as a page, and as the README's table.

mod caveats;
mod charts;
mod page;
mod table;
mod verdict;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use crate::arms::Arm;
use crate::events::{self, Comparison, Scenario};
use crate::figures::{self, Cost, Figures, Prices, Summary, Timeline};

/// The figures of one phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseFigures {
    run: u32,
    arm: Arm,
    scenario: Scenario,
    rate: Option<f64>,
    limit: Option<u32>,
    drained: bool,
    figures: Figures,
}

/// The timeline of an outage in the first run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outage {
    arm: Arm,
    scenario: Scenario,
    timeline: Timeline,
}

/// All that is reported.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    comparison: Comparison,
    /// Which to use and why.
    verdict: Vec<String>,
    /// What was not like for like.
    caveats: Vec<String>,
    /// Where Temporal is the better choice.
    temporal: Vec<String>,
    costs: BTreeMap<Arm, Cost>,
    summary: Summary,
    outages: Vec<Outage>,
    phases: Vec<PhaseFigures>,
}

impl Report {
    /// Computes all of it from what is kept below `directory`, with other prices if there are any.
    ///
    /// # Errors
    /// When events are missing or unreadable.
    pub fn of(directory: &Path, prices: Option<Prices>) -> anyhow::Result<Self> {
        let events = directory.join("events");
        let mut comparison: Comparison = events::read_json(&events.join("comparison.json"))?;
        comparison.prices = prices.unwrap_or(comparison.prices);
        let (mut phases, mut outages) = (Vec::new(), Vec::new());
        for recorded in events::read_all(&events)? {
            let recorded = recorded?;
            let phase = &recorded.phase;
            if phase.run == 1
                && let Some(timeline) = figures::timeline(&recorded)
            {
                let (arm, scenario) = (phase.arm, phase.scenario);
                outages.push(Outage {
                    arm,
                    scenario,
                    timeline,
                });
            }
            phases.push(PhaseFigures {
                run: phase.run,
                arm: phase.arm,
                scenario: phase.scenario,
                rate: phase.rate,
                limit: phase.limit,
                drained: phase.drained,
                figures: figures::of(&recorded),
            });
        }
        let all = phases.iter().map(|phase| (phase.arm, phase.scenario, &phase.figures));
        let summary = figures::summarize(all);
        let cost = |arm| Some((arm, figures::cost(&summary, arm, &comparison.prices)?));
        let costs: BTreeMap<_, _> = summary.arms().filter(|arm| arm.is_durable()).filter_map(cost).collect();
        Ok(Self {
            verdict: verdict::lines(&comparison, &summary, &costs),
            caveats: caveats::lines(&comparison, &phases),
            temporal: caveats::where_temporal(&summary),
            comparison,
            costs,
            summary,
            outages,
            phases,
        })
    }

    /// Writes `report.json` and `report.html`.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write(&self, directory: &Path) -> anyhow::Result<()> {
        events::write_json(&directory.join("report.json"), self)?;
        let page = directory.join("report.html");
        std::fs::write(&page, page::html(self)?).with_context(|| page.display().to_string())
    }

    /// Writes the table between its two marks in a README.
    ///
    /// # Errors
    /// When the marks are not there.
    pub fn write_readme(&self, readme: &Path) -> anyhow::Result<()> {
        let text = std::fs::read_to_string(readme).with_context(|| readme.display().to_string())?;
        let text = table::replaced(&text, &table::readme(self)).with_context(|| readme.display().to_string())?;
        std::fs::write(readme, text).with_context(|| readme.display().to_string())
    }

    /// The verdict and the table, for a terminal.
    pub fn shown(&self) -> String {
        format!("{}\n\n{}", self.verdict.join("\n"), table::readme(self))
    }

    /// Whether `report.json` and `report.html` are what the events come to.
    ///
    /// # Errors
    /// When they are not, or something cannot be read.
    pub fn check(directory: &Path) -> anyhow::Result<()> {
        let path = directory.join("report.json");
        let kept: Self = events::read_json(&path)?;
        let recomputed = Self::of(directory, Some(kept.comparison.prices))?;
        let text = serde_json::to_string_pretty(&recomputed)? + "\n";
        ensure!(
            std::fs::read_to_string(&path)? == text,
            "{} is not what its events come to",
            path.display()
        );
        let page = directory.join("report.html");
        ensure!(
            std::fs::read_to_string(&page)? == page::html(&recomputed)?,
            "{} is not what its events come to",
            page.display()
        );
        Ok(())
    }
}
