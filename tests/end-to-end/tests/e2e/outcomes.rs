//! What answers come to: final, parked, told to wait, or known to nobody; and what a person may do about it.

use std::time::Duration;

use end_to_end::{Posted, Stack, eventually, receipts_with_sellers};
use serde_json::{Value, json};

use super::{all_registered, quick, receipts};

const SOON: Duration = Duration::from_secs(20);

async fn post(stack: &mut Stack, receipt: Value) -> Posted {
    stack.post_all(&[receipt]).await.unwrap();
    stack.posted.last().unwrap().clone()
}

/// Waits until a call of the receipt came to `outcome`.
async fn came_to(stack: &Stack, posted: &Posted, outcome: &str) {
    eventually(SOON, &format!("a call comes to {outcome}"), async || {
        let history = stack.shown(posted).await.history;
        history.iter().any(|call| call.outcome == outcome)
    })
    .await;
}

async fn act(stack: &Stack, posted: &Posted, action: &str) -> u16 {
    let answer = stack.orchestrators[0]
        .api
        .act(&["v1", "receipts", &posted.id, action])
        .await;
    answer.unwrap().status
}

#[tokio::test(flavor = "multi_thread")]
async fn every_outcome_ends_as_it_must_and_a_person_may_do_no_harm() {
    let mut stack = Stack::start(&quick()).await.unwrap();
    a_reject_is_final_with_its_reason(&mut stack).await;
    what_nobody_declared_parks_and_is_released(&mut stack).await;
    retry_after_is_obeyed_and_a_waiting_receipt_may_be_cancelled(&mut stack).await;
    nothing_ends_a_receipt_whose_call_is_unresolved(&mut stack).await;
    what_failed_there_is_registered_anew_under_another_key(&mut stack).await;
}

async fn a_reject_is_final_with_its_reason(stack: &mut Stack) {
    let unknown = json!({"sellers": {"mode": "error", "status": 404}});
    stack.ledger.set_faults(&unknown).await.unwrap();
    let posted = post(stack, receipts_with_sellers(1).unwrap().remove(0)).await;
    let shown = stack.shown_in(&posted, "rejected", SOON).await;
    assert_eq!(shown.reason.as_deref(), Some("unknown seller"));
    assert_eq!(shown.stage.as_deref(), Some("enrich"));
    assert!(
        shown
            .history
            .iter()
            .all(|call| ["validate", "enrich"].contains(&call.stage.as_str()))
    );
    assert_eq!(act(stack, &posted, "cancel").await, 409, "what is final stays so");
    stack.ledger.clear_faults().await.unwrap();
}

async fn what_nobody_declared_parks_and_is_released(stack: &mut Stack) {
    stack
        .ledger
        .set_faults(&json!({"tax": {"mode": "error", "status": 418}}))
        .await
        .unwrap();
    let posted = post(stack, receipts(1).remove(0)).await;
    let shown = stack.shown_in(&posted, "parked", SOON).await;
    let reason = shown.reason.unwrap();
    assert!(reason.contains("418") && reason.contains("3 times"), "{reason}");
    assert_eq!(shown.history.iter().filter(|call| call.stage == "calculate").count(), 3);
    stack.ledger.clear_faults().await.unwrap();
    assert_eq!(act(stack, &posted, "release").await, 204);
    let shown = stack.shown_in(&posted, "registered", SOON).await;
    assert_eq!(shown.called_again(), None, "released, it goes on where it stood");
    assert_eq!(act(stack, &posted, "release").await, 409);
}

