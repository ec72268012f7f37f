//! One receipt, one trace, as a collector receives it.

use std::time::Duration;

use end_to_end::{Collector, Posted, Span, Stack, eventually};
use serde_json::json;

use super::{quick, receipts};

const ORCHESTRATOR: &str = "chekhov-orchestrator";
const DISPATCHER: &str = "chekhov-external-dispatcher";

fn named<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

async fn retried(stack: &Stack, posted: &Posted, stage: &str) {
    eventually(Duration::from_secs(30), "the fault is met", async || {
        let history = stack.shown(posted).await.history;
        history
            .iter()
            .any(|call| call.stage == stage && call.outcome == "retry")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_is_one_tree_over_both_processes_also_across_a_retry() {
    let collector = Collector::start().await.unwrap();
    let options = quick().with("telemetry.endpoint", collector.endpoint());
    let mut stack = Stack::start(&options).await.unwrap();
    let failing = json!({"mode": "error", "status": 503});
    let faults = json!({"tax": failing, "fiscal.register": failing});
    stack.ledger.set_faults(&faults).await.unwrap();
    stack.post_all(&receipts(1)).await.unwrap();
    let posted = stack.posted[0].clone();
    retried(&stack, &posted, "calculate").await;
    stack
        .ledger
        .set_faults(&json!({"fiscal.register": failing}))
        .await
        .unwrap();
    retried(&stack, &posted, "register").await;
    stack.ledger.clear_faults().await.unwrap();
    let shown = stack.shown_in(&posted, "registered", Duration::from_secs(30)).await;

    // What is left is sent when a process ends.
    for member in stack.orchestrators.iter_mut().chain(&mut stack.dispatchers) {
        assert!(
            member
                .process
                .terminate(Duration::from_secs(25))
                .await
                .unwrap()
                .success()
        );
    }
    eventually(Duration::from_secs(10), "the last stage was received", async || {
        !named(&collector.trace(&shown.trace_id), "stage fetch").is_empty()
    })
    .await;
    let spans = collector.trace(&shown.trace_id);
    let parent = |span: &Span| spans.iter().find(|other| other.span_id == span.parent_id);

    let intake = named(&spans, "POST /v1/receipts");
    assert_eq!(intake.len(), 1);
    assert_eq!(
        (intake[0].service.as_str(), intake[0].kind, intake[0].parent_id.as_str()),
        (ORCHESTRATOR, 2, "")
    );
    for span in &spans {
        let parent = parent(span).map(|parent| parent.name.as_str());
        let expected = match (span.kind, span.service.as_str()) {
            (2, _) => None,
            (1 | 4, ORCHESTRATOR) => Some("POST /v1/receipts"),
            (5, DISPATCHER) => Some("publish "),
            (1, DISPATCHER) => Some("process "),
            (3, _) => Some("stage "),
            _ => panic!("{span:#?}"),
        };
        match (expected, parent) {
            (None, None) => {}
            (Some(expected), Some(parent)) => assert!(parent.starts_with(expected), "{span:#?} under {parent}"),
            _ => panic!("{span:#?} under {parent:?}"),
        }
        assert_eq!(
            span.kind == 5,
            !span.links.is_empty(),
            "a process span is linked to its publish span: {span:#?}"
        );
    }
    assert!(
        named(&spans, "stage calculate").len() >= 2,
        "its retry is in the same trace"
    );
    assert!(named(&spans, "stage register").len() >= 2);
    let publishes = spans.iter().filter(|span| span.kind == 4);
    for publish in publishes {
        assert_eq!(publish.attributes["messaging.system"], "rabbitmq");
        assert_eq!(publish.attributes["messaging.operation.type"], "send");
        assert_eq!(publish.attributes["receipt.id"], posted.id);
    }
    let calls: Vec<_> = spans.iter().filter(|span| span.kind == 3).collect();
    assert_eq!(calls.len(), shown.history.len(), "a span a call");
    assert!(
        calls
            .iter()
            .any(|call| call.attributes["http.request.resend_count"] != "0")
    );
    assert!(
        calls
            .iter()
            .all(|call| call.attributes.contains_key("http.response.status_code"))
    );
}
