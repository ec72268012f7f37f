//! The comparison's arms on real parts. They need `DATABASE_URL`, `AMQP_URL` and built binaries: `./tests/run` sees to all three.

#![expect(clippy::unwrap_used, reason = "a scenario that cannot go on has failed")]

mod bare;
mod single;

use std::path::PathBuf;
use std::time::Duration;

use end_to_end::{Options, Stack};
use serde_json::json;

/// What the bench runs, and of what receipts.
fn bench(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../end-to-end/bench")
        .join(file)
}

/// The bench's pipeline, and nobody of Chekhov to run it.
fn options() -> Options {
    let options = Options {
        orchestrators: 0,
        dispatchers: 0,
        pipeline: Some(bench("receipts.toml")),
        ..Options::default()
    };
    let mut options = options
        .with("destination.fiscal.limits", "")
        .with("destination.fiscal.concurrency", "256")
        .with("destination.fiscal.timeout", "2s")
        .with("heartbeat.every", "500ms")
        .with("heartbeat.dead_after", "3s");
    for service in ["validation", "catalog", "sellers", "tax", "numbers", "documents"] {
        options = options
            .with(&format!("service.{service}.concurrency"), "256")
            .with(&format!("service.{service}.timeout"), "2s");
    }
    options
}

async fn start(options: &Options) -> Stack {
    let stack = Stack::start(options).await.unwrap();
    stack.ledger.set(&json!({"done_after_ms": 0})).await.unwrap();
    stack
}

/// The simulator has so many receipts, each registered once.
async fn registered_once(stack: &Stack, count: usize) {
    let summary = stack.ledger.summary().await.unwrap();
    assert_eq!(summary["registrations"], count, "{summary}");
    assert_eq!(summary["registered_twice"], 0, "{summary}");
}

const A_MINUTE: Duration = Duration::from_mins(1);
