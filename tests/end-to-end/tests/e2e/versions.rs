//! A receipt finishes on the version of the pipeline that it began with.

use std::time::Duration;

use end_to_end::{Stack, eventually};
use serde_json::json;

use super::{all_registered, quick, receipts};

const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn what_began_on_an_older_version_finishes_on_it() {
    let mut stack = Stack::start(&quick()).await.unwrap();
    stack
        .ledger
        .set_faults(&json!({"tax": {"mode": "error", "status": 503}}))
        .await
        .unwrap();
    stack.post_all(&receipts(1)).await.unwrap();
    let old = stack.posted[0].clone();
    eventually(LIMIT, "it is under way", async || {
        stack
            .shown(&old)
            .await
            .history
            .iter()
            .any(|call| call.outcome == "retry")
    })
    .await;

    // The new version makes its last stage only for receipts that there are none of.
    let file = stack.directory().join("receipts.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let changed = text.replace(
        "[fetch.document]",
        "[fetch]\nwhen = '.receipt.total < 0'\n\n[fetch.document]",
    );
    assert_ne!(text, changed);
    std::fs::write(&file, changed).unwrap();
    let directory = stack.directory().to_path_buf();
    for member in stack.orchestrators.iter_mut().chain(&mut stack.dispatchers) {
        assert!(
            member
                .process
                .terminate(Duration::from_secs(25))
                .await
                .unwrap()
                .success()
        );
        member.restart(&directory).await.unwrap();
    }
    stack.ledger.clear_faults().await.unwrap();
    stack.post_all(&receipts(1)).await.unwrap();
    let new = stack.posted[1].clone();
    let (old, new) = (
        stack.shown_in(&old, "registered", LIMIT).await,
        stack.shown_in(&new, "registered", LIMIT).await,
    );
    let fetched = |receipt: &end_to_end::Receipt| receipt.history.iter().any(|call| call.stage == "fetch");
    assert!(fetched(&old) && !fetched(&new));
    all_registered(&stack).await;
}