async fn retry_after_is_obeyed_and_a_waiting_receipt_may_be_cancelled(stack: &mut Stack) {
    let later = json!({"fiscal.register": {"mode": "error", "status": 429, "retry_after": "3"}});
    stack.ledger.set_faults(&later).await.unwrap();
    let told = post(stack, receipts(1).remove(0)).await;
    came_to(stack, &told, "retry").await;
    stack.ledger.clear_faults().await.unwrap();
    let shown = stack.shown_in(&told, "registered", SOON).await;
    let calls: Vec<_> = shown.history.iter().filter(|call| call.stage == "register").collect();
    assert!(calls.len() >= 2, "{calls:#?}");
    assert!(
        calls[1].started_at - calls[0].started_at >= Duration::from_secs(3),
        "{calls:#?}"
    );
    assert_eq!(calls[0].call_id, calls[1].call_id);

    stack
        .ledger
        .set_faults(&json!({"tax": {"mode": "error", "status": 503, "retry_after": "60"}}))
        .await
        .unwrap();
    let waiting = post(stack, receipts(1).remove(0)).await;
    let shown = stack.shown_in(&waiting, "waiting", SOON).await;
    let reason = shown.reason.unwrap();
    assert!(
        reason.contains("tax answered 503") && reason.contains("next attempt at"),
        "{reason}"
    );
    assert_eq!(act(stack, &waiting, "cancel").await, 204);
    assert_eq!(stack.shown(&waiting).await.state, "cancelled");
    stack.ledger.clear_faults().await.unwrap();
    let verdict = stack.judge().await.unwrap();
    assert!(verdict.is_clean() && verdict.cancelled == 1, "{verdict:#?}");
}

async fn nothing_ends_a_receipt_whose_call_is_unresolved(stack: &mut Stack) {
    // Registered there, and nobody here knows; then the repeat is told that the body is wrong.
    stack
        .ledger
        .set_faults(&json!({"fiscal.register": {"mode": "commit_then_drop"}}))
        .await
        .unwrap();
    let posted = post(stack, receipts(1).remove(0)).await;
    came_to(stack, &posted, "unknown").await;
    stack.shown_in(&posted, "waiting", SOON).await;
    assert_eq!(act(stack, &posted, "cancel").await, 409);
    stack
        .ledger
        .set_faults(&json!({"fiscal.register": {"mode": "error", "status": 422}}))
        .await
        .unwrap();
    let shown = stack.shown_in(&posted, "parked", SOON).await;
    assert!(shown.reason.unwrap().contains("an earlier call may have registered it"));
    assert_eq!(act(stack, &posted, "cancel").await, 409);
    stack.ledger.clear_faults().await.unwrap();
    assert_eq!(act(stack, &posted, "release").await, 204);
    stack.shown_in(&posted, "registered", SOON).await;

    // Accepted there, and not registered yet: no more than unresolved.
    stack
        .ledger
        .set_faults(&json!({"fiscal.report": {"mode": "error", "status": 400}}))
        .await
        .unwrap();
    let accepted = post(stack, receipts(1).remove(0)).await;
    stack.shown_in(&accepted, "parked", SOON).await;
    assert_eq!(act(stack, &accepted, "cancel").await, 409);
    stack.ledger.clear_faults().await.unwrap();
    assert_eq!(act(stack, &accepted, "release").await, 204);
    stack.shown_in(&accepted, "registered", SOON).await;
}

async fn what_failed_there_is_registered_anew_under_another_key(stack: &mut Stack) {
    stack.posted.clear();
    stack
        .ledger
        .set_faults(&json!({"fiscal.report": {"mode": "fail"}}))
        .await
        .unwrap();
    let posted = post(stack, receipts(1).remove(0)).await;
    came_to(stack, &posted, "reissue").await;
    stack.ledger.clear_faults().await.unwrap();
    let shown = stack.shown_in(&posted, "registered", SOON).await;
    let mut keys: Vec<_> = shown
        .history
        .iter()
        .filter(|call| call.stage == "register")
        .map(|call| &call.call_id)
        .collect();
    let calls = keys.len();
    keys.dedup();
    assert!(calls >= 2 && keys.len() == calls, "{:#?}", shown.history);
    assert!(shown.history.iter().any(|call| call.outcome == "reissue"));
    let registers: Vec<_> = shown.history.iter().filter(|call| call.stage == "register").collect();
    for pair in registers.windows(2) {
        assert_eq!(
            pair[1].reissue_of.as_ref(),
            Some(&pair[0].call_id),
            "{:#?}",
            shown.history
        );
    }
    all_registered(stack).await;
}
