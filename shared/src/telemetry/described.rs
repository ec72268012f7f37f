//! Every metric of both processes: what `/metrics` says of them, and what `deploy/docs/metrics.md` lists.
//!
//! Labels have few values: never a merchant, a receipt, a key, or words of somebody else's.

use metrics::{describe_counter, describe_gauge, describe_histogram};

/// What kind of metric it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only rises.
    Counter,
    /// It is what it is at the moment.
    Gauge,
    /// How often which sizes were seen.
    Histogram,
}

impl Kind {
    /// As Prometheus names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Which processes have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// Orchestrators.
    Orchestrator,
    /// Dispatchers.
    Dispatcher,
    /// Both.
    Both,
}

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What kind it is.
    pub kind: Kind,
    /// Whose.
    pub of: Of,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it says.
    pub meaning: &'static str,
}

const fn counter(name: &'static str, of: Of, labels: &'static [&'static str], meaning: &'static str) -> Metric {
    let kind = Kind::Counter;
    Metric {
        name,
        kind,
        of,
        labels,
        meaning,
    }
}

const fn gauge(name: &'static str, of: Of, labels: &'static [&'static str], meaning: &'static str) -> Metric {
    let kind = Kind::Gauge;
    Metric {
        name,
        kind,
        of,
        labels,
        meaning,
    }
}

const fn histogram(name: &'static str, of: Of, labels: &'static [&'static str], meaning: &'static str) -> Metric {
    let kind = Kind::Histogram;
    Metric {
        name,
        kind,
        of,
        labels,
        meaning,
    }
}

use Of::{Both, Dispatcher, Orchestrator};

/// All of them, as a reader looks for them: receipts, attempts and calls, destinations, the hand-off, the store, mending.
#[rustfmt::skip]
pub const METRICS: &[Metric] = &[
    gauge("chekhov_receipts", Orchestrator, &["state", "kind", "stage", "destination"],
        "receipts that nobody works on: `waiting` (kind: `internal` for an orchestrator, `timer`, `turn` for their first call, `original` for the end of another), `parked`, `queued` (without a stage); every orchestrator shows the same"),
    gauge("chekhov_receipts_in_work", Both, &["state", "stage"],
        "receipts that this process works on: `running` or `dispatching`; the sum over processes is all"),
    counter("chekhov_receipts_accepted_total", Orchestrator, &["result"],
        "posts that were answered: `new`, `same` (posted before), `other` (other content under a known id)"),
    counter("chekhov_receipts_ended_total", Both, &["state", "stage"],
        "receipts that came to `registered`, `rejected` or `parked`, by the stage where"),
    gauge("chekhov_receipts_due", Orchestrator, &["destination"],
        "receipts that could be handed off now and are not: their first call's turn or their timer has come (timers counted up to 10,000); every orchestrator shows the same"),
    gauge("chekhov_oldest_wait_seconds", Orchestrator, &["destination", "kind"],
        "how long the longest has waited: since it was due (`timer`, `internal`), or since it came to wait (`turn`, `original`); 0 if none; every orchestrator shows the same"),
    gauge("chekhov_drain_seconds", Orchestrator, &["destination"],
        "how long the backlog takes at the limit in force, without limits at the rate of the last minute; infinite while there is neither; every orchestrator shows the same"),
    gauge("chekhov_unresolved_calls", Orchestrator, &["destination", "state"],
        "receipts with a call whose outcome nobody knows, `waiting` or `parked`; every orchestrator shows the same"),
    gauge("chekhov_deadlines_at_risk", Orchestrator, &["destination"],
        "open receipts whose deadline passes within `at_risk`, counted up to 10,000; every orchestrator shows the same"),
    gauge("chekhov_deadlines_passed", Orchestrator, &["destination"],
        "open receipts whose deadline has passed, counted up to 10,000; every orchestrator shows the same"),
    gauge("chekhov_internal_backlog", Orchestrator, &[],
        "receipts that wait for an orchestrator, counted up to `intake.backlog`, where this one last saw a backlog"),

    counter("chekhov_attempts_total", Both, &["stage", "outcome"],
        "attempts, by what they came to: `success`, `retry`, `poll`, `reject`, `unknown`, `reissue`, `park`"),
    histogram("http_client_request_duration_seconds", Both, &["server_address", "stage", "outcome", "http_response_status_code"],
        "calls to services and destinations (`server_address` is their name), by what each came to; without a status: no answer"),
    histogram("http_server_request_duration_seconds", Orchestrator, &["http_route", "http_request_method", "http_response_status_code"],
        "requests to the HTTP API"),

    gauge("chekhov_destination_open", Both, &["destination"],
        "1 while calls to it are made"),
    gauge("chekhov_destination_state", Both, &["destination", "state"],
        "1 for the state it is in, as this process knows it: `open`, `closed`, `paused`, `draining`"),
    gauge("chekhov_destination_limit_calls_per_second", Both, &["destination"],
        "what its limits let through in the long run; infinite without limits"),
    counter("chekhov_slots_used_total", Dispatcher, &["destination"],
        "turns at the gate: calls that were let through; their rate over the limit is how much of it is used"),
    counter("chekhov_missed_slots_total", Dispatcher, &[],
        "slots of a limit that were taken and not used in time"),
    counter("chekhov_destination_closings_total", Dispatcher, &["destination"],
        "closings by this process's breaker"),
    counter("chekhov_canaries_total", Dispatcher, &["destination", "result"],
        "canaries of closed destinations: `alive`, `failed`, `nothing` to probe with"),
    counter("chekhov_credentials_refused_total", Dispatcher, &["destination"],
        "closings for good credentials that were refused"),
    counter("chekhov_tokens_total", Dispatcher, &["destination", "result"],
        "tokens that were asked for: `fetched`, `failed`"),
    counter("chekhov_lookup_proofs_total", Dispatcher, &["stage", "result"],
        "look-ups of a registered receipt, to prove that look-ups work: `found`, or what else they came to"),

    counter("chekhov_queued_total", Orchestrator, &["destination"],
        "receipts that were handed off"),
    gauge("chekhov_ready_messages", Orchestrator, &["destination"],
        "messages that wait in the queue, as RabbitMQ said last"),
    counter("chekhov_returned_messages_total", Orchestrator, &[],
        "messages that RabbitMQ had no queue for"),
    counter("chekhov_stale_messages_total", Dispatcher, &[],
        "messages whose receipt was somebody else's by then: acknowledged and dropped"),
    counter("chekhov_unreadable_messages_total", Dispatcher, &[],
        "messages that nobody can read: acknowledged and dropped"),
    counter("chekhov_failed_acknowledgements_total", Dispatcher, &[],
        "acknowledgements that could not be sent: their messages come again"),

    histogram("chekhov_commit_seconds", Both, &["statement"],
        "how long a batch took from its first statement to the end of its commit, with its repeats"),
    histogram("chekhov_commit_rows", Both, &["statement"],
        "rows of a batch"),
    counter("chekhov_commit_repeats_total", Both, &["statement"],
        "batches that were repeated, for a lock or because nobody knew whether they were committed"),
    counter("chekhov_stale_steps_total", Both, &[],
        "steps that were dropped, for somebody else had the receipt by then"),

    counter("chekhov_taken_over_total", Orchestrator, &["kind"],
        "receipts of dead instances that were taken over: `internal` or `external` work"),
    counter("chekhov_lost_messages_total", Orchestrator, &["destination"],
        "receipts that were queued again, for their message was lost"),
    counter("chekhov_strays_total", Both, &[],
        "receipts that this process owned and did not know of: given back"),
    counter("chekhov_declared_dead_total", Both, &[],
        "times that this process was declared dead and went on as another instance"),
];

/// Tells the recorder what they mean.
pub(super) fn describe() {
    for metric in METRICS {
        match metric.kind {
            Kind::Counter => describe_counter!(metric.name, metric.meaning),
            Kind::Gauge => describe_gauge!(metric.name, metric.meaning),
            Kind::Histogram => describe_histogram!(metric.name, metric.meaning),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(metric: &Metric) -> String {
        let of = match metric.of {
            Orchestrator => "orchestrator",
            Dispatcher => "dispatcher",
            Both => "both",
        };
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = if labels.is_empty() {
            "–".to_owned()
        } else {
            labels.join(", ")
        };
        let (name, kind, meaning) = (metric.name, metric.kind.name(), metric.meaning);
        format!("| `{name}` | {kind} | {of} | {labels} | {meaning} |")
    }

    #[test]
    fn the_documentation_lists_every_metric() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/docs/metrics.md");
        let text = std::fs::read_to_string(path).expect("it is there");
        let listed: Vec<&str> = text.lines().filter(|line| line.starts_with("| `")).collect();
        let metrics: Vec<String> = METRICS.iter().map(row).collect();
        assert!(listed == metrics, "{path} should list\n{}", metrics.join("\n"));
    }

    #[test]
    fn names_follow_the_convention() {
        for metric in METRICS {
            let name = metric.name;
            assert!(name.starts_with("chekhov_") || name.starts_with("http_"), "{name}");
            assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
        }
    }
}
