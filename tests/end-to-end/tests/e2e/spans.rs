//! One receipt, one trace, as a collector receives it.

use std::time::Duration;

use end_to_end::{Collector, Posted, Stack, eventually, tree};
use serde_json::{Value, json};

use super::{quick, receipts};

const SOON: Duration = Duration::from_secs(30);
/// What a process may take to stop.
const LIMIT: Duration = Duration::from_secs(25);

/// What is received of a receipt that tax calculation refused once, that was handed off, whose call that registers was not
/// answered, whose processes were both started anew then, and that was registered.
const TREE: &str = include_str!("spans.txt");

/// One without sellers: those are asked for at once, in no order.
fn receipt() -> Value {
    let without = |receipt: &Value| {
        receipt["items"]
            .as_array()
            .unwrap()
            .iter()
            .all(|item| item.get("seller").is_none())
    };
    receipts(100).into_iter().find(without).unwrap()
}

async fn called(stack: &Stack, posted: &Posted, stage: &str, outcome: &str) {
    eventually(SOON, "it is called", async || {
        let history = stack.shown(posted).await.history;
        history
            .iter()
            .any(|call| call.stage == stage && call.outcome == outcome)
    })
    .await;
}

/// Both end as they are told to: what is in flight is finished.
async fn terminate(stack: &mut Stack) {
    let (orchestrator, dispatcher) = (&mut stack.orchestrators[0].process, &mut stack.dispatchers[0].process);
    let (first, second) = tokio::join!(orchestrator.terminate(LIMIT), dispatcher.terminate(LIMIT));
    assert!(first.unwrap().success() && second.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_is_one_tree_over_both_processes_and_over_their_restarts() {
    let collector = Collector::start().await.unwrap();
    let options = quick()
        .with("telemetry.endpoint", collector.endpoint())
        .with("destination.fiscal.timeout", "10s");
    let mut stack = Stack::start(&options).await.unwrap();
    // Both processes are told to stop while the call that registers is in flight: it is made, and not answered.
    let faults = json!({
        "tax": {"mode": "error", "status": 503, "retry_after": 3},
        "fiscal.register": {"mode": "commit_then_drop", "latency_ms": 3_000},
    });
    stack.ledger.set_faults(&faults).await.unwrap();
    stack.post_all(&[receipt()]).await.unwrap();
    let posted = stack.posted[0].clone();
    called(&stack, &posted, "calculate", "retry").await;
    stack
        .ledger
        .set_faults(&json!({"fiscal.register": faults["fiscal.register"]}))
        .await
        .unwrap();
    eventually(SOON, "it is registered, and nobody knows", async || {
        stack.ledger.summary().await.unwrap()["registrations"] == 1
    })
    .await;
    terminate(&mut stack).await;
    stack.ledger.clear_faults().await.unwrap();
    let directory = stack.directory().to_path_buf();
    for member in stack.orchestrators.iter_mut().chain(&mut stack.dispatchers) {
        member.restart(&directory).await.unwrap();
    }
    let shown = stack.shown_in(&posted, "registered", SOON).await;
    // What is left is sent when a process ends.
    terminate(&mut stack).await;

    let port = |url: &str| url.rsplit(['@', '/', ':']).find_map(|part| part.parse::<u16>().ok());
    let (simulator, broker) = (port(stack.ledger.base()).unwrap(), port(&stack.urls.amqp).unwrap());
    let prefix = stack.directory().file_name().unwrap().to_str().unwrap();
    let named = [
        (posted.id.as_str(), "<receipt>"),
        (prefix, "<prefix>"),
        (&format!("port={simulator}"), "port=<simulator>"),
        (&format!(":{simulator}/"), ":<simulator>/"),
        (&format!("port={broker}"), "port=<broker>"),
    ];
    let found = tree(&collector.trace(&shown.trace_id), &named);
    assert!(found == TREE, "expected:\n{TREE}\nfound:\n{found}");
}
