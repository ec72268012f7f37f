//! A destination's limits hold for all dispatchers together, whoever comes and goes, and nothing of them is wasted.

use std::time::Duration;

use end_to_end::{FiscalCall, Options, Stack, busiest_second, eventually};
use serde_json::json;
use time::OffsetDateTime;
use tokio::time::sleep;

use super::{all_registered, mortal, receipts};

/// Milliseconds since 1970.
pub fn now() -> i64 {
    i64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000).unwrap()
}

fn limited(limit: &str) -> Options {
    Options {
        dispatchers: 3,
        ..Options::default()
    }
    .with("destination.fiscal.limits", limit)
    .with("dispatcher.sent_at", "true")
}

fn sent(calls: &[FiscalCall]) -> Vec<i64> {
    calls.iter().filter_map(|call| call.sent_at).collect()
}

fn arrived(calls: &[FiscalCall]) -> Vec<i64> {
    calls.iter().map(|call| call.at).collect()
}

/// More is on its way than the limit lets through.
async fn busy(stack: &mut Stack, count: usize) {
    stack.post_all(&receipts(count)).await.unwrap();
    eventually(Duration::from_secs(20), "calls are made", async || {
        stack.ledger.calls(0).await.unwrap().len() > 50
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_dispatchers_share_a_limit_while_one_dies_and_one_joins() {
    let mut stack = Stack::start(&limited("50/s")).await.unwrap();
    busy(&mut stack, 450).await;
    let begun = now();
    sleep(Duration::from_secs(5)).await;
    stack.dispatchers[0].process.kill().unwrap();
    sleep(Duration::from_secs(5)).await;
    stack.add_dispatcher().await.unwrap();
    let rest = u64::try_from(20_000 - (now() - begun)).unwrap_or_default();
    sleep(Duration::from_millis(rest)).await;
    let calls = stack.ledger.calls(begun).await.unwrap();
    let within = calls.iter().filter(|call| call.at < begun + 20_000).count();
    let (sent, arrived) = (busiest_second(&sent(&calls)), busiest_second(&arrived(&calls)));
    assert!(
        sent <= 50 && arrived <= 52,
        "in one second {sent} were sent and {arrived} arrived"
    );
    let in_second = |n: i64| calls.iter().filter(|call| (call.at - begun) / 1000 == n).count();
    let seconds: Vec<_> = (0..20).map(in_second).collect();
    assert!(within >= 930, "{within} calls in 20 s of 50/s: {seconds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_is_changed_holds_from_two_seconds_after() {
    let mut stack = Stack::start(&limited("50/s")).await.unwrap();
    busy(&mut stack, 300).await;
    for limit in [20, 80] {
        let change = json!({"settings": {"limits": [format!("{limit}/s")]}});
        let answer = stack.orchestrators[0].api.change("fiscal", &change).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        let from = now() + 2_000;
        sleep(Duration::from_secs(6)).await;
        let calls = stack.ledger.calls(from).await.unwrap();
        let (most, all) = (busiest_second(&sent(&calls)), calls.len());
        assert!(most <= limit, "{most} in one second of {limit}/s");
        assert!(all >= limit * 4 * 9 / 10, "{all} calls in 4 s of {limit}/s");
    }
    let shown = stack.orchestrators[0]
        .api
        .call(&["v1", "destinations", "fiscal"])
        .await
        .unwrap();
    assert_eq!(shown.body["settings"]["limits"], json!(["80/s"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_of_stuck_receipts_do_not_starve_registrations() {
    let options = Options {
        dispatchers: 2,
        ..Options::default()
    };
    let mut stack = Stack::start(&options.with("destination.fiscal.limits", "50/s"))
        .await
        .unwrap();
    let waiting = json!({"fiscal.report": {"mode": "stuck"}});
    stack.ledger.set_faults(&waiting).await.unwrap();
    let registered = async |stack: &Stack| {
        let summary = stack.ledger.summary().await.unwrap();
        summary["registrations"].as_u64().unwrap_or_default()
    };
    stack.post_all(&receipts(200)).await.unwrap();
    eventually(Duration::from_secs(30), "all are accepted there", async || {
        registered(&stack).await == 200
    })
    .await;
    let begun = now();
    stack.post_all(&receipts(40)).await.unwrap();
    eventually(Duration::from_secs(10), "the new ones are too", async || {
        registered(&stack).await == 240
    })
    .await;
    let calls = stack.ledger.calls(begun).await.unwrap();
    let polls = calls.iter().filter(|call| call.target == "fiscal.report").count();
    assert!(polls >= 40, "{polls} polls meanwhile: they took no turns from anybody");
    stack.ledger.clear_faults().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn three_dispatchers_share_the_concurrency_while_one_dies_and_one_joins() {
    let options = Options {
        dispatchers: 3,
        ..mortal()
    };
    let options = options
        .with("destination.fiscal.limits", "")
        .with("destination.fiscal.concurrency", "8");
    let mut stack = Stack::start(&options).await.unwrap();
    let slow = json!({"fiscal": {"mode": "slow", "latency_ms": 200}});
    stack.ledger.set_faults(&slow).await.unwrap();
    stack.post_all(&receipts(160)).await.unwrap();
    let most = async || stack.ledger.summary().await.unwrap()["max_under_way"].as_u64().unwrap();
    eventually(Duration::from_secs(20), "all places are taken", async || {
        most().await == 8
    })
    .await;
    stack.dispatchers[0].process.kill().unwrap();
    stack.add_dispatcher().await.unwrap();
    stack.post_all(&receipts(80)).await.unwrap();
    stack.settled(Duration::from_mins(1)).await;
    all_registered(&stack).await;
    let most = stack.ledger.summary().await.unwrap()["max_under_way"].as_u64().unwrap();
    assert_eq!(most, 8, "calls under way at once");
}
