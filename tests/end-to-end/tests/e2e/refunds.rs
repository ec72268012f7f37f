//! A refund is registered after its original, and not at all if that was not.

use std::time::Duration;

use end_to_end::{Posted, Stack, eventually};
use serde_json::{Value, json};

use super::{all_registered, quick, receipts};

const SOON: Duration = Duration::from_secs(20);

/// A sale, and its refund.
fn pair() -> (Value, Value) {
    let sale = receipts(1).remove(0);
    let mut refund = sale.clone();
    let id = sale["external_id"].as_str().unwrap();
    refund["external_id"] = json!(format!("{id}-refund"));
    refund["original_external_id"] = json!(id);
    refund["type"] = json!(format!("{}_refund", sale["type"].as_str().unwrap()));
    (sale, refund)
}

async fn post(stack: &mut Stack, receipt: Value) -> Posted {
    stack.post_all(&[receipt]).await.unwrap();
    stack.posted.last().unwrap().clone()
}

/// Waits until the refund says that it waits for its original.
async fn waits(stack: &Stack, refund: &Posted) {
    eventually(SOON, "the refund waits", async || {
        let shown = stack.shown(refund).await;
        shown.state == "waiting" && shown.reason.is_some_and(|reason| reason.starts_with("its original"))
    })
    .await;
}

async fn registered_at(stack: &Stack, posted: &Posted) -> i64 {
    let entry = stack.ledger.entry(&posted.merchant, &posted.external_id).await.unwrap();
    entry.registrations[0]["at"].as_i64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn refunds_wait_for_their_originals() {
    let mut stack = Stack::start(&quick()).await.unwrap();
    let (sale, refund) = pair();
    assert!(
        sale["type"]
            .as_str()
            .is_some_and(|kind| ["income", "expense"].contains(&kind))
    );
    let unfinished = json!({"fiscal.report": {"mode": "stuck"}});
    stack.ledger.set_faults(&unfinished).await.unwrap();
    let sale = post(&mut stack, sale).await;
    let refund = post(&mut stack, refund).await;
    waits(&stack, &refund).await;
    stack.ledger.clear_faults().await.unwrap();
    stack.shown_in(&refund, "registered", SOON).await;
    assert!(registered_at(&stack, &sale).await < registered_at(&stack, &refund).await);

    // What was registered elsewhere is nobody's to wait for.
    let (_, mut refund) = pair();
    refund["original_external_id"] = json!("of another system");
    let refund = post(&mut stack, refund).await;
    stack.shown_in(&refund, "registered", SOON).await;
    all_registered(&stack).await;

    let (sale, refund) = pair();
    let slow = json!({"tax": {"mode": "error", "status": 503}});
    stack.ledger.set_faults(&slow).await.unwrap();
    let sale = post(&mut stack, sale).await;
    stack.shown_in(&sale, "waiting", SOON).await;
    stack.ledger.clear_faults().await.unwrap();
    let refuses = json!({"fiscal.register": {"mode": "error", "status": 400, "body": {"error": {"code": 32, "text": "refused"}}}});
    stack.ledger.set_faults(&refuses).await.unwrap();
    let refund = post(&mut stack, refund).await;
    stack.shown_in(&sale, "rejected", SOON).await;
    let shown = stack.shown_in(&refund, "parked", SOON).await;
    assert!(shown.reason.unwrap().starts_with("its original was rejected"));
    let verdict = stack.judge().await.unwrap();
    assert!(verdict.is_clean() && verdict.registered == 3, "{verdict:#?}");
}
