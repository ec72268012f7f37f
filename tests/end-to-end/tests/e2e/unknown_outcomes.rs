//! Calls that were sent and not answered: by an API that knows a call id again, by one that can be asked, and by one that can
//! neither.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use end_to_end::{Options, Posted, Stack, eventually};
use serde_json::{Value, json};

use super::{all_registered, quick, receipts};

const SOON: Duration = Duration::from_secs(30);
/// Of each kind of API.
const COUNT: usize = 1_000;

fn pipeline(name: &str) -> Options {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines").join(name);
    Options {
        pipeline: Some(file),
        ..quick()
    }
    .with("destination.fiscal.limits", "")
    .with("destination.fiscal.probe", "500ms")
    .with("destination.fiscal.probe_max", "1s")
    .with("destination.fiscal.slow_start", "1s")
}

/// What goes wrong now and then: the answer is lost, the request is lost, the work is done when nobody waits for it any more,
/// and what was registered is found only later.
fn now_and_then() -> Value {
    json!({
        "fiscal.register": [
            {"mode": "commit_then_drop", "share": 0.05},
            {"mode": "drop_before_commit", "share": 0.02},
            {"mode": "commit_late", "latency_ms": 3_000, "share": 0.01},
        ],
        "fiscal.lookup": {"mode": "lag", "latency_ms": 1_000},
    })
}

async fn act(stack: &Stack, posted: &Posted, action: &str) -> u16 {
    let path = ["v1", "receipts", &posted.id, action];
    stack.orchestrators[0].api.act(&path).await.unwrap().status
}

fn counted(stack: &Stack, sql: &str) -> usize {
    stack.database.sql(sql).unwrap().parse().unwrap()
}

