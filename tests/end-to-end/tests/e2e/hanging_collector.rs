//! A collector that takes connections and never answers.

use std::time::Duration;

use end_to_end::{Collector, Stack, eventually};

use super::{all_registered, quick, receipts};

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_hangs_holds_up_no_receipt_and_no_stop_and_what_it_loses_is_counted() {
    let endpoint = Collector::hanging().await.unwrap();
    let mut stack = Stack::start(&quick().with("telemetry.endpoint", &endpoint))
        .await
        .unwrap();
    stack.post_all(&receipts(200)).await.unwrap();
    stack.settled(Duration::from_mins(1)).await;
    all_registered(&stack).await;
    for member in stack.orchestrators.iter_mut().chain(&mut stack.dispatchers) {
        eventually(Duration::from_secs(30), "lost spans are counted", async || {
            let lost = "chekhov_spans_dropped_total{reason=\"export_failed\"}";
            member.measured(lost).await.unwrap().is_some_and(|lost| lost > 0.0)
        })
        .await;
        // Two seconds of parting, five for what is left.
        let ended = member.process.terminate(Duration::from_secs(15)).await;
        assert!(ended.unwrap().success());
    }
}
