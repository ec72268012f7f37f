//! A destination counts the calls of each cash register apart: each has its limits, and none the backlog of another.

use std::collections::BTreeMap;
use std::time::Duration;

use end_to_end::{Backlog, Options, Stack, busiest_second, eventually};
use serde_json::Value;
use tokio::time::sleep;

use super::limits::now;
use super::{all_registered, behind, model, quick, receipts};

const SOON: Duration = Duration::from_secs(20);
/// Of one key, in a second.
const LIMIT: usize = 5;

fn keyed() -> Options {
    Options {
        dispatchers: 3,
        ..quick()
    }
    .with("destination.fiscal.limits", "100/s")
    .with("destination.fiscal.limit_key", ".receipt.merchant.id")
    .with("destination.fiscal.key_limits", &format!("{LIMIT}/s"))
    .with("dispatcher.sent_at", "true")
}

/// So many receipts of each of so many merchants, in turns.
fn of_merchants(merchants: usize, each: usize) -> Vec<Value> {
    let mut receipts = receipts(merchants * each);
    receipts.retain(|receipt| receipt.get("original_external_id").is_none());
    for (n, receipt) in receipts.iter_mut().enumerate() {
        receipt["merchant"]["id"] = format!("till-{}", n % merchants).into();
    }
    receipts
}

/// When the calls of each key were sent, from `from` until `to`, once all of them are on record.
async fn sent(stack: &Stack, from: i64, to: i64) -> BTreeMap<String, Vec<i64>> {
    let mut calls = stack.ledger.calls(from).await.unwrap();
    calls.retain(|call| call.at < to);
    let mut keys = BTreeMap::new();
    eventually(SOON, "all are on record", async || {
        keys = on_record(stack);
        calls
            .iter()
            .all(|call| keys.contains_key(call.idempotency_key.as_deref().unwrap()))
    })
    .await;
    let mut sent: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for call in calls {
        let key = &keys[call.idempotency_key.as_deref().unwrap()];
        sent.entry(key.clone()).or_default().extend(call.sent_at);
    }
    sent
}

