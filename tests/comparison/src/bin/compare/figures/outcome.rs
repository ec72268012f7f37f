//! How much came through, and what became of all.

use std::collections::HashMap;

use super::{Figures, count, external_id};
use crate::events::{Recorded, Span};

/// Receipts that were done in the window, a second.
pub fn throughput(recorded: &Recorded) -> f64 {
    let window = recorded.phase.window;
    count(done_in(recorded, window)) / window.seconds()
}

/// How many were done in a stretch of time.
pub(super) fn done_in(recorded: &Recorded, span: Span) -> usize {
    let done = recorded.ways.iter().filter_map(|way| way.done_us);
    done.filter(|at| span.has(*at)).count()
}

pub(super) fn add(figures: &mut Figures, recorded: &Recorded) {
    let phase = &recorded.phase;
    figures.set("receipts_per_s", throughput(recorded));
    figures.set("posted", count(recorded.posts.len()));
    let repeats = recorded.posts.iter().map(|post| u64::from(post.repeats)).sum();
    figures.set("posts_repeated", super::float(repeats));
    let ways = &recorded.ways;
    figures.set("done", count(ways.iter().filter(|way| way.done_us.is_some()).count()));
    let twice = ways.iter().filter(|way| way.registered > 1).count();
    figures.set("registered_twice", count(twice));
    figures.set("lost", count(lost(recorded)));
    if let Some(outage) = phase.outage {
        let calls = count(recorded.calls.iter().filter(|call| outage.has(call.at_us)).count());
        figures.set("outage.fiscal_calls", calls);
        figures.set("outage.fiscal_calls_per_s", calls / outage.seconds());
        if let Some(drain) = drain(recorded, outage) {
            figures.set("outage.drain_s", drain);
        }
    }
}

/// Accepted (or, where nobody accepts, begun) and not registered when the watch ended.
fn lost(recorded: &Recorded) -> usize {
    let registered: HashMap<&str, u64> = recorded
        .ways
        .iter()
        .map(|way| (external_id(way), way.registered))
        .collect();
    let is_ours = |acknowledged: Option<i64>| !recorded.phase.arm.is_durable() || acknowledged.is_some();
    let posts = recorded.posts.iter().filter(|post| is_ours(post.acknowledged_us));
    posts
        .filter(|post| {
            registered
                .get(post.external_id.as_str())
                .is_none_or(|times| *times == 0)
        })
        .count()
}

/// From the API's return until the last receipt that was posted before it is done; none while one of them is not.
fn drain(recorded: &Recorded, outage: Span) -> Option<f64> {
    let done: HashMap<&str, Option<i64>> = recorded
        .ways
        .iter()
        .map(|way| (external_id(way), way.done_us))
        .collect();
    let before = recorded.posts.iter().filter(|post| post.begun_us < outage.end_us);
    let ends: Option<Vec<i64>> = before
        .map(|post| done.get(post.external_id.as_str()).copied().flatten())
        .collect();
    let last = ends?.into_iter().max()?.max(outage.end_us);
    let whole = Span {
        begin_us: outage.end_us,
        end_us: last,
    };
    Some(whole.seconds())
}
