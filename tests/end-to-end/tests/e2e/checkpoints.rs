//! What internal stages came to is stored soon, and by few checkpoints.

use std::time::Duration;

use end_to_end::{Stack, eventually};
use serde_json::json;

use super::{all_registered, mortal, quick, receipts};

const SOON: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn what_came_before_a_stage_that_hangs_is_stored_and_never_done_again() {
    let mut stack = Stack::start(&mortal()).await.unwrap();
    let hangs = json!({"documents": {"mode": "hang"}});
    stack.ledger.set_faults(&hangs).await.unwrap();
    stack.post_all(&receipts(20)).await.unwrap();
    eventually(SOON, "all of them are stored at the stage that hangs", async || {
        let there = "select count(*) from work where position = 4 and state = 'running'";
        stack.database.sql(there).is_ok_and(|found| found == "20")
    })
    .await;
    let done = "select stage, count(*), count(result) from calls
                where stage in ('validate', 'enrich', 'calculate', 'number') group by stage order by stage";
    let before = stack.database.sql(done).unwrap();
    assert_eq!(before.lines().count(), 4, "{before}");

    stack.orchestrators[0].process.kill().unwrap();
    stack.ledger.clear_faults().await.unwrap();
    let directory = stack.directory().to_path_buf();
    stack.orchestrators[0].restart(&directory).await.unwrap();
    stack.settled(Duration::from_mins(1)).await;
    all_registered(&stack).await;
    assert_eq!(stack.database.sql(done).unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_that_come_to_the_same_again_share_a_checkpoint() {
    let mut stack = Stack::start(&quick()).await.unwrap();
    for receipt in receipts(10) {
        stack.post_all(&[receipt]).await.unwrap();
        stack.settled(SOON).await;
    }
    all_registered(&stack).await;
    let rows = r#"chekhov_commit_rows_sum{statement="step"}"#;
    let steps = stack.orchestrators[0].measured(rows).await.unwrap().unwrap_or_default();
    // One after what is read, one to the destination; five without. A slow machine may need one more here and there.
    assert!((20.0..=30.0).contains(&steps), "{steps} checkpoints of 10 receipts");
}
