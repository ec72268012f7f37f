//! What an operator does to one receipt, and what is kept of it.

use std::time::Duration;

use end_to_end::{Answer, Posted, Stack, VIEWER, receipts_with_sellers};
use serde_json::{Value, json};

use super::{all_registered, quick, receipts};

const SOON: Duration = Duration::from_secs(30);

async fn post(stack: &mut Stack, receipt: Value) -> Posted {
    stack.post_all(&[receipt]).await.unwrap();
    stack.posted.last().unwrap().clone()
}

async fn ask(stack: &Stack, posted: &Posted, action: &str, body: Value) -> Answer {
    let path = format!("/v1/receipts/{}/{action}", posted.id);
    let api = &stack.orchestrators[0].api;
    api.request("POST", &path, Some(&body)).await.unwrap()
}

async fn act(stack: &Stack, posted: &Posted, action: &str) -> u16 {
    ask(stack, posted, action, json!({"reason": "it was mended"}))
        .await
        .status
}

/// The actions on record for a receipt, the oldest first.
async fn on_record(stack: &Stack, posted: &Posted) -> Vec<Value> {
    let api = stack.orchestrators[0].api.with_token(VIEWER);
    let page = api
        .request("GET", &format!("/v1/audit?target={}", posted.id), None)
        .await
        .unwrap();
    assert_eq!(page.status, 200, "{}", page.body);
    let mut entries = page.body["entries"].as_array().unwrap().clone();
    entries.reverse();
    entries
}

