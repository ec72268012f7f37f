//! Series that begin at zero with the process: a rate needs a value before the first event, and an alert a series.

use std::collections::BTreeSet;

use shared::pipeline::Pipeline;
use shared::telemetry::metrics::{begin_counter, begin_stages};

/// Begins them, for the pipeline and the destinations of the configuration.
pub fn begin(pipeline: &Pipeline, destinations: &BTreeSet<String>) {
    let internal = pipeline.stages.iter().filter(|stage| stage.destination().is_none());
    begin_stages("running", internal.map(|stage| stage.name.as_str()));
    for result in ["new", "same", "other"] {
        begin_counter("chekhov_receipts_accepted_total", &[("result", result)]);
    }
    for kind in ["internal", "external"] {
        begin_counter("chekhov_taken_over_total", &[("kind", kind)]);
    }
    for destination in destinations {
        for counter in ["chekhov_queued_total", "chekhov_lost_messages_total"] {
            begin_counter(counter, &[("destination", destination)]);
        }
    }
    for counter in [
        "chekhov_returned_messages_total",
        "chekhov_stale_steps_total",
        "chekhov_strays_total",
        "chekhov_declared_dead_total",
    ] {
        begin_counter(counter, &[]);
    }
    metrics::gauge!("chekhov_internal_backlog").set(0.0);
}
