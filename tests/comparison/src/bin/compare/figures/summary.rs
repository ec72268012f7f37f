//! The figures of several runs: medians, and how far apart they are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Figures;
use crate::arms::Arm;
use crate::events::Scenario;

/// A figure of several runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The middle one; of an even number the mean of the two.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

/// The spread of every figure, by arm and scenario.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Summary(BTreeMap<Arm, BTreeMap<Scenario, BTreeMap<String, Spread>>>);

impl Summary {
    /// The spread of one figure.
    pub fn spread(&self, arm: Arm, scenario: Scenario, name: &str) -> Option<Spread> {
        self.0.get(&arm)?.get(&scenario)?.get(name).copied()
    }

    /// Its median.
    pub fn median(&self, arm: Arm, scenario: Scenario, name: &str) -> Option<f64> {
        self.spread(arm, scenario, name).map(|spread| spread.median)
    }

    /// The figures of one arm whose names begin so, by the rest of their names.
    pub fn below<'a>(
        &'a self,
        arm: Arm,
        scenario: Scenario,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, Spread)> {
        let figures = self.0.get(&arm).and_then(|scenarios| scenarios.get(&scenario));
        let all = figures.into_iter().flatten();
        all.filter_map(move |(name, spread)| Some((name.strip_prefix(prefix)?, *spread)))
    }

    /// Every arm that has any.
    pub fn arms(&self) -> impl Iterator<Item = Arm> {
        self.0.keys().copied()
    }
}

/// Summarizes the figures of all phases.
pub fn summarize<'a>(phases: impl IntoIterator<Item = (Arm, Scenario, &'a Figures)>) -> Summary {
    let mut values: BTreeMap<Arm, BTreeMap<Scenario, BTreeMap<String, Vec<f64>>>> = BTreeMap::new();
    for (arm, scenario, figures) in phases {
        let known = values.entry(arm).or_default().entry(scenario).or_default();
        for (name, value) in figures.all() {
            known.entry(name.to_owned()).or_default().push(value);
        }
    }
    let spread = |(name, values): (String, Vec<f64>)| Some((name, spread(values)?));
    let of_scenario =
        |(scenario, figures): (Scenario, BTreeMap<_, _>)| (scenario, figures.into_iter().filter_map(spread).collect());
    let of_arm = |(arm, scenarios): (Arm, BTreeMap<_, _>)| (arm, scenarios.into_iter().map(of_scenario).collect());
    Summary(values.into_iter().map(of_arm).collect())
}

fn spread(mut values: Vec<f64>) -> Option<Spread> {
    values.sort_by(f64::total_cmp);
    let (least, most) = (*values.first()?, *values.last()?);
    let median = f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2]);
    Some(Spread { median, least, most })
}