fn registering_calls(receipt: &end_to_end::Receipt) -> Vec<(&str, &str)> {
    let calls = receipt.history.iter().filter(|call| call.stage == "register");
    calls
        .map(|call| (call.call_id.as_str(), call.outcome.as_str()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_action_does_what_it_says_and_is_on_record() {
    let mut stack = Stack::start(&quick()).await.unwrap();
    a_wait_is_cut_short(&mut stack).await;
    a_stage_is_made_again_with_all_that_follow(&mut stack).await;
    nothing_is_made_again_that_could_register_twice(&mut stack).await;
    what_was_refused_there_is_opened_again_under_another_key(&mut stack).await;
    what_is_cancelled_says_why(&mut stack).await;
}

async fn a_wait_is_cut_short(stack: &mut Stack) {
    let away = json!({"tax": {"mode": "error", "status": 503, "retry_after": "600"}});
    stack.ledger.set_faults(&away).await.unwrap();
    let posted = post(stack, receipts(1).remove(0)).await;
    stack.shown_in(&posted, "waiting", SOON).await;
    stack.ledger.clear_faults().await.unwrap();
    for (body, status) in [(json!({}), 422), (json!({"reason": ""}), 422), (json!([]), 422)] {
        assert_eq!(ask(stack, &posted, "retry", body).await.status, status);
    }
    assert_eq!(act(stack, &posted, "release").await, 409, "it is not parked");
    assert!(on_record(stack, &posted).await.is_empty(), "nothing was done");
    assert_eq!(act(stack, &posted, "retry").await, 204);
    stack.shown_in(&posted, "registered", SOON).await;
    assert_eq!(act(stack, &posted, "retry").await, 409, "it is final");
    let entries = on_record(stack, &posted).await;
    assert_eq!(entries.len(), 1, "{entries:?}");
    let entry = &entries[0];
    for (member, value) in [
        ("by", json!("the operator")),
        ("role", json!("operator")),
        ("action", json!("retry")),
        ("count", json!(1)),
        ("reason", json!("it was mended")),
    ] {
        assert_eq!(entry[member], value, "{entry}");
    }
}

async fn a_stage_is_made_again_with_all_that_follow(stack: &mut Stack) {
    let away = json!({"numbers": {"mode": "error", "status": 503, "retry_after": "600"}});
    stack.ledger.set_faults(&away).await.unwrap();
    let posted = post(stack, receipts(1).remove(0)).await;
    stack.shown_in(&posted, "waiting", SOON).await;
    stack.ledger.clear_faults().await.unwrap();
    let from = |stage: &str| json!({"stage": stage, "reason": "taxes were wrong"});
    for (stage, status) in [("register", 409), ("nowhere", 409), ("", 422)] {
        assert_eq!(
            ask(stack, &posted, "restart", from(stage)).await.status,
            status,
            "{stage}"
        );
    }
    assert_eq!(ask(stack, &posted, "restart", from("calculate")).await.status, 204);
    let shown = stack.shown_in(&posted, "registered", SOON).await;
    let calls = |stage: &str| shown.history.iter().filter(|call| call.stage == stage).count();
    assert_eq!((calls("enrich"), calls("calculate"), calls("register")), (1, 2, 1));
    let taxes = shown.history.iter().filter(|call| call.stage == "calculate");
    let keys: Vec<_> = taxes.map(|call| &call.call_id).collect();
    assert_eq!(keys[0], keys[1], "repeating it is harmless");
    assert_eq!(
        on_record(stack, &posted).await[0]["detail"],
        json!({"stage": "calculate"})
    );
}

async fn nothing_is_made_again_that_could_register_twice(stack: &mut Stack) {
    let refused = json!({"fiscal.document": {"mode": "error", "status": 400}});
    stack.ledger.set_faults(&refused).await.unwrap();
    let posted = post(stack, receipts(1).remove(0)).await;
    stack.shown_in(&posted, "parked", SOON).await;
    stack.ledger.clear_faults().await.unwrap();
    let from = |stage: &str| json!({"stage": stage, "reason": "to be seen"});
    for stage in ["validate", "document", "register"] {
        let answer = ask(stack, &posted, "restart", from(stage)).await;
        assert_eq!(answer.status, 409, "{stage}");
        assert!(
            answer.body["detail"].as_str().unwrap().contains("registered"),
            "{}",
            answer.body
        );
    }
    assert_eq!(ask(stack, &posted, "restart", from("confirm")).await.status, 204);
    let shown = stack.shown_in(&posted, "registered", SOON).await;
    assert_eq!(registering_calls(&shown).len(), 1);

    let lost = json!({"fiscal.register": {"mode": "commit_then_drop"}});
    stack.ledger.set_faults(&lost).await.unwrap();
    let posted = post(stack, receipts(1).remove(0)).await;
    stack.shown_in(&posted, "waiting", SOON).await;
    let answer = loop {
        let answer = ask(stack, &posted, "restart", from("document")).await;
        assert_eq!(answer.status, 409);
        if answer.body["detail"] != "it is in work" {
            break answer;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(
        answer.body["detail"].as_str().unwrap().contains("nobody knows"),
        "{}",
        answer.body
    );
    stack.ledger.clear_faults().await.unwrap();
    stack.shown_in(&posted, "registered", SOON).await;
    assert!(on_record(stack, &posted).await.is_empty());
}

async fn what_was_refused_there_is_opened_again_under_another_key(stack: &mut Stack) {
    let refused = json!({"fiscal.register": {"mode": "error", "status": 422}});
    stack.ledger.set_faults(&refused).await.unwrap();
    let posted = post(stack, receipts(1).remove(0)).await;
    stack.shown_in(&posted, "rejected", SOON).await;
    stack.ledger.clear_faults().await.unwrap();
    assert_eq!(act(stack, &posted, "release").await, 409);
    assert_eq!(act(stack, &posted, "reopen").await, 204);
    let shown = stack.shown_in(&posted, "registered", SOON).await;
    let calls = registering_calls(&shown);
    assert_eq!(
        (calls[0].1, calls[1].1, calls.len()),
        ("reject", "success", 2),
        "{calls:?}"
    );
    assert_ne!(calls[0].0, calls[1].0, "its first key was refused");
    assert_eq!(shown.called_again(), None, "it goes on where it was rejected");
    assert_eq!(act(stack, &posted, "reopen").await, 409, "it is not rejected any more");
    all_registered(stack).await;
}

async fn what_is_cancelled_says_why(stack: &mut Stack) {
    let away = json!({"tax": {"mode": "error", "status": 503, "retry_after": "600"}});
    stack.ledger.set_faults(&away).await.unwrap();
    let posted = post(stack, receipts(1).remove(0)).await;
    stack.shown_in(&posted, "waiting", SOON).await;
    assert_eq!(act(stack, &posted, "cancel").await, 204);
    let shown = stack.shown(&posted).await;
    assert_eq!(shown.reason.as_deref(), Some("cancelled by the operator"));
    let entries = on_record(stack, &posted).await;
    assert_eq!((entries.len(), &entries[0]["action"]), (1, &json!("cancel")));
    let change = json!({"settings": {"concurrency": 7}, "reason": "they asked for it"});
    let api = &stack.orchestrators[0].api;
    assert_eq!(api.change("fiscal", &change).await.unwrap().status, 200);
    let page = api
        .request("GET", "/v1/audit?target=fiscal&by=the%20operator", None)
        .await
        .unwrap()
        .body;
    let entry = &page["entries"][0];
    assert_eq!(
        (&entry["action"], &entry["reason"]),
        (&json!("destination.change"), &json!("they asked for it"))
    );
    assert_eq!(entry["detail"], json!({"settings": {"concurrency": 7}}));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_rejected_goes_on_with_a_mended_configuration() {
    let mut stack = Stack::start(&quick()).await.unwrap();
    let unknown = json!({"sellers": {"mode": "error", "status": 404}});
    stack.ledger.set_faults(&unknown).await.unwrap();
    let posted = post(&mut stack, receipts_with_sellers(1).unwrap().remove(0)).await;
    stack.shown_in(&posted, "rejected", SOON).await;

    let file = stack.directory().join("receipts.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let strict = r#"on = [{ status = 404, then = "reject", reason = "unknown seller" }]"#;
    let mended = text.replace(strict, r#"on = [{ status = 404, then = "success" }]"#);
    assert_ne!(text, mended);
    std::fs::write(&file, mended).unwrap();
    let directory = stack.directory().to_path_buf();
    for member in stack.orchestrators.iter_mut().chain(&mut stack.dispatchers) {
        let ended = member.process.terminate(Duration::from_secs(25)).await.unwrap();
        assert!(ended.success());
        member.restart(&directory).await.unwrap();
    }
    assert_eq!(act(&stack, &posted, "reopen").await, 204);
    stack.shown_in(&posted, "registered", SOON).await;
    all_registered(&stack).await;
}
