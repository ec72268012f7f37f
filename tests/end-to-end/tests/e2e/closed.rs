//! A destination that fails is closed once, for everybody: an outage costs time and nothing else.

use std::collections::BTreeSet;
use std::time::Duration;

use end_to_end::{Backlog, Options, Posted, Stack, eventually};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::limits::now;
use super::{all_registered, at_length, quick, receipts};

const SOON: Duration = Duration::from_secs(20);

fn closing() -> Options {
    Options {
        dispatchers: 2,
        ..quick()
    }
    .with("destination.fiscal.slow_start", "2s")
    .with("destination.fiscal.probe", "500ms")
    .with("destination.fiscal.probe_max", "1s")
    .with("dispatcher.sent_at", "true")
}

async fn shown(stack: &Stack) -> Value {
    let api = &stack.orchestrators[0].api;
    api.call(&["v1", "destinations", "fiscal"]).await.unwrap().body
}

async fn is(stack: &Stack, state: &str) {
    eventually(SOON, &format!("it is {state}"), async || {
        shown(stack).await["state"] == state
    })
    .await;
}

async fn change(stack: &Stack, change: Value) {
    let answer = stack.orchestrators[0].api.change("fiscal", &change).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_told_to_wait_waits_with_all_the_others() {
    let mut stack = Stack::start(&closing().with("destination.fiscal.limits", "100/s"))
        .await
        .unwrap();
    stack.post_all(&receipts(100)).await.unwrap();
    eventually(SOON, "calls are made", async || {
        stack.ledger.calls(0).await.unwrap().len() > 20
    })
    .await;
    let told = json!({"fiscal.register": {"mode": "error", "status": 429, "retry_after": "5"}});
    stack.ledger.set_faults(&told).await.unwrap();
    is(&stack, "closed").await;
    let begun = now();
    stack.ledger.clear_faults().await.unwrap();
    let view = shown(&stack).await;
    assert!(view["reason"].as_str().unwrap().contains("429"), "{view}");
    // Who was under way has ended, and everybody has heard of it.
    sleep(Duration::from_secs(1)).await;
    let quiet = now();
    sleep(Duration::from_millis(3_500)).await;
    assert_eq!(
        stack.ledger.calls(quiet).await.unwrap().len(),
        0,
        "calls while all were told to wait"
    );
    is(&stack, "open").await;
    assert!(now() - begun >= 4_000, "it opened early");
    assert!(shown(&stack).await["speed"].as_f64().unwrap() < 1.0, "it begins slowly");
    stack.settled(SOON * 2).await;
    all_registered(&stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_behind_a_backlog_costs_canaries_and_drains_at_the_limit() {
    let options = closing().with("destination.fiscal.limits", "500/s");
    let mut stack = Stack::start(&options).await.unwrap();
    stack.post_all(&receipts(1)).await.unwrap();
    stack.settled(SOON).await;
    for mode in ["refuse", "hang"] {
        stack
            .ledger
            .set_faults(&json!({"fiscal": {"mode": mode}}))
            .await
            .unwrap();
        stack.post_all(&receipts(20)).await.unwrap();
        is(&stack, "closed").await;
    }
    let backlog = Backlog {
        name: "behind".to_owned(),
        count: 10_000,
        internal: ["validate", "enrich", "calculate", "number", "document"]
            .map(str::to_owned)
            .to_vec(),
        timers: 0,
        urgent: 100,
        deadline: Duration::from_hours(1),
    };
    backlog.fill(&stack.database).unwrap();
    eventually(SOON, "requests that hang have ended", async || {
        stack
            .database
            .sql("select count(*) from work where state = 'dispatching'")
            .unwrap()
            == "0"
    })
    .await;
    let begun = now();
    stack.post_all(&receipts(20)).await.unwrap();
    sleep(Duration::from_secs(5)).await;
    let calls = stack.ledger.calls(begun).await.unwrap();
    let keys: BTreeSet<_> = calls.iter().map(|call| &call.idempotency_key).collect();
    assert!(
        (1..=10).contains(&calls.len()),
        "{} calls in an outage of 5 s",
        calls.len()
    );
    assert_eq!(keys.len(), calls.len(), "another receipt each time");
    let touched = backlog.touched(&stack.database).unwrap();
    assert!(
        touched <= calls.len(),
        "{touched} rows behind the outage were touched by {} canaries",
        calls.len()
    );
    assert!(shown(&stack).await["queued"].as_i64().unwrap() <= 10_000);
    let waiting = stack.shown(stack.posted.last().unwrap()).await.reason.unwrap();
    assert!(waiting.contains("fiscal is closed"), "{waiting}");

    stack.ledger.clear_faults().await.unwrap();
    is(&stack, "open").await;
    let urgent: BTreeSet<String> = backlog.ids(&stack.database).unwrap().into_iter().skip(9_900).collect();
    eventually(SOON, "slow start is over", async || shown(&stack).await["speed"] == 1.0).await;
    let begun = now();
    stack.post_all(&receipts(20)).await.unwrap();
    sleep(Duration::from_secs(8)).await;
    let calls = stack
        .ledger
        .calls(begun)
        .await
        .unwrap()
        .iter()
        .filter(|call| call.at < begun + 8_000)
        .count();
    assert!(calls >= 8 * 465, "{calls} calls in 8 s of 500/s");
    let waiting = stack
        .database
        .sql("select id from work where attempt = 0 and position = 5")
        .unwrap();
    let waiting: BTreeSet<&str> = waiting.lines().collect();
    assert!(waiting.len() > 5_000, "there is a backlog still: {}", waiting.len());
    assert!(
        urgent.iter().all(|id| !waiting.contains(id.as_str())),
        "deadlines go first"
    );
    // The last were posted while it was closed, and after.
    let served = |posted: &&Posted| !waiting.contains(posted.id.as_str());
    let fresh = stack.posted.iter().rev().take(40).filter(served).count();
    assert_eq!(fresh, 40, "fresh ones are served");
    let there = "select (select count(*) from work) + (select count(*) from finished)";
    let accepted = 10_000 + stack.posted.len();
    assert_eq!(stack.database.sql(there).unwrap(), accepted.to_string(), "none is lost");
    if at_length() {
        eventually(SOON * 10, "all of it is registered", async || {
            stack.database.sql("select count(*) from work").unwrap() == "0"
        })
        .await;
        assert_eq!(stack.ledger.summary().await.unwrap()["registrations"], accepted);
        all_registered(&stack).await;
    }
    assert_eq!(stack.ledger.summary().await.unwrap()["registered_twice"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_pauses_drains_and_opens_for_everybody() {
    let mut stack = Stack::start(&closing()).await.unwrap();
    stack.ledger.set(&json!({"done_after_ms": 60_000})).await.unwrap();
    stack.post_all(&receipts(5)).await.unwrap();
    eventually(SOON, "all are sent", async || {
        stack.ledger.summary().await.unwrap()["registrations"] == 5
    })
    .await;
    change(&stack, json!({"state": "draining", "reason": "they move"})).await;
    sleep(Duration::from_millis(1_500)).await;
    stack.post_all(&receipts(5)).await.unwrap();
    stack.ledger.set(&json!({"done_after_ms": 0})).await.unwrap();
    eventually(SOON, "what was sent is confirmed", async || {
        stack.database.sql("select count(*) from finished").unwrap() == "5"
    })
    .await;
    assert_eq!(
        stack.ledger.summary().await.unwrap()["registrations"],
        5,
        "nothing new was submitted"
    );
    let reason = stack.shown(stack.posted.last().unwrap()).await.reason.unwrap();
    assert!(reason.contains("fiscal is being drained: they move"), "{reason}");

    change(&stack, json!({"state": "paused"})).await;
    let directory = stack.directory().to_path_buf();
    stack.dispatchers[0].process.kill().unwrap();
    stack.dispatchers[0].restart(&directory).await.unwrap();
    let quiet = now();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(
        stack.ledger.calls(quiet).await.unwrap().len(),
        0,
        "paused, also after a restart"
    );
    change(&stack, json!({"state": "open"})).await;
    stack.settled(SOON).await;
    all_registered(&stack).await;
}
