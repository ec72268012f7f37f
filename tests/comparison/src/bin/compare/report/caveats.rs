//! What the figures do not show: what was not like for like, and where another choice is the better one.

use end_to_end::UnderWay;

use super::PhaseFigures;
use super::verdict::number;
use crate::arms::Arm;
use crate::events::{Comparison, Scenario};
use crate::figures::Summary;

/// What a comparison that was ended has so far.
pub(super) fn unfinished(comparison: &Comparison, phases: &[PhaseFigures]) -> Option<String> {
    let is_there = |run, arm, scenario| {
        let mut phases = phases.iter();
        phases.any(|phase| (phase.run, phase.arm, phase.scenario) == (run, arm, scenario))
    };
    let is_whole = |run, arm| comparison.scenarios(arm).all(|scenario| is_there(run, arm, scenario));
    let made = comparison.arms.iter().map(|arm| {
        let runs = (1..=comparison.runs).filter(|run| is_whole(*run, *arm));
        (*arm, runs.count())
    });
    let made: Vec<_> = made.collect();
    if made.iter().all(|(_, runs)| *runs == comparison.runs as usize) {
        return None;
    }
    let made = made.iter().map(|(arm, runs)| format!("{arm} {runs}"));
    let made = made.collect::<Vec<_>>().join(", ");
    Some(format!(
        "Not all of it has been made. Of {} runs there are: {made}.",
        comparison.runs
    ))
}

/// What was not like for like.
pub(super) fn lines(comparison: &Comparison, phases: &[PhaseFigures]) -> Vec<String> {
    let has = |wanted: fn(Arm) -> bool| comparison.arms.iter().any(|arm| wanted(*arm));
    let mut lines = Vec::from_iter(unfinished(comparison, phases));
    lines.extend([
        format!(
            "Everything shares {} cores: the arm, its servers, the simulator of all services and the driver. An arm of few \
             processes leaves the others more of them; a cluster would not. PostgreSQL has no replica here{}.",
            comparison.cores,
            if comparison.fsync { "" } else { ", and was not made to wait for the disk" },
        ),
        format!(
            "In the open loops each arm has {} of its own maximum, so that none is overloaded: a faster arm bears more receipts a \
             second in them, and has a longer backlog after an outage. The API comes back with a limit that is the arm's own \
             maximum in calls a second.",
            comparison.share
        ),
        format!(
            "Calls in flight at most: {}. single has so many slots for all stages; split has up to 64 of them for each internal \
             service, as by default, and the rest for the fiscal API; Temporal's worker has the slots of its own set-up.",
            comparison.calls
        ),
        format!(
            "Early stages end with the answer to the last internal call, the whole way with the report that says so, by the \
         simulator's clock; both begin when the post was due, by the driver's. The closed loop is closed by the simulator's count of \
         what is done, asked every {} ms.",
            UnderWay::LOOK.as_millis()
        ),
        "Bytes written to disks are those of processes that still live: PostgreSQL's short-lived ones take their counts with them. \
         What counts is what PostgreSQL says that it wrote ahead."
            .to_owned(),
    ]);
    if has(|arm| arm == Arm::Bare) {
        lines.push(
            "bare makes its load itself and keeps nothing: an outage would lose what it has under way, so it takes part in steady \
             load alone, and nobody acknowledges anything."
                .to_owned(),
        );
    }
    if has(|arm| arm == Arm::Single) {
        lines.push("single was written for this comparison, after its description: one queue, a slot held during an attempt. It \
             has Chekhov's store and stage code, and none of its breaker."
                .to_owned());
    }
    if has(|arm| arm == Arm::Split) {
        lines.push("split comes back to an API in steps, as it ships: while the API is away it looks once a second at first and \
             every half minute at most, and then takes half a minute to its whole limit, so that what has just come back is not \
             pushed over. The others call as much as they may at once. Both count in its time to drain."
            .to_owned());
    }
    if has(Arm::is_temporal) {
        lines.push(format!(
            "Temporal: {}. Its worker is written on the SDK for Rust, which is younger than those for Go and Java; history, queues \
             and visibility share the one PostgreSQL.",
            comparison.temporal
        ));
    }
    let unended = phases.iter().filter(|phase| !phase.drained).map(|phase| {
        let scenario = phase.scenario.name();
        format!("{} in {scenario} (run {})", phase.arm, phase.run)
    });
    let unended: Vec<_> = unended.collect();
    if !unended.is_empty() {
        lines.push(format!(
            "Not all was done when the watch ended: {}. What was not registered by then is counted as lost.",
            unended.join(", ")
        ));
    }
    if comparison.quick || comparison.build != "release" {
        lines.push(format!(
            "A quick look: phases of {} s, one run or few, {} binaries. No figure of it is to be quoted.",
            comparison.seconds, comparison.build
        ));
    }
    lines
}

/// Where Temporal is the better choice; by the figures, too.
pub(super) fn where_temporal(summary: &Summary) -> Vec<String> {
    let mut lines = vec![
        "The work is not a list of HTTP calls: branches, loops, signals, child workflows and timers of months are code there, and \
         need a service behind a stage here."
            .to_owned(),
        "Several languages, teams or products are to share one engine, with a page that shows every workflow's history.".to_owned(),
        "It is there already, with people who run it: then its memory and its operation are paid for.".to_owned(),
        "Workflows change in the middle of their way: it replays old ones with the code that they began with; a pipeline here \
         finishes as it began."
            .to_owned(),
    ];
    let better = |scenario: Scenario, name: &str, less: bool| {
        let of = |arm| summary.median(arm, scenario, name);
        let ours = of(Arm::Split)?;
        let theirs = [Arm::Temporal, Arm::TemporalTuned]
            .into_iter()
            .filter_map(|arm| Some((arm, of(arm)?)));
        let found = theirs.filter(|(_, value)| if less { *value < ours } else { *value > ours });
        found.map(|(arm, value)| (arm, value, ours)).next()
    };
    for (what, scenario, name, less) in [
        ("receipts a second at most", Scenario::Closed, "receipts_per_s", false),
        (
            "acknowledgement, 99th percentile in ms",
            Scenario::Open,
            "acknowledgement.all.p99_ms",
            true,
        ),
        (
            "early stages, 99th percentile in ms",
            Scenario::Open,
            "early_stages.all.p99_ms",
            true,
        ),
        (
            "seconds until a backlog is drained",
            Scenario::Hanging,
            "outage.drain_s",
            true,
        ),
        ("MiB of memory", Scenario::Open, "memory_mib.system", true),
    ] {
        if let Some((arm, theirs, ours)) = better(scenario, name, less) {
            lines.push(format!(
                "By the figures: {what}: {arm} {}, split {}, each at its own load.",
                number(theirs),
                number(ours)
            ));
        }
    }
    lines
}