/// The key of each call on record.
fn on_record(stack: &Stack) -> BTreeMap<String, String> {
    let keys = stack.database.sql(
        "select distinct call_id, case when external_id like 'behind-%' then 'behind' else merchant end
         from calls join receipts on receipts.id = calls.receipt",
    );
    let keys = keys.unwrap();
    let pairs = keys.lines().filter_map(|line| line.split_once('|'));
    pairs.map(|(call, key)| (call.to_owned(), key.to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_keys_backlog_of_ten_thousand_keeps_no_other_from_its_limit() {
    let mut stack = Stack::start(&keyed()).await.unwrap();
    stack.post_all(&model()).await.unwrap();
    stack.settled(SOON).await;
    let backlog = Backlog {
        key: Some("behind".to_owned()),
        ..behind(10_000)
    };
    backlog.fill(&stack.database).unwrap();
    stack.post_all(&of_merchants(8, 40)).await.unwrap();
    let begun = now();
    eventually(SOON, "calls are made", async || {
        stack.ledger.calls(begun).await.unwrap().len() > 50
    })
    .await;
    let begun = now();
    sleep(Duration::from_secs(3)).await;
    stack.dispatchers[0].process.kill().unwrap();
    sleep(Duration::from_secs(4)).await;
    let to = now();
    let shown = stack.orchestrators[0]
        .api
        .call(&["v1", "destinations", "fiscal"])
        .await
        .unwrap();
    let queued = shown.body["queued"].as_i64().unwrap();
    let sent = sent(&stack, begun, to).await;
    let counts: BTreeMap<_, _> = sent.iter().map(|(key, sent)| (key, sent.len())).collect();
    for (key, sent) in &sent {
        let most = busiest_second(sent);
        assert!(most <= LIMIT, "{key}: {most} calls in one second");
    }
    assert_eq!(counts.len(), 9, "{counts:?}");
    let others: usize = counts
        .iter()
        .filter(|(key, _)| **key != "behind")
        .map(|(_, count)| count)
        .sum();
    let behind = counts[&"behind".to_owned()];
    assert!(
        counts.values().all(|count| count + LIMIT > behind),
        "whoever is behind it has as many turns: {counts:?}"
    );
    let limit = 8 * LIMIT * usize::try_from(to - begun).unwrap() / 1000;
    assert!(
        others * 100 >= limit * 90,
        "{others} of {limit} calls by the others: {counts:?}"
    );
    assert!(queued <= 20, "{queued} in the horizon");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_keys_share_a_limit_that_is_short() {
    let options = keyed().with("destination.fiscal.limits", "30/s");
    let mut stack = Stack::start(&options).await.unwrap();
    stack.post_all(&of_merchants(12, 20)).await.unwrap();
    eventually(SOON, "calls are made", async || {
        stack.ledger.calls(0).await.unwrap().len() > 30
    })
    .await;
    let begun = now();
    sleep(Duration::from_secs(6)).await;
    let to = now();
    let sent = sent(&stack, begun, to).await;
    let all: Vec<i64> = sent.values().flatten().copied().collect();
    assert!(busiest_second(&all) <= 30, "in all");
    assert!(sent.values().all(|sent| busiest_second(sent) <= LIMIT), "of each key");
    let limit = 30 * usize::try_from(to - begun).unwrap() / 1000;
    // Some slots are lost where both are scarce: what comes for one finds the other taken.
    assert!(all.len() * 100 >= limit * 60, "{} of {limit} calls", all.len());
    assert_eq!(sent.len(), 12, "all keys had their turns");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_long_for_its_key_gives_way_to_the_others() {
    let slow = r#".receipt.merchant.id | if startswith("slow") then . else null end"#;
    let options = keyed()
        .with("destination.fiscal.limit_key", slow)
        .with("destination.fiscal.key_limits", "6/m")
        .with("destination.fiscal.concurrency", "6");
    let mut stack = Stack::start(&options).await.unwrap();
    let mut of_slow = of_merchants(8, 1);
    for (n, receipt) in of_slow.iter_mut().enumerate() {
        receipt["merchant"]["id"] = format!("slow-{n}").into();
    }
    stack.post_all(&of_slow).await.unwrap();
    // Each was accepted there, and waits for its key to be called for again.
    eventually(SOON, "they are sent", async || {
        stack.ledger.summary().await.unwrap()["registrations"] == of_slow.len()
    })
    .await;
    stack.post_all(&of_merchants(3, 10)).await.unwrap();
    let begun = now();
    eventually(Duration::from_secs(8), "the others are registered", async || {
        let left = stack
            .database
            .sql("select count(*) from work where limit_key = ''")
            .unwrap();
        let (left, open) = (left, stack.database.sql("select count(*) from work").unwrap());
        left == "0" && open.parse::<usize>().unwrap() <= of_slow.len()
    })
    .await;
    assert!(now() - begun < 8_000);
    stack.settled(3 * SOON).await;
    all_registered(&stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_before_there_were_keys_is_given_one() {
    let options = keyed().with("destination.fiscal.key_limits", "50/s, 10000/h");
    let mut stack = Stack::start(&options).await.unwrap();
    stack.post_all(&model()).await.unwrap();
    stack.settled(SOON).await;
    let merchant = stack.database.sql("select merchant from receipts limit 1").unwrap();
    behind(50).fill(&stack.database).unwrap();
    stack.post_all(&of_merchants(3, 5)).await.unwrap();
    eventually(SOON, "all have keys", async || {
        let keys = stack
            .database
            .sql("select string_agg(key, ' ' order by key) from limit_keys")
            .unwrap();
        keys.split(' ').any(|key| key == merchant)
    })
    .await;
    eventually(2 * SOON, "all are registered", async || {
        stack.database.sql("select count(*) from work").unwrap() == "0"
    })
    .await;
    all_registered(&stack).await;
}
