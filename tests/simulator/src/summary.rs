//! What the ledger comes to: the figures tests are judged by.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::ledger::Ledger;
use crate::route::Api;

/// How many references that were registered more than once are named.
const NAMED: usize = 20;

/// The figures of `GET /ledger`.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    /// Calls by target, and their `total`.
    calls: BTreeMap<&'static str, u64>,
    registrations: u64,
    /// Registrations that were reported as failed later, and do not count above.
    registrations_failed: u64,
    /// References that were registered more than once.
    registered_twice: usize,
    /// The first of them.
    twice: Vec<Arc<str>>,
    by_operation: BTreeMap<String, u64>,
    /// Calls that a fault struck, by target and mode.
    struck: BTreeMap<&'static str, BTreeMap<&'static str, u64>>,
    max_calls_in_1s: usize,
    max_sent_in_1s: usize,
    /// Fiscal calls that waited for their answer at once.
    max_under_way: usize,
}

impl Summary {
    /// The figures, without the maxima, and the instants those are found from: cheap enough for under the lock.
    pub(crate) fn of(ledger: &Ledger) -> (Self, Instants) {
        let mut calls: BTreeMap<_, _> = ledger
            .per_target
            .iter()
            .map(|(target, n)| (target.name(), *n))
            .collect();
        calls.insert("total", ledger.per_target.values().sum());
        let limited = || {
            ledger
                .calls
                .iter()
                .filter(|call| call.target.limited() == Some(Api::Fiscal))
        };
        let instants = Instants {
            arrived: limited().map(|call| call.at).collect(),
            sent: limited().filter_map(|call| call.sent_at).collect(),
        };
        let mut struck: BTreeMap<_, BTreeMap<_, u64>> = BTreeMap::new();
        for call in &ledger.calls {
            if let Some(fault) = call.fault {
                *struck.entry(call.target.name()).or_default().entry(fault).or_default() += 1;
            }
        }
        let summary = Self {
            calls,
            registrations: ledger.registrations,
            registrations_failed: ledger.failed,
            registered_twice: ledger.twice.len(),
            twice: ledger.twice.iter().take(NAMED).cloned().collect(),
            by_operation: ledger.by_operation.clone(),
            struck,
            max_calls_in_1s: 0,
            max_sent_in_1s: 0,
            max_under_way: ledger.most_under_way,
        };
        (summary, instants)
    }

    /// Adds the maxima.
    pub(crate) fn with(self, Instants { arrived, sent }: Instants) -> Self {
        Self {
            max_calls_in_1s: busiest_second(arrived),
            max_sent_in_1s: busiest_second(sent),
            ..self
        }
    }
}

/// When fiscal calls arrived, and when their headers say they were sent.
#[derive(Debug)]
pub(crate) struct Instants {
    arrived: Vec<i64>,
    sent: Vec<i64>,
}

/// The most instants in any window of one second, a window's end not being part of it.
fn busiest_second(mut instants: Vec<i64>) -> usize {
    instants.sort_unstable();
    let mut first = 0;
    let windows = instants.iter().enumerate().map(|(last, at)| {
        while at - instants[first] >= 1000 {
            first += 1;
        }
        last - first + 1
    });
    windows.max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::busiest_second;

    #[test]
    fn the_busiest_second_may_begin_anywhere() {
        assert_eq!(busiest_second(vec![]), 0);
        assert_eq!(busiest_second(vec![1999, 0, 900, 1000, 1899, 5000]), 3);
    }
}
