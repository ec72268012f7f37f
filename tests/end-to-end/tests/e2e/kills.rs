//! Processes that die without a word.

use std::time::Duration;

use end_to_end::{Stack, eventually};

use super::{all_registered, mortal, receipts};

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

    let directory = stack.directory().to_path_buf();
    stack.orchestrators[0].restart(&directory).await.unwrap();
    stack.dispatchers[0].restart(&directory).await.unwrap();
    stack.settled(Duration::from_mins(1)).await;
    all_registered(&stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_process_hands_back_and_nothing_is_lost() {
    let mut stack = Stack::start(&mortal()).await.unwrap();
    stack.post_all(&receipts(100)).await.unwrap();
    let limit = Duration::from_secs(25);
    assert!(stack.orchestrators[0].process.terminate(limit).await.unwrap().success());
    assert!(stack.dispatchers[0].process.terminate(limit).await.unwrap().success());
    let directory = stack.directory().to_path_buf();
    stack.orchestrators[0].restart(&directory).await.unwrap();
    stack.dispatchers[0].restart(&directory).await.unwrap();
    stack.settled(Duration::from_mins(1)).await;
    all_registered(&stack).await;
}
