//! Scenarios on real parts. They need `DATABASE_URL`, `AMQP_URL` and built binaries: `./tests/run` sees to all three.

#![expect(clippy::unwrap_used, reason = "a scenario that cannot go on has failed")]

mod broker_and_database;
mod checkpoints;
mod closed;
mod collector_configuration;
mod credentials;
mod destinations;
mod everything_is_registered;
mod faults;
mod hanging_collector;
mod instances;
mod intake;
mod jobs;
mod kills;
mod limit_keys;
mod limits;
mod messages;
mod monitoring;
mod other_contract;
mod outcomes;
mod poison;
mod refunds;
mod roles;
mod rolling;
mod sampling;
mod searching;
mod secrets;
mod spans;
mod steering;
mod tls;
mod tracing;
mod unknown_fate;
mod unknown_outcomes;
mod versions;

use std::time::Duration;

use end_to_end::{Backlog, Options, Stack, fixture, fresh, read};
use serde_json::Value;

/// Short time limits. Death keeps its default: a machine that is busy with other tests must kill nobody.
fn quick() -> Options {
    Options::default()
        .with("destination.fiscal.timeout", "2s")
        .with("destination.fiscal.lost_after", "2s")
        .with("service.tax.timeout", "2s")
}

/// Where death itself is the subject.
fn mortal() -> Options {
    quick()
        .with("heartbeat.every", "500ms")
        .with("heartbeat.dead_after", "3s")
}

/// Whether scenarios take all the time they would have in production: `./tests/soak` sets it.
fn at_length() -> bool {
    std::env::var_os("CHEKHOV_SOAK").is_some()
}

fn receipts(count: usize) -> Vec<Value> {
    let templates = read(&fixture("valid.ndjson")).unwrap_or_default();
    fresh(&templates, count)
}

/// One that is like most: the first templates are made to be hard, and a backlog of those measures how long they are.
fn model() -> Vec<Value> {
    receipts(11).split_off(10)
}

/// So many that wait for their first call to the destination `fiscal`, nothing special about them.
fn behind(count: u64) -> Backlog {
    let internal = ["validate", "enrich", "calculate", "number", "document"];
    Backlog {
        name: "behind".to_owned(),
        count,
        internal: internal.map(str::to_owned).to_vec(),
        timers: 0,
        urgent: 0,
        deadline: Duration::from_hours(1),
        key: None,
    }
}

async fn all_registered(stack: &Stack) {
    let verdict = stack.judge().await.expect("the simulator answers");
    assert!(verdict.all_registered(), "{verdict:#?}");
}
