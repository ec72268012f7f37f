//! One receipt, one trace.

use std::time::Duration;

use end_to_end::{Stack, TOKEN};
use serde_json::{Value, json};

use super::{quick, receipts};

#[tokio::test(flavor = "multi_thread")]
async fn every_call_of_a_receipt_carries_its_callers_trace_also_across_a_retry() {
    let stack = Stack::start(&quick()).await.unwrap();
    let failing = json!({"mode": "error", "status": 503});
    stack
        .ledger
        .set_faults(&json!({"tax": failing, "fiscal.register": failing}))
        .await
        .unwrap();
    let receipt = receipts(1).remove(0);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let api = &stack.orchestrators[0].api;
    let answer = reqwest::Client::new()
        .post(format!("{}/v1/receipts", api.base()))
        .header("authorization", format!("Bearer {TOKEN}"))
        .header("content-type", "application/json")
        .header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"))
        .body(receipt.to_string())
        .send()
        .await
        .unwrap();
    let posted: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    let id = posted["id"].as_str().unwrap();
    end_to_end::eventually(Duration::from_mins(1), "the fault is met", async || {
        let history = api.get(id).await.ok().flatten().map(|receipt| receipt.history);
        history.is_some_and(|history| history.iter().any(|call| call.outcome == "retry"))
    })
    .await;
    stack.ledger.clear_faults().await.unwrap();
    end_to_end::eventually(Duration::from_mins(1), "it is registered", async || {
        api.get(id)
            .await
            .ok()
            .flatten()
            .is_some_and(|receipt| receipt.state == "registered")
    })
    .await;
    let shown = api.get(id).await.unwrap().unwrap();
    assert_eq!(shown.trace_id, trace);
    assert!(
        shown.history.iter().any(|call| call.outcome == "retry"),
        "the fault was not met"
    );
    let text = |name: &str| receipt.pointer(name).and_then(Value::as_str).unwrap().to_owned();
    let entry = stack
        .ledger
        .entry(&text("/merchant/id"), &text("/external_id"))
        .await
        .unwrap();
    assert!(entry.calls.len() >= 8, "{} calls", entry.calls.len());
    for call in &entry.calls {
        assert_eq!(
            call["traceparent"].as_str().unwrap_or_default().get(3..35),
            Some(trace),
            "{call}"
        );
    }
}
