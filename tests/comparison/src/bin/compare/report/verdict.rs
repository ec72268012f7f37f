//! Which arm to use and why, in a few lines, all of them computed.

use std::collections::BTreeMap;

use crate::arms::Arm;
use crate::events::{Comparison, Scenario};
use crate::figures::{Cost, Summary};

const OUTAGES: [(Scenario, &str); 2] = [(Scenario::Refusing, "refused"), (Scenario::Hanging, "hung")];

/// The choice, and a line for each thing that speaks for or against it.
pub(super) fn lines(comparison: &Comparison, summary: &Summary, costs: &BTreeMap<Arm, Cost>) -> Vec<String> {
    let durable: Vec<Arm> = summary.arms().filter(|arm| arm.is_durable()).collect();
    let mut lines = vec![choice(summary, costs, &durable)];
    let all: Vec<Arm> = summary.arms().collect();
    let each = |arms: &[Arm], shown: &dyn Fn(Arm) -> Option<String>| {
        let shown = arms.iter().filter_map(|arm| Some(format!("{arm} {}", shown(*arm)?)));
        shown.collect::<Vec<_>>().join(", ")
    };
    let median = |arm, scenario, name: &str| summary.median(arm, scenario, name);
    let mut line = |what: &str, arms: &[Arm], shown: &dyn Fn(Arm) -> Option<String>| {
        let text = each(arms, shown);
        if !text.is_empty() {
            lines.push(format!("{what}: {text}."));
        }
    };
    let bare = median(Arm::Bare, Scenario::Closed, "receipts_per_s");
    line("Receipts a second at most", &all, &|arm| {
        let rate = median(arm, Scenario::Closed, "receipts_per_s")?;
        let share = bare.filter(|_| arm.is_durable()).map(|bare| rate / bare);
        let share = share.map(|share| format!(" ({share:.2} of bare)")).unwrap_or_default();
        Some(format!("{}{share}", number(rate)))
    });
    let tuned = median(Arm::TemporalTuned, Scenario::Closed, "receipts_per_s");
    line("Of those, to temporal-tuned's", &[Arm::Single, Arm::Split], &|arm| {
        let rate = median(arm, Scenario::Closed, "receipts_per_s")?;
        Some(format!("{:.1} times as many", rate / tuned?))
    });
    for (scenario, did) in OUTAGES {
        let what = format!("Early stages, 99th percentile, before the fiscal API {did} and while it did");
        line(&what, &durable, &|arm| {
            let of = |window: &str| median(arm, scenario, &format!("early_stages.{window}.p99_ms"));
            Some(format!("{} and {} ms", number(of("before")?), number(of("during")?)))
        });
    }
    line("Fiscal calls during an outage that hangs", &durable, &|arm| {
        median(arm, Scenario::Hanging, "outage.fiscal_calls").map(number)
    });
    for (scenario, did) in OUTAGES {
        line(&format!("Drained after it {did}"), &durable, &|arm| {
            Some(format!("{} s", number(median(arm, scenario, "outage.drain_s")?)))
        });
    }
    let bare = median(Arm::Bare, Scenario::Open, "cpu_s_per_1000.system");
    line("CPU seconds for 1,000 receipts, on time", &all, &|arm| {
        let used = median(arm, Scenario::Open, "cpu_s_per_1000.system")?;
        let more = bare.filter(|_| arm.is_durable()).map(|bare| (used - bare) / bare);
        let more = more.map(|more| format!(" (bare's and {more:.1} times as much)"));
        Some(format!("{}{}", number(used), more.unwrap_or_default()))
    });
    line("Memory at most, all processes, on time", &all, &|arm| {
        Some(format!(
            "{} MiB",
            number(median(arm, Scenario::Open, "memory_mib.system")?)
        ))
    });
    line("Written ahead by PostgreSQL a receipt", &durable, &|arm| {
        let bytes = median(arm, Scenario::Open, "wal_bytes_per_receipt")?;
        Some(format!("{} kB", number(bytes / 1000.0)))
    });
    line(
        "Registered twice and lost, all scenarios and runs at most",
        &durable,
        &|arm| {
            Some(format!(
                "{} and {}",
                number(worst(summary, arm, "registered_twice")),
                number(worst(summary, arm, "lost"))
            ))
        },
    );
    let what = format!(
        "A cluster for {} receipts a second, by the prices below",
        number(comparison.prices.rate)
    );
    line(&what, &durable, &|arm| {
        Some(format!("{} a month", number(costs.get(&arm)?.month)))
    });
    lines
}

/// The cheapest of those that lost nothing, registered nothing twice and do not feel an outage; where all feel it, the one that
/// feels it least.
fn chosen(summary: &Summary, costs: &BTreeMap<Arm, Cost>, durable: &[Arm]) -> Option<Arm> {
    let sound = |arm: &&Arm| is_sound(summary, **arm);
    let unfelt = durable
        .iter()
        .filter(sound)
        .filter(|arm| feels(summary, **arm) == Some(false));
    let month = |arm: &&Arm| costs.get(*arm).map_or(f64::INFINITY, |cost| cost.month);
    let cheapest = unfelt.min_by(|one, other| month(one).total_cmp(&month(other)));
    let least = || {
        let felt = |arm: &&Arm| felt(summary, **arm).unwrap_or(f64::INFINITY);
        durable
            .iter()
            .filter(sound)
            .min_by(|one, other| felt(one).total_cmp(&felt(other)))
    };
    cheapest.or_else(least).copied()
}

