//! Processes that die without a word.

use std::time::Duration;

use end_to_end::{Stack, eventually};
use serde_json::json;

use super::{all_registered, mortal, receipts};

async fn started_again_they_finish(stack: &mut Stack) {
    let directory = stack.directory().to_path_buf();
    stack.orchestrators[0].restart(&directory).await.unwrap();
    stack.dispatchers[0].restart(&directory).await.unwrap();
    stack.settled(Duration::from_mins(1)).await;
    all_registered(stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_processes_are_killed_in_the_middle_and_started_again() {
    let mut stack = Stack::start(&mortal()).await.unwrap();
    stack.post_all(&receipts(150)).await.unwrap();
    eventually(
        Duration::from_secs(30),
        "some are registered and some are not",
        async || {
            let calls = stack.ledger.summary().await.unwrap();
            calls["registrations"].as_u64().unwrap_or_default() >= 10
        },
    )
    .await;
    stack.orchestrators[0].process.kill().unwrap();
    stack.dispatchers[0].process.kill().unwrap();
    let open = stack.database.sql("select count(*) from work").unwrap();
    assert_ne!(open.trim(), "0", "the kill came too late to show anything");

    started_again_they_finish(&mut stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_process_hands_back_and_nothing_is_lost() {
    let mut stack = Stack::start(&mortal()).await.unwrap();
    stack.post_all(&receipts(100)).await.unwrap();
    let limit = Duration::from_secs(25);
    assert!(stack.orchestrators[0].process.terminate(limit).await.unwrap().success());
    assert!(stack.dispatchers[0].process.terminate(limit).await.unwrap().success());
    started_again_they_finish(&mut stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_living_owner_forgot_is_given_back() {
    let mut stack = Stack::start(&mortal()).await.unwrap();
    let slow = json!({"tax": {"mode": "error", "status": 503, "retry_after": "60"}});
    stack.ledger.set_faults(&slow).await.unwrap();
    stack.post_all(&receipts(5)).await.unwrap();
    eventually(Duration::from_secs(20), "they wait", async || {
        let waiting = "select count(*) from work where internal_due_at is not null";
        stack.database.sql(waiting).is_ok_and(|found| found == "5")
    })
    .await;
    stack.ledger.clear_faults().await.unwrap();
    // As a claim whose answer was lost leaves them.
    let orchestrator = "(select id from instances where service = 'chekhov-orchestrator')";
    let claim =
        format!("update work set state = 'running', owner = {orchestrator}, epoch = epoch + 1, internal_due_at = null");
    stack.database.sql(&claim).unwrap();
    stack.settled(Duration::from_mins(1)).await;
    all_registered(&stack).await;
}
