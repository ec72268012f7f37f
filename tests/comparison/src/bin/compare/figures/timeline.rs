//! A phase second by second, for the eye.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::percentile;
use super::times::{sorted, took};
use crate::events::{Recorded, Span};

const SECOND: i64 = 1_000_000;

/// What happened in each second since the first post that counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// When the API went, in seconds.
    pub outage_begin: f64,
    /// When it was back.
    pub outage_end: f64,
    /// Of the posts of each second, the 99th percentile of their early stages in milliseconds.
    pub early_p99_ms: Vec<Option<f64>>,
    /// Receipts done in each second.
    pub done: Vec<usize>,
}

/// The timeline of an outage; none of anything else.
pub fn timeline(recorded: &Recorded) -> Option<Timeline> {
    let (window, outage) = (recorded.phase.window, recorded.phase.outage?);
    let since = |at_us: i64| {
        Span {
            begin_us: window.begin_us,
            end_us: at_us,
        }
        .seconds()
    };
    let second = |at_us: i64| usize::try_from((at_us - window.begin_us).div_euclid(SECOND));
    let mut early: Vec<Vec<f64>> = vec![Vec::new(); second(window.end_us).ok()?];
    for took in took(recorded) {
        let place = second(took.begun_us).ok().and_then(|second| early.get_mut(second));
        if let (Some(place), Some(time)) = (place, took.early_stages()) {
            place.push(time);
        }
    }
    let early = early
        .into_iter()
        .map(|times| percentile(&sorted(times.into_iter()), 99));
    let mut done: BTreeMap<usize, usize> = BTreeMap::new();
    for at in recorded.ways.iter().filter_map(|way| way.done_us) {
        if let Ok(second) = second(at) {
            *done.entry(second).or_default() += 1;
        }
    }
    let last = done.keys().next_back().map_or(0, |last| last + 1);
    Some(Timeline {
        outage_begin: since(outage.begin_us),
        outage_end: since(outage.end_us),
        early_p99_ms: early.collect(),
        done: (0..last)
            .map(|second| done.get(&second).copied().unwrap_or_default())
            .collect(),
    })
}
