//! Series that begin at zero with the process: a rate needs a value before the first event, and an alert a series.

use std::collections::BTreeSet;

use shared::pipeline::Pipeline;
use shared::telemetry::metrics::{begin_counter, begin_stages};

/// Begins them, for the pipeline and the destinations of the configuration.
pub fn begin(pipeline: &Pipeline, destinations: &BTreeSet<String>) {
    let external = pipeline.stages.iter().filter(|stage| stage.destination().is_some());
    begin_stages("dispatching", external.clone().map(|stage| stage.name.as_str()));
    for destination in destinations {
        for counter in [
            "chekhov_destination_closings_total",
            "chekhov_credentials_refused_total",
            "chekhov_slots_used_total",
        ] {
            begin_counter(counter, &[("destination", destination)]);
        }
        for result in ["alive", "failed", "nothing"] {
            begin_counter(
                "chekhov_canaries_total",
                &[("destination", destination), ("result", result)],
            );
        }
        for result in ["fetched", "failed"] {
            begin_counter(
                "chekhov_tokens_total",
                &[("destination", destination), ("result", result)],
            );
        }
    }
    for stage in external {
        begin_counter(
            "chekhov_lookup_proofs_total",
            &[("stage", &stage.name), ("result", "found")],
        );
    }
    for counter in [
        "chekhov_missed_slots_total",
        "chekhov_stale_messages_total",
        "chekhov_unreadable_messages_total",
        "chekhov_failed_acknowledgements_total",
        "chekhov_stale_steps_total",
        "chekhov_strays_total",
        "chekhov_declared_dead_total",
    ] {
        begin_counter(counter, &[]);
    }
}
