//! Several destinations in one pipeline: one after the other, and one that hangs beside one that is well.

use std::time::{Duration, Instant};

use end_to_end::{Options, Stack, eventually};
use serde_json::json;

use super::{all_registered, quick, receipts};

const SOON: Duration = Duration::from_secs(20);

fn two() -> Options {
    quick()
        .with("destination.orange.url", "{simulator}/orange")
        .with("destination.orange.timeout", "2s")
        .with("destination.orange.lost_after", "2s")
        .with("destination.orange.slow_start", "1s")
        .with("destination.orange.probe", "500ms")
        .with("destination.orange.probe_max", "1s")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_is_registered_once_at_each_of_two() {
    let mut stack = Stack::start(&two().pipeline("both.toml")).await.unwrap();
    stack.post_all(&receipts(100)).await.unwrap();
    stack.settled(SOON * 2).await;
    all_registered(&stack).await;
    for posted in &stack.posted {
        let entry = stack.ledger.entry(&posted.merchant, &posted.external_id).await.unwrap();
        assert_eq!((entry.registered_at("fiscal"), entry.registered_at("orange")), (1, 1));
        let last = stack.shown(posted).await.history.pop().unwrap();
        assert_eq!(last.stage, "notify", "the internal stage after both");
    }

    // Registered at the first, it is sent again with another id if the second lost it.
    stack
        .ledger
        .set_faults(&json!({"orange.status": {"mode": "expire"}}))
        .await
        .unwrap();
    stack.post_all(&receipts(1)).await.unwrap();
    let posted = stack.posted.last().unwrap().clone();
    eventually(SOON, "it is reissued", async || {
        let history = stack.shown(&posted).await.history;
        history.iter().any(|call| call.outcome == "reissue")
    })
    .await;
    stack.ledger.clear_faults().await.unwrap();
    stack.shown_in(&posted, "registered", SOON).await;

    // Registered at the first, it is not rejected for what the second says.
    let bad = json!({"orange.register": {"mode": "error", "status": 400}});
    stack.ledger.set_faults(&bad).await.unwrap();
    stack.post_all(&receipts(1)).await.unwrap();
    let posted = stack.posted.last().unwrap().clone();
    let shown = stack.shown_in(&posted, "parked", SOON).await;
    let reason = shown.reason.unwrap();
    assert!(reason.contains("it is registered"), "{reason}");
    stack.ledger.clear_faults().await.unwrap();
    let api = &stack.orchestrators[0].api;
    assert_eq!(
        api.act(&["v1", "receipts", &posted.id, "release"])
            .await
            .unwrap()
            .status,
        204
    );
    stack.shown_in(&posted, "registered", SOON).await;
    all_registered(&stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_drained_is_sent_nothing_that_only_the_other_has_registered() {
    let mut stack = Stack::start(&two().pipeline("both.toml")).await.unwrap();
    let change = async |stack: &Stack, state: &str| {
        let api = &stack.orchestrators[0].api;
        let answer = api.change("orange", &json!({"state": state})).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
    };
    let at_orange = async |stack: &Stack| {
        let mut registered = 0;
        for posted in &stack.posted {
            let entry = stack.ledger.entry(&posted.merchant, &posted.external_id).await.unwrap();
            registered += entry.registered_at("orange");
        }
        registered
    };
    // Three are there and not confirmed, and two came there and were turned away: nothing of them is.
    let faults = json!({"orange.status": {"mode": "error", "status": 400}});
    stack.ledger.set_faults(&faults).await.unwrap();
    stack.post_all(&receipts(3)).await.unwrap();
    eventually(SOON, "three are sent", async || at_orange(&stack).await == 3).await;
    let mut turned = faults.clone();
    turned["orange.register"] = json!({"mode": "error", "status": 503, "retry_after": "1"});
    stack.ledger.set_faults(&turned).await.unwrap();
    stack.post_all(&receipts(2)).await.unwrap();
    let waits = "select count(*) from work where registered and not sent and reason like '%503%'";
    eventually(SOON, "two are turned away", async || {
        stack.database.sql(waits).unwrap() == "2"
    })
    .await;
    change(&stack, "draining").await;
    stack.all_know("orange", false, SOON).await;
    stack.ledger.clear_faults().await.unwrap();
    stack.post_all(&receipts(5)).await.unwrap();
    let new = "select count(*) from work where registered and not sent and destination = 'orange'";
    eventually(SOON, "the others wait, what was sent is confirmed", async || {
        stack.database.sql(new).unwrap() == "7" && stack.database.sql("select count(*) from finished").unwrap() == "3"
    })
    .await;
    assert_eq!(at_orange(&stack).await, 3, "nothing new was submitted");
    change(&stack, "open").await;
    stack.settled(SOON).await;
    all_registered(&stack).await;
    assert_eq!(at_orange(&stack).await, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_hangs_keeps_nobody_from_the_other() {
    let options = two().pipeline("either.toml").with("destination.fiscal.limits", "50/s");
    let mut stack = Stack::start(&options).await.unwrap();
    stack
        .ledger
        .set_faults(&json!({"orange": {"mode": "hang"}}))
        .await
        .unwrap();
    let mut all = receipts(300);
    for receipt in all.iter_mut().step_by(2) {
        receipt["merchant"]["group"] = json!("orange");
    }
    let begun = Instant::now();
    stack.post_all(&all).await.unwrap();
    // By the id, which the ledger knows them by.
    let registered = async |stack: &Stack| stack.ledger.summary().await.unwrap()["registrations"].as_u64().unwrap();
    eventually(SOON, "half are registered", async || registered(&stack).await == 150).await;
    eventually(SOON, "and known to be", async || {
        stack.database.sql("select count(*) from finished").unwrap() == "150"
    })
    .await;
    let calls = stack.ledger.calls(0).await.unwrap();
    let fiscal: Vec<_> = calls
        .iter()
        .filter(|call| call.target.starts_with("fiscal"))
        .map(|call| call.at)
        .collect();
    let spent = (fiscal.iter().max().unwrap() - fiscal.iter().min().unwrap()) / 1000;
    let rate = i64::try_from(fiscal.len()).unwrap() / spent.max(1);
    assert!(
        rate >= 40,
        "{rate} calls a second of 50/s, {:?} in all",
        begun.elapsed()
    );
    let closed = stack.orchestrators[0]
        .api
        .call(&["v1", "destinations", "orange"])
        .await
        .unwrap();
    assert_eq!(closed.body["state"], "closed");
    stack.ledger.clear_faults().await.unwrap();
    stack.settled(SOON * 2).await;
    all_registered(&stack).await;
    assert_eq!(stack.ledger.summary().await.unwrap()["registered_twice"], 0);
}
