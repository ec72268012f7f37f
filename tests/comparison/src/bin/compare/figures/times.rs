//! How long receipts take: to the acknowledgement, through the early stages, the whole way. Each from the begin of its post, and
//! in the window in which that was.

use std::collections::HashMap;

use end_to_end::Way;

use super::{Figures, external_id, percentile};
use crate::events::{Phase, Recorded, Span};

/// What is timed.
const KINDS: [&str; 3] = ["acknowledgement", "early_stages", "whole_way"];

/// What one receipt took, in milliseconds: kind by kind, as far as it came.
pub(super) struct Took {
    /// When its post was due.
    pub(super) begun_us: i64,
    times: [Option<f64>; 3],
}

impl Took {
    /// Through the early stages.
    pub(super) fn early_stages(&self) -> Option<f64> {
        self.times[1]
    }
}

pub(super) fn add(figures: &mut Figures, recorded: &Recorded) {
    let took = took(recorded);
    for (window, span) in windows(&recorded.phase) {
        for (index, kind) in KINDS.into_iter().enumerate() {
            let within = took.iter().filter(|took| span.has(took.begun_us));
            let times = sorted(within.filter_map(|took| took.times[index]));
            let shown = [
                ("p50", percentile(&times, 50)),
                ("p99", percentile(&times, 99)),
                ("max", times.last().copied()),
            ];
            for (name, value) in shown {
                if let Some(value) = value {
                    figures.set(format!("{kind}.{window}.{name}_ms"), value);
                }
            }
        }
    }
}

/// Before, during and after an outage, or all of the window.
fn windows(phase: &Phase) -> Vec<(&'static str, Span)> {
    let Some(outage) = phase.outage else {
        return vec![("all", phase.window)];
    };
    let before = Span {
        end_us: outage.begin_us,
        ..phase.window
    };
    let after = Span {
        begin_us: outage.end_us,
        ..phase.window
    };
    vec![("before", before), ("during", outage), ("after", after)]
}

/// What each receipt took.
pub(super) fn took(recorded: &Recorded) -> Vec<Took> {
    let ways: HashMap<&str, &Way> = recorded.ways.iter().map(|way| (external_id(way), way)).collect();
    let took = recorded.posts.iter().map(|post| {
        let way = ways.get(post.external_id.as_str());
        let ends = [
            post.acknowledged_us,
            way.and_then(|way| way.document_us),
            way.and_then(|way| way.done_us),
        ];
        Took {
            begun_us: post.begun_us,
            times: ends.map(|end| end.map(|end| milliseconds(end - post.begun_us))),
        }
    });
    took.collect()
}

/// Values in order.
pub(super) fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of hours are far below 2^52")]
fn milliseconds(micros: i64) -> f64 {
    micros as f64 / 1000.0
}
