//! On a good day.

use std::time::Duration;

use end_to_end::{Options, Stack, fixture, fresh, read};

#[tokio::test(flavor = "multi_thread")]
async fn all_receipts_are_registered_exactly_once() {
    let templates = read(&fixture("valid.ndjson")).unwrap();
    let mut stack = Stack::start(&Options::default()).await.unwrap();
    stack.post_all(&fresh(&templates, templates.len())).await.unwrap();
    stack.settled(Duration::from_mins(4)).await;

    let verdict = stack.judge().await.unwrap();
    assert!(verdict.all_registered(), "{verdict:#?}");
    assert_eq!(verdict.registered, 500);
    assert_eq!(stack.ledger.summary().await.unwrap()["registered_twice"], 0);
}
