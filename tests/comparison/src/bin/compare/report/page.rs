//! The page: one file with everything in it, also on paper.

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment};
use serde::Serialize;

use super::charts::{self, Bar, Line};
use super::table::{self, Table};
use super::{Outage, Report};
use crate::arms::Arm;
use crate::events::{Comparison, Scenario};

/// All that the template shows.
#[derive(Serialize)]
struct Page<'a> {
    comparison: &'a Comparison,
    verdict: &'a [String],
    caveats: &'a [String],
    temporal: &'a [String],
    figures: Vec<Figure>,
    costs: Vec<(&'static str, [String; 4])>,
    tables: Vec<Table>,
}

/// A chart and what it shows.
#[derive(Serialize)]
struct Figure {
    caption: String,
    svg: String,
}

/// The whole page.
pub(super) fn html(report: &Report) -> anyhow::Result<String> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.add_template("page", include_str!("page.html"))?;
    let costs = report.costs.iter().map(|(arm, cost)| {
        let cells = [cost.cores, cost.gib, cost.gb, cost.month].map(super::verdict::number);
        (arm.name(), cells)
    });
    let page = Page {
        comparison: &report.comparison,
        verdict: &report.verdict,
        caveats: &report.caveats,
        temporal: &report.temporal,
        figures: figures(report)?,
        costs: costs.collect(),
        tables: Scenario::ALL.map(|scenario| table::of(report, scenario)).into(),
    };
    Ok(environment.get_template("page")?.render(Serde(&page))?)
}

fn figures(report: &Report) -> anyhow::Result<Vec<Figure>> {
    let mut figures = vec![
        Figure {
            caption: "Receipts a second at most (closed loop)".to_owned(),
            svg: charts::bars(&each(report, |arm| {
                let rate = report.summary.median(arm, Scenario::Closed, "receipts_per_s")?;
                Some(vec![("receipts".to_owned(), rate)])
            }))?,
        },
        Figure {
            caption: "CPU seconds for 1,000 receipts, by process (open loop)".to_owned(),
            svg: charts::bars(&by_process(report, "cpu_s_per_1000."))?,
        },
        Figure {
            caption: "Memory at most in MiB, by process (open loop)".to_owned(),
            svg: charts::bars(&by_process(report, "memory_mib."))?,
        },
    ];
    for (scenario, did) in [(Scenario::Refusing, "refuses"), (Scenario::Hanging, "hangs")] {
        let outages: Vec<&Outage> = report
            .outages
            .iter()
            .filter(|outage| outage.scenario == scenario)
            .collect();
        if let Some(shaded) = outages.first().map(|outage| &outage.timeline) {
            let lines: Vec<Line> = outages.iter().map(|outage| line(outage)).collect();
            figures.push(Figure {
                caption: format!(
                    "Early stages, 99th percentile of the receipts posted in each second of the first run; the fiscal API {did} where it is shaded"
                ),
                svg: charts::lines(&lines, shaded.outage_begin..shaded.outage_end)?,
            });
        }
    }
    Ok(figures)
}

fn each(report: &Report, parts: impl Fn(Arm) -> Option<Vec<(String, f64)>>) -> Vec<Bar> {
    let bar = |arm: Arm| {
        Some(Bar {
            label: arm.to_string(),
            parts: parts(arm)?,
        })
    };
    report.summary.arms().filter_map(bar).collect()
}

fn by_process(report: &Report, prefix: &'static str) -> Vec<Bar> {
    each(report, |arm| {
        let all = report.summary.below(arm, Scenario::Open, prefix);
        let own = all.filter(|(process, _)| !["system", "driver", "simulator"].contains(process));
        let parts: Vec<_> = own
            .map(|(process, spread)| (process.to_owned(), spread.median))
            .collect();
        (!parts.is_empty()).then_some(parts)
    })
}

fn line(outage: &Outage) -> Line {
    let seconds = outage.timeline.early_p99_ms.iter().zip(0_u32..);
    Line {
        label: outage.arm.to_string(),
        points: seconds
            .filter_map(|(time, second)| Some((f64::from(second) + 0.5, (*time)?)))
            .collect(),
    }
}