fn choice(summary: &Summary, costs: &BTreeMap<Arm, Cost>, durable: &[Arm]) -> String {
    let Some(chosen) = chosen(summary, costs, durable) else {
        return "No arm registered every receipt exactly once here: these figures recommend none.".to_owned();
    };
    let Some(felt) = felt(summary, chosen) else {
        return "No arm went through an outage here: these figures recommend none.".to_owned();
    };
    if feels(summary, chosen) == Some(false) {
        format!(
            "Use {chosen}: it lost nothing and registered nothing twice, its early stages took no longer in an outage than they did \
             at most without one ({felt:.1} times as long as before it), and of the arms of which both is true a cluster of it costs \
             least."
        )
    } else {
        format!(
            "Use {chosen}: it lost nothing and registered nothing twice; every arm felt the outages here, and its early stages felt \
             them least: they took {felt:.1} times as long as before."
        )
    }
}

/// Whether early stages took longer during an outage than in any run without one: before it, and on time all along.
fn feels(summary: &Summary, arm: Arm) -> Option<bool> {
    let early = |scenario, window: &str| summary.spread(arm, scenario, &format!("early_stages.{window}.p99_ms"));
    let before = OUTAGES.iter().map(|(scenario, _)| early(*scenario, "before"));
    let calm = before.chain([early(Scenario::Open, "all")]).flatten();
    let calm = calm.map(|spread| spread.most).max_by(f64::total_cmp)?;
    let mut during = OUTAGES.iter().map(|(scenario, _)| early(*scenario, "during"));
    during.try_fold(false, |felt, during| Some(felt || during?.median > calm))
}

/// How many times as long early stages took during the worse outage as before it.
fn felt(summary: &Summary, arm: Arm) -> Option<f64> {
    let ratios = OUTAGES.map(|(scenario, _)| {
        let of = |window: &str| summary.median(arm, scenario, &format!("early_stages.{window}.p99_ms"));
        Some(of("during")? / of("before")?)
    });
    ratios.into_iter().flatten().max_by(f64::total_cmp)
}

fn is_sound(summary: &Summary, arm: Arm) -> bool {
    worst(summary, arm, "registered_twice") == 0.0 && worst(summary, arm, "lost") == 0.0
}

/// The most of a count in any run of any scenario.
fn worst(summary: &Summary, arm: Arm, name: &str) -> f64 {
    let counts = Scenario::ALL
        .into_iter()
        .filter_map(|scenario| summary.spread(arm, scenario, name));
    counts.map(|spread| spread.most).fold(0.0, f64::max)
}

/// A number as people write it: as many digits as it is worth.
pub(super) fn number(value: f64) -> String {
    match value.abs() {
        1000.0.. => grouped(value),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        0.0 => "0".to_owned(),
        _ if value.fract() == 0.0 => format!("{value:.0}"),
        _ => format!("{value:.2}"),
    }
}

fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        let left = digits.len() - place;
        if place > 0 && left % 3 == 0 && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Arm, BTreeMap, Scenario, Summary, choice, feels, number};
    use crate::figures::{Figures, summarize};

    #[test]
    fn without_an_outage_no_arm_is_chosen() {
        let steady: Figures = serde_json::from_value(json!({"registered_twice": 0.0, "lost": 0.0})).unwrap();
        let outage: Figures = serde_json::from_value(json!({
            "registered_twice": 0.0, "lost": 0.0, "early_stages.before.p99_ms": 20.0, "early_stages.during.p99_ms": 50.0,
        }))
        .unwrap();
        let said = |phases: &[(Scenario, &Figures)]| {
            let phases = phases
                .iter()
                .map(|(scenario, figures)| (Arm::Split, *scenario, *figures));
            choice(&summarize(phases), &BTreeMap::new(), &[Arm::Split])
        };
        let recommends = |text: String| text.starts_with("Use split");
        assert!(!recommends(said(&[(Scenario::Closed, &steady)])));
        assert!(recommends(said(&[
            (Scenario::Closed, &steady),
            (Scenario::Hanging, &outage)
        ])));
    }

    #[test]
    fn an_outage_is_felt_beyond_what_early_stages_take_without_one() {
        let summary = |during: f64| {
            let figures = |value| serde_json::from_value::<Figures>(value).unwrap();
            let on_time = figures(json!({"early_stages.all.p99_ms": 40.0}));
            let outage = figures(json!({"early_stages.before.p99_ms": 20.0, "early_stages.during.p99_ms": during}));
            let phases = [
                (Scenario::Open, &on_time),
                (Scenario::Refusing, &outage),
                (Scenario::Hanging, &outage),
            ];
            summarize(phases.map(|(scenario, figures)| (Arm::Split, scenario, figures)))
        };
        assert_eq!(feels(&summary(39.0), Arm::Split), Some(false));
        assert_eq!(feels(&summary(41.0), Arm::Split), Some(true));
        assert_eq!(feels(&Summary::default(), Arm::Split), None);
    }

    #[test]
    fn numbers_are_read_by_people() {
        let shown = [1_234_567.0, 999.6, 42.26, 7.0, 0.125, 0.0].map(number);
        assert_eq!(shown, ["1,234,567", "1000", "42.3", "7", "0.12", "0"]);
    }
}
