//! What the services around us can do to a receipt: nothing is lost, nothing is registered twice, nothing succeeds twice.

use std::collections::HashMap;
use std::time::Duration;

use end_to_end::Stack;
use serde_json::{Value, json};

use super::{all_registered, quick, receipts};

const TARGETS: [&str; 9] = [
    "validation",
    "catalog",
    "sellers",
    "tax",
    "numbers",
    "documents",
    "fiscal.register",
    "fiscal.report",
    "fiscal.document",
];

/// Half of the calls to every target fail in one way for two seconds; whoever was struck is struck again on its retry.
async fn each_target_once(fault: Value) {
    let mut stack = Stack::start(&quick()).await.expect("the stack works");
    let faults: HashMap<_, _> = TARGETS.iter().map(|target| (*target, fault.clone())).collect();
    stack.ledger.set_faults(&json!(faults)).await.expect("the stack works");
    stack.post_all(&receipts(40)).await.expect("the stack works");
    stack.settled(Duration::from_secs(80)).await;
    all_registered(&stack).await;
    for posted in &stack.posted {
        let receipt = stack.orchestrators[0]
            .api
            .get(&posted.id)
            .await
            .expect("an answer")
            .expect("a receipt");
        let mut succeeded: HashMap<(String, String), usize> = HashMap::new();
        for call in receipt
            .history
            .iter()
            .filter(|call| call.outcome == "success" && call.stage != "enrich")
        {
            *succeeded.entry((call.stage.clone(), call.request.clone())).or_default() += 1;
        }
        assert!(
            succeeded.values().all(|times| *times == 1),
            "a stage that succeeded was called again: {succeeded:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_and_refusals() {
    each_target_once(json!({"mode": "error", "status": 503, "retry_after": "1", "share": 0.3, "for_s": 2})).await;
    each_target_once(json!({"mode": "error", "status": 500, "share": 0.3, "for_s": 2})).await;
    each_target_once(json!({"mode": "refuse", "share": 0.3, "for_s": 2})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slowness_and_silence() {
    each_target_once(json!({"mode": "slow", "latency_ms": 500, "share": 0.3, "for_s": 2})).await;
    each_target_once(json!({"mode": "hang", "share": 0.3, "for_s": 2})).await;
    each_target_once(json!({"mode": "garbage", "share": 0.3, "for_s": 2})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_was_done_all_the_same() {
    each_target_once(json!({"mode": "commit_then_drop", "share": 0.3, "for_s": 2})).await;
    each_target_once(json!({"mode": "drop_before_commit", "share": 0.3, "for_s": 2})).await;
    each_target_once(json!({"mode": "commit_late", "latency_ms": 3000, "share": 0.3, "for_s": 2})).await;
}
