//! Which traces are exported, and whose they are.

use std::time::Duration;

use end_to_end::{Collector, Span, Stack, TOKEN, eventually};
use serde_json::{Value, json};

use super::{quick, receipts};

const SOON: Duration = Duration::from_secs(30);
const CALLERS: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLERS_SPAN: &str = "00f067aa0ba902b7";

/// Posts a receipt as part of a caller's trace; answers its id.
async fn post(stack: &Stack, receipt: &Value, flags: &str) -> String {
    let answer = reqwest::Client::new()
        .post(format!("{}/v1/receipts", stack.orchestrators[0].api.base()))
        .header("authorization", format!("Bearer {TOKEN}"))
        .header("content-type", "application/json")
        .header("traceparent", format!("00-{CALLERS}-{CALLERS_SPAN}-{flags}"))
        .body(receipt.to_string())
        .send()
        .await
        .unwrap();
    let posted: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    posted["id"].as_str().unwrap().to_owned()
}

/// Waits until it is registered; answers its trace id.
async fn registered(stack: &Stack, id: &str) -> String {
    let api = &stack.orchestrators[0].api;
    let mut trace = String::new();
    eventually(SOON, "it is registered", async || {
        let shown = api.get(id).await.ok().flatten();
        shown.is_some_and(|shown| {
            trace.clone_from(&shown.trace_id);
            shown.state == "registered"
        })
    })
    .await;
    trace
}

/// Everything is sent once both processes have ended.
async fn ended(stack: &mut Stack) {
    for member in stack.orchestrators.iter_mut().chain(&mut stack.dispatchers) {
        let ended = member.process.terminate(Duration::from_secs(25)).await;
        assert!(ended.unwrap().success());
    }
}

fn of<'a>(spans: &'a [Span], id: &str) -> Vec<&'a Span> {
    let is_its = |span: &&Span| span.attributes.get("receipt.id").is_some_and(|receipt| receipt == id);
    spans.iter().filter(is_its).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_callers_decision_holds_in_both_processes_and_failed_attempts_are_exported_in_any_case() {
    let collector = Collector::start().await.unwrap();
    let options = quick()
        .with("telemetry.endpoint", collector.endpoint())
        .with("telemetry.sampling", "0");
    let mut stack = Stack::start(&options).await.unwrap();
    let failing = json!({"mode": "error", "status": 503, "retry_after": 1});
    // Not there yet: nothing that closes a destination.
    let absent = json!({"mode": "error", "status": 200, "body": {"error": {"code": 34}}});
    stack
        .ledger
        .set_faults(&json!({"tax": failing, "fiscal.document": absent}))
        .await
        .unwrap();
    let receipts = receipts(3);
    let sampled = post(&stack, &receipts[0], "01").await;
    let unsampled = post(&stack, &receipts[1], "00").await;
    stack.post_all(&receipts[2..]).await.unwrap();
    let own = stack.posted[0].id.clone();
    let met = |stage: &'static str| {
        let (api, ids) = (
            stack.orchestrators[0].api.clone(),
            [&sampled, &unsampled, &own].map(String::clone),
        );
        async move {
            eventually(SOON, "the fault is met", async || {
                for id in &ids {
                    let shown = api.get(id).await.ok().flatten();
                    let met = shown.is_some_and(|shown| shown.history.iter().any(|call| call.stage == stage));
                    if !met {
                        return false;
                    }
                }
                true
            })
            .await;
        }
    };
    met("calculate").await;
    stack
        .ledger
        .set_faults(&json!({"fiscal.document": absent}))
        .await
        .unwrap();
    met("fetch").await;
    stack.ledger.clear_faults().await.unwrap();
    assert_eq!(registered(&stack, &sampled).await, CALLERS);
    assert_eq!(registered(&stack, &unsampled).await, CALLERS);
    let own_trace = registered(&stack, &own).await;
    ended(&mut stack).await;

    let spans = collector.trace(CALLERS);
    let kinds = |spans: &[&Span]| {
        let mut kinds: Vec<i32> = spans.iter().map(|span| span.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    };
    let whole = of(&spans, &sampled);
    assert_eq!(
        kinds(&whole),
        [1, 2, 4, 5],
        "intake, attempts and waits, publish, process"
    );
    for stage in ["validate", "calculate", "register", "fetch"] {
        assert!(
            whole.iter().any(|span| span.name == format!("stage {stage}")),
            "{stage}"
        );
    }
    let alone = collector.trace(&own_trace);
    for (spans, id) in [(&spans, &unsampled), (&alone, &own)] {
        let failed = of(spans, id);
        let mut stages: Vec<_> = failed.iter().map(|span| span.name.as_str()).collect();
        stages.sort_unstable();
        stages.dedup();
        assert_eq!(stages, ["stage calculate", "stage fetch"], "{failed:#?}");
        for attempt in failed {
            assert!(attempt.failed);
            let calls: Vec<_> = spans.iter().filter(|span| span.parent_id == attempt.span_id).collect();
            assert_eq!(calls.len(), 1, "an attempt comes with its call");
            let status = if attempt.name == "stage fetch" { "200" } else { "503" };
            assert_eq!(calls[0].attributes["http.response.status_code"], status);
        }
    }
    assert!(alone.iter().all(|span| span.kind == 3 || span.failed), "{alone:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_that_is_not_continued_is_linked_to_its_callers() {
    let collector = Collector::start().await.unwrap();
    let options = quick()
        .with("telemetry.endpoint", collector.endpoint())
        .with("intake.continue_trace", "false");
    let mut stack = Stack::start(&options).await.unwrap();
    let id = post(&stack, &receipts(1)[0], "00").await;
    let trace = registered(&stack, &id).await;
    ended(&mut stack).await;
    assert_ne!(trace, CALLERS);
    assert!(collector.trace(CALLERS).is_empty());
    let spans = collector.trace(&trace);
    let intake = spans.iter().find(|span| span.kind == 2).unwrap();
    assert_eq!(intake.parent_id, "");
    assert_eq!(intake.links, [(CALLERS.to_owned(), CALLERS_SPAN.to_owned())]);
    assert!(
        spans.iter().any(|span| span.name == "stage fetch"),
        "it is sampled by the ratio"
    );
}
