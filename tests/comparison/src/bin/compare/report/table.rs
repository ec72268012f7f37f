//! The tables: one of each scenario for the page, and a short one for the README.

use anyhow::Context;
use serde::Serialize;

use super::verdict::number;
use super::{Report, caveats};
use crate::arms::Arm;
use crate::events::Scenario;
use crate::figures::Spread;

const BEGIN: &str = "<!-- comparison -->";
const END: &str = "<!-- /comparison -->";

/// A table with a column for each arm.
#[derive(Debug, Serialize)]
pub(super) struct Table {
    /// What it shows.
    title: String,
    /// The arms.
    arms: Vec<&'static str>,
    /// A name and a cell for each arm.
    rows: Vec<(String, Vec<String>)>,
}

/// A row of the README's: what, in which scenario, which figure, and by what it is divided.
const README: [(&str, Scenario, &str, f64); 13] = [
    ("receipts a second at most", Scenario::Closed, "receipts_per_s", 1.0),
    (
        "CPU seconds for 1,000 receipts",
        Scenario::Open,
        "cpu_s_per_1000.system",
        1.0,
    ),
    ("memory at most, MiB", Scenario::Open, "memory_mib.system", 1.0),
    (
        "written ahead by PostgreSQL, kB a receipt",
        Scenario::Open,
        "wal_bytes_per_receipt",
        1000.0,
    ),
    (
        "acknowledgement, 99th percentile, ms",
        Scenario::Open,
        "acknowledgement.all.p99_ms",
        1.0,
    ),
    (
        "whole way, 99th percentile, ms",
        Scenario::Open,
        "whole_way.all.p99_ms",
        1.0,
    ),
    (
        "early stages, 99th percentile, ms",
        Scenario::Open,
        "early_stages.all.p99_ms",
        1.0,
    ),
    (
        "… while the fiscal API refuses",
        Scenario::Refusing,
        "early_stages.during.p99_ms",
        1.0,
    ),
    ("… while it hangs", Scenario::Hanging, "early_stages.during.p99_ms", 1.0),
    (
        "fiscal calls while it refuses",
        Scenario::Refusing,
        "outage.fiscal_calls",
        1.0,
    ),
    (
        "fiscal calls while it hangs",
        Scenario::Hanging,
        "outage.fiscal_calls",
        1.0,
    ),
    ("drained after it hung, s", Scenario::Hanging, "outage.drain_s", 1.0),
    (
        "whole way in the storm, 99th percentile, ms",
        Scenario::Storm,
        "whole_way.all.p99_ms",
        1.0,
    ),
];

/// A line of a Markdown table.
fn row(what: &str, cells: impl Iterator<Item = String>) -> String {
    let what = if what.is_empty() {
        String::new()
    } else {
        format!(" {what}")
    };
    let cells: Vec<String> = cells.collect();
    format!("|{what} | {} |", cells.join(" | "))
}

/// The README's table.
pub(super) fn readme(report: &Report) -> String {
    let arms: Vec<Arm> = report.summary.arms().collect();
    let mut lines = Vec::new();
    if let Some(unfinished) = caveats::unfinished(&report.comparison, &report.phases) {
        lines.extend([unfinished, String::new()]);
    }
    lines.extend([
        row("", arms.iter().map(|arm| format!("`{arm}`"))),
        format!("|---|{}", "---:|".repeat(arms.len())),
    ]);
    let mut line = |what: &str, cell: &dyn Fn(Arm) -> Option<String>| {
        lines.push(row(what, arms.iter().map(|arm| cell(*arm).unwrap_or_default())));
    };
    for (what, scenario, name, unit) in README {
        line(what, &|arm| {
            Some(shown(report.summary.spread(arm, scenario, name)?, unit))
        });
    }
    for (what, name) in [("registered twice", "registered_twice"), ("lost", "lost")] {
        line(what, &|arm| {
            let counts = Scenario::ALL
                .into_iter()
                .filter_map(|scenario| report.summary.spread(arm, scenario, name));
            counts.map(|spread| spread.most).reduce(f64::max).map(number)
        });
    }
    let what = format!(
        "a cluster for {} receipts a second, a month",
        number(report.comparison.prices.rate)
    );
    line(&what, &|arm| Some(number(report.costs.get(&arm)?.month)));
    lines.join("\n")
}

/// A README with another table between its marks.
pub(super) fn replaced(text: &str, table: &str) -> anyhow::Result<String> {
    let (before, rest) = text.split_once(BEGIN).context("there is no <!-- comparison -->")?;
    let (_, after) = rest.split_once(END).context("there is no <!-- /comparison -->")?;
    Ok(format!("{before}{BEGIN}\n{table}\n{END}{after}"))
}

/// Every figure of a scenario.
pub(super) fn of(report: &Report, scenario: Scenario) -> Table {
    let with = |arm: &Arm| report.summary.below(*arm, scenario, "").next().is_some();
    let arms: Vec<Arm> = report.summary.arms().filter(with).collect();
    let mut names: Vec<&str> = arms
        .iter()
        .flat_map(|arm| report.summary.below(*arm, scenario, ""))
        .map(|(name, _)| name)
        .collect();
    names.sort_unstable();
    names.dedup();
    let row = |name: &str| {
        let cell = |arm: &Arm| {
            let spread = report.summary.spread(*arm, scenario, name);
            spread.map_or_else(String::new, |spread| shown(spread, 1.0))
        };
        (
            name.replace('_', " ").replace('.', " · "),
            arms.iter().map(cell).collect(),
        )
    };
    Table {
        title: scenario.name().to_owned(),
        rows: names.into_iter().map(row).collect(),
        arms: arms.iter().map(|arm| arm.name()).collect(),
    }
}

/// A median, and where runs differed the least and the most.
fn shown(spread: Spread, unit: f64) -> String {
    let [median, least, most] = [spread.median, spread.least, spread.most].map(|value| number(value / unit));
    if least == most {
        median
    } else {
        format!("{median} ({least} to {most})")
    }
}

#[cfg(test)]
mod tests {
    use super::replaced;

    #[test]
    fn what_stands_between_the_marks_is_replaced() {
        let text = "a\n<!-- comparison -->\nold\n<!-- /comparison -->\nb\n";
        let wanted = "a\n<!-- comparison -->\n| new |\n<!-- /comparison -->\nb\n";
        assert_eq!(replaced(text, "| new |").unwrap(), wanted);
        assert_eq!(replaced(wanted, "| new |").unwrap(), wanted);
        assert!(replaced("no marks", "").is_err());
    }
}
