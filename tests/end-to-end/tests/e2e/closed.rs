//! A destination that fails is closed once, for everybody: an outage costs time and nothing else.

use std::collections::BTreeSet;
use std::time::Duration;

use end_to_end::{Backlog, Options, Posted, Stack, eventually};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::sleep;

use super::limits::now;
use super::{all_registered, at_length, behind, model, quick, receipts};

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

/// Changes the fiscal API's settings, as an operator does.
pub async fn change(stack: &Stack, change: Value) {
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

fn a_hundred_are_due_in_an_hour(deadlines: &Value) {
    assert_eq!((&deadlines["at_risk"], &deadlines["passed"]), (&json!(100), &json!(0)));
    let nearest = OffsetDateTime::parse(deadlines["nearest"].as_str().unwrap(), &Rfc3339).unwrap();
    let ahead = nearest - OffsetDateTime::now_utc();
    assert!((55..=60).contains(&ahead.whole_minutes()), "{deadlines}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_behind_a_backlog_costs_canaries_and_drains_at_the_limit() {
    let options = closing().with("destination.fiscal.limits", "500/s");
    let mut stack = Stack::start(&options).await.unwrap();
    stack.post_all(&model()).await.unwrap();
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
        urgent: 100,
        ..behind(10_000)
    };
    backlog.fill(&stack.database).unwrap();
    change(&stack, json!({"settings": {"at_risk": "2h"}})).await;
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
    let at_risk = eventually(SOON, "deadlines at risk are measured", async || {
        let gauge = r#"chekhov_deadlines_at_risk{destination="fiscal"}"#;
        stack.orchestrators[0].measured(gauge).await.unwrap() == Some(100.0)
    });
    tokio::join!(sleep(Duration::from_secs(5)), at_risk);
    let calls = stack.ledger.calls(begun).await.unwrap();
    let outage = (now() - begun) / 1_000;
    let keys: BTreeSet<_> = calls.iter().map(|call| &call.idempotency_key).collect();
    assert!(
        (1..=5 + outage).contains(&i64::try_from(calls.len()).unwrap()),
        "{} calls in an outage of {outage} s",
        calls.len()
    );
    assert_eq!(keys.len(), calls.len(), "another receipt each time");
    let touched = backlog.touched(&stack.database).unwrap();
    assert!(
        touched <= calls.len(),
        "{touched} rows behind the outage were touched by {} canaries",
        calls.len()
    );
    let view = shown(&stack).await;
    assert!(view["queued"].as_i64().unwrap() <= 10_000);
    a_hundred_are_due_in_an_hour(&view["deadlines"]);
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
async fn an_opening_that_does_not_last_doubles_the_pause() {
    let options = closing()
        .with("destination.fiscal.probe", "1s")
        .with("destination.fiscal.probe_max", "8s");
    let mut stack = Stack::start(&options).await.unwrap();
    let mut faults = json!({"fiscal.report": {"mode": "stuck"}});
    stack.ledger.set_faults(&faults).await.unwrap();
    stack.post_all(&receipts(10)).await.unwrap();
    eventually(SOON, "some are sent", async || {
        stack.ledger.summary().await.unwrap()["registrations"] == 10
    })
    .await;
    // By then polls are due, and of what cannot be registered nothing was tried yet.
    let until = (OffsetDateTime::now_utc() + Duration::from_secs(3))
        .format(&Rfc3339)
        .unwrap();
    change(&stack, json!({"state": "closed", "until": until})).await;
    faults["fiscal.register"] = json!({"mode": "error", "status": 500});
    stack.ledger.set_faults(&faults).await.unwrap();
    stack.post_all(&receipts(100)).await.unwrap();
    is(&stack, "open").await;
    is(&stack, "closed").await;
    let view = shown(&stack).await;
    assert_eq!(view["canaries_failed"], 1, "{view}");
    let at = |key: &str| OffsetDateTime::parse(view[key].as_str().unwrap(), &Rfc3339).unwrap();
    let pause = (at("closed_until") - at("closed_since")).whole_milliseconds();
    assert!((1_900..2_100).contains(&pause), "{view}");
    stack.ledger.clear_faults().await.unwrap();
    stack.settled(SOON * 2).await;
    all_registered(&stack).await;
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