async fn come_to_unknown(stack: &Stack, least: usize) {
    eventually(SOON, "calls come to unknown", async || {
        counted(
            stack,
            "select count(distinct receipt) from calls where outcome = 'unknown'",
        ) >= least
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_api_knows_again_is_sent_again() {
    let options = Options {
        dispatchers: 2,
        ..quick()
    };
    let mut stack = Stack::start(&options.with("destination.fiscal.limits", ""))
        .await
        .unwrap();
    stack.ledger.set_faults(&now_and_then()).await.unwrap();
    stack.post_all(&receipts(COUNT)).await.unwrap();
    come_to_unknown(&stack, COUNT / 20).await;
    // Each is struck for as long as its fault is there.
    stack.ledger.clear_faults().await.unwrap();
    stack.settled(SOON).await;
    all_registered(&stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_api_can_be_asked_about_is_looked_up_and_never_sent_twice() {
    let options = Options {
        dispatchers: 2,
        ..pipeline("lookup.toml")
    };
    let mut stack = Stack::start(&options).await.unwrap();
    stack.ledger.set(&json!({"idempotent": false})).await.unwrap();
    stack.ledger.set_faults(&now_and_then()).await.unwrap();
    stack.post_all(&receipts(COUNT)).await.unwrap();
    come_to_unknown(&stack, COUNT / 20).await;
    // Those that are lost on their way are believed to be absent, and sent again.
    eventually(SOON, "some are sent again", async || {
        counted(
            &stack,
            "select count(*) from (select from calls where outcome = 'unknown' group by receipt having count(*) > 1) t",
        ) > 0
    })
    .await;
    stack.ledger.clear_faults().await.unwrap();
    stack.settled(SOON).await;
    all_registered(&stack).await;
    let sends = "count(*) filter (where request = 'send')";
    let absents = "count(*) filter (where request = 'send.lookup' and outcome = 'absent')";
    let blind = format!(
        "select count(*) from (select from calls where stage = 'register' group by receipt having {absents} < 2 * ({sends} - 1)) t"
    );
    assert_eq!(counted(&stack, &blind), 0, "sent again without two look-ups before");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_up_that_finds_nothing_at_all_is_not_believed() {
    // All are under way before the first comes to nothing: it closes once.
    let options = pipeline("lookup.toml").with("destination.fiscal.concurrency", "128");
    let mut stack = Stack::start(&options).await.unwrap();
    stack.ledger.set(&json!({"idempotent": false})).await.unwrap();
    stack.post_all(&receipts(5)).await.unwrap();
    stack.settled(SOON).await;
    let blind = json!({
        "fiscal.register": {"mode": "commit_late", "latency_ms": 2_500},
        "fiscal.lookup": {"mode": "error", "status": 404},
    });
    stack.ledger.set_faults(&blind).await.unwrap();
    stack.post_all(&receipts(100)).await.unwrap();
    let mut doubted = BTreeSet::new();
    eventually(SOON, "none is believed", async || {
        let said = "select id from work where reason like '%not believed%'";
        doubted.extend(stack.database.sql(said).unwrap().lines().map(str::to_owned));
        doubted.len() == 100
    })
    .await;
    for posted in &stack.posted[5..] {
        assert_eq!(act(&stack, posted, "cancel").await, 409);
    }
    assert_eq!(counted(&stack, "select count(*) from finished"), 5);
    stack.ledger.clear_faults().await.unwrap();
    stack.settled(SOON).await;
    all_registered(&stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_ends_nothing_before_it_is_known_what_became_of_the_call() {
    let mut stack = Stack::start(&pipeline("lookup.toml")).await.unwrap();
    stack.ledger.set(&json!({"idempotent": false})).await.unwrap();
    stack.post_all(&receipts(1)).await.unwrap();
    stack.settled(SOON).await;
    let refused = json!({"mode": "error", "status": 422});
    for mode in ["commit_then_drop", "drop_before_commit"] {
        let faults = json!({"fiscal.register": {"mode": mode}, "fiscal.lookup": refused});
        stack.ledger.set_faults(&faults).await.unwrap();
        stack.post_all(&receipts(1)).await.unwrap();
        let shown = stack.shown_in(stack.posted.last().unwrap(), "parked", SOON).await;
        let reason = shown.reason.unwrap();
        assert!(reason.contains("422") && reason.contains("nobody knows"), "{reason}");
        assert_eq!(act(&stack, stack.posted.last().unwrap(), "cancel").await, 409);
    }
    let faults = json!({"fiscal.register": refused});
    stack.ledger.set_faults(&faults).await.unwrap();
    let (there, absent) = (stack.posted[1].clone(), stack.posted[2].clone());
    for posted in [&absent, &there] {
        assert_eq!(act(&stack, posted, "release").await, 204);
        assert_eq!(act(&stack, posted, "cancel").await, 409);
    }
    let shown = stack.shown_in(&there, "registered", SOON).await;
    assert_eq!(shown.history.iter().filter(|call| call.request == "send").count(), 1);
    let shown = stack.shown_in(&absent, "rejected", SOON).await;
    let calls: Vec<_> = shown
        .history
        .iter()
        .filter(|call| call.stage == "register")
        .map(|call| (call.request.as_str(), call.outcome.as_str()))
        .collect();
    assert_eq!(calls.first(), Some(&("send", "unknown")));
    assert_eq!(calls.last(), Some(&("send", "reject")));
    assert_eq!(calls.iter().filter(|call| call.0 == "send").count(), 2);
    assert!(calls.iter().filter(|call| call.1 == "absent").count() >= 2, "{calls:?}");
    assert_eq!(stack.ledger.summary().await.unwrap()["registrations"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_can_be_asked_about_is_found_out_by_a_person() {
    let mut stack = Stack::start(&pipeline("manual.toml")).await.unwrap();
    stack.ledger.set(&json!({"idempotent": false})).await.unwrap();
    for mode in ["commit_then_drop", "drop_before_commit"] {
        let fault = json!({"fiscal.register": {"mode": mode}});
        stack.ledger.set_faults(&fault).await.unwrap();
        stack.post_all(&receipts(1)).await.unwrap();
        let posted = stack.posted.last().unwrap().clone();
        let shown = stack.shown_in(&posted, "parked", SOON).await;
        assert!(shown.reason.unwrap().contains("nobody knows"));
        stack.ledger.clear_faults().await.unwrap();
        assert_eq!(act(&stack, &posted, "cancel").await, 409);
        assert_eq!(act(&stack, &posted, "release").await, 204);
        stack.shown_in(&posted, "parked", SOON).await;

        let entry = stack.ledger.entry(&posted.merchant, &posted.external_id).await.unwrap();
        let finding = match entry.registrations.first() {
            Some(there) => json!({"there": true, "value": {"uuid": there["uuid"]}}),
            None => json!({"there": false}),
        };
        let api = &stack.orchestrators[0].api;
        for wrong in [json!({}), json!({"there": true}), json!({"there": false, "value": 1})] {
            assert_eq!(api.resolve(&posted.id, &wrong).await.unwrap().status, 400, "{wrong}");
        }
        assert_eq!(api.resolve(&posted.id, &finding).await.unwrap().status, 204);
        stack.shown_in(&posted, "registered", SOON).await;
        assert_eq!(api.resolve(&posted.id, &finding).await.unwrap().status, 409);
    }
    all_registered(&stack).await;

    // Accepted, and then lost there: only a person can say that it is to be registered anew.
    stack.posted.clear();
    stack
        .ledger
        .set(&json!({"idempotent": false, "done_after_ms": 60_000}))
        .await
        .unwrap();
    stack.post_all(&receipts(1)).await.unwrap();
    let posted = stack.posted[0].clone();
    eventually(SOON, "it is accepted", async || {
        let history = stack.shown(&posted).await.history;
        history.iter().any(|call| call.outcome == "poll")
    })
    .await;
    stack.ledger.forget().await.unwrap();
    stack.ledger.set(&json!({"idempotent": false})).await.unwrap();
    stack.shown_in(&posted, "parked", SOON).await;
    let api = &stack.orchestrators[0].api;
    let there = json!({"there": true, "value": {"uuid": "of no use"}});
    assert_eq!(api.resolve(&posted.id, &there).await.unwrap().status, 409);
    assert_eq!(
        api.resolve(&posted.id, &json!({"there": false})).await.unwrap().status,
        204
    );
    let shown = stack.shown_in(&posted, "registered", SOON).await;
    let sends = shown
        .history
        .iter()
        .filter(|call| call.request == "send" && call.outcome == "success");
    let mut keys: Vec<_> = sends.map(|call| &call.call_id).collect();
    keys.dedup();
    assert_eq!(keys.len(), 2, "{:#?}", shown.history);
    all_registered(&stack).await;
}
