//! An operator at the API: what waits is found by whatever is known of it, says why and until when, and every receipt of a
//! day is accounted for.

use std::collections::BTreeSet;
use std::time::Duration;

use end_to_end::{Answer, Api, ONE_MERCHANT, Stack, VIEWER, eventually};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{quick, receipts};

const SOON: Duration = Duration::from_secs(30);
const RECEIPTS: &[&str] = &["v1", "receipts"];

async fn found(api: &Api, query: &[(&str, &str)]) -> Answer {
    api.ask(RECEIPTS, query).await.unwrap()
}

fn ids(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.body);
    let receipts = answer.body["receipts"].as_array().unwrap().iter();
    receipts
        .map(|receipt| receipt["id"].as_str().unwrap().to_owned())
        .collect()
}

/// Every page, each of `limit`.
async fn walked(api: &Api, query: &[(&str, &str)], limit: &str) -> Vec<String> {
    let (mut all, mut after) = (Vec::new(), None::<String>);
    loop {
        let mut query = query.to_vec();
        query.push(("limit", limit));
        query.extend(after.as_deref().map(|after| ("after", after)));
        let page = found(api, &query).await;
        all.extend(ids(&page));
        match page.body["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => return all,
        }
    }
}

/// Waits until so many are found.
async fn holds(api: &Api, query: &[(&str, &str)], count: usize) -> Vec<String> {
    eventually(SOON, &format!("{count} are found by {query:?}"), async || {
        walked(api, query, "50").await.len() == count
    })
    .await;
    walked(api, query, "50").await
}

async fn whole(api: &Api, id: &str) -> Value {
    api.call(&["v1", "receipts", id]).await.unwrap().body
}

/// Of one merchant each.
fn of(merchant: &str, count: usize) -> Vec<Value> {
    let mut receipts = receipts(count);
    for receipt in &mut receipts {
        receipt["merchant"]["id"] = json!(merchant);
    }
    receipts
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_waits_is_found_and_says_why_and_a_day_is_accounted_for() {
    let options = quick().with("telemetry.trace_url", "http://jaeger.example/trace/{trace_id}");
    let mut stack = Stack::start(&options).await.unwrap();
    let api = stack.orchestrators[0].api.clone();
    let pause = json!({"state": "paused", "reason": "an audit"});
    assert_eq!(api.change("fiscal", &pause).await.unwrap().status, 200);

    stack.post_all(&of("m-1", 6)).await.unwrap();
    let waiting = [("state", "waiting"), ("destination", "fiscal"), ("stage", "register")];
    let behind = holds(&api, &waiting, 6).await;
    assert_eq!(walked(&api, &waiting, "4").await, behind);
    let view = whole(&api, &behind[0]).await;
    assert_eq!(view["wait"]["kind"], "destination", "{view}");
    assert_eq!(view["wait"]["destination"]["state"], "paused");
    assert!(view["wait"]["why"].as_str().unwrap().contains("an audit"));
    assert!(view["wait"]["unblocks"].as_str().unwrap().contains("operator"));
    let trace = format!("http://jaeger.example/trace/{}", view["trace_id"].as_str().unwrap());
    assert_eq!(view["trace_url"], trace.as_str());

    let fails = json!({"tax": {"mode": "error", "status": 503}, "sellers": {"mode": "error", "status": 503}});
    stack.ledger.set_faults(&fails).await.unwrap();
    stack.post_all(&of("m-2", 2)).await.unwrap();
    let retried = [("outcome", "retry"), ("merchant", "m-2")];
    let held = holds(&api, &retried, 2).await;
    eventually(SOON, "its answer is shown", async || {
        let view = whole(&api, &held[0]).await;
        view["held_by"]["status"] == 503 && view["wait"]["kind"] == "timer" && view["wait"]["until"] == view["due_at"]
    })
    .await;
    stack.ledger.clear_faults().await.unwrap();

    let refuses = json!({"validation": {"mode": "error", "status": 422}});
    stack.ledger.set_faults(&refuses).await.unwrap();
    stack.post_all(&of("m-1", 1)).await.unwrap();
    let rejected = holds(&api, &[("state", "rejected")], 1).await;
    stack.ledger.clear_faults().await.unwrap();
    let failures = api
        .ask(&["v1", "failures"], &[("stage", "validate")])
        .await
        .unwrap()
        .body;
    assert_eq!(failures["groups"][0]["state"], "rejected", "{failures}");
    assert_eq!(failures["groups"][0]["example"], rejected[0].as_str());
    assert_eq!(failures["more"], false);
    assert_eq!(whole(&api, &rejected[0]).await["wait"], Value::Null);

    nobody_sees_more_than_is_theirs(&api, &behind).await;
    assert_eq!(walked(&api, &[], "2").await.len(), stack.posted.len());

    assert_eq!(
        api.change("fiscal", &json!({"state": "open"})).await.unwrap().status,
        200
    );
    stack.settled(SOON).await;
    let posted: BTreeSet<String> = stack.posted.iter().map(|posted| posted.external_id.clone()).collect();
    assert_eq!(exported(&api).await, posted);
}

/// Each by its token.
async fn nobody_sees_more_than_is_theirs(api: &Api, behind: &[String]) {
    let one = api.with_token(ONE_MERCHANT);
    let theirs: BTreeSet<String> = walked(&one, &[], "3").await.into_iter().collect();
    assert_eq!(theirs.len(), 7, "those of m-1");
    assert!(behind.iter().all(|id| theirs.contains(id)));
    assert!(ids(&found(&one, &[("merchant", "m-2")]).await).is_empty());
    let failures = ["v1", "failures"];
    let export = [("merchant", "m-2"), ("day", "2026-11-25")];
    assert_eq!(one.call(&failures).await.unwrap().status, 403);
    assert_eq!(one.ask(&["v1", "export"], &export).await.unwrap().status, 403);
    assert_eq!(api.with_token(VIEWER).call(&failures).await.unwrap().status, 200);
    for path in [RECEIPTS, &failures, &["v1", "export"]] {
        assert_eq!(api.with_token("nobody").ask(path, &export).await.unwrap().status, 401);
    }

    let page = found(api, &[("merchant", "m-1"), ("limit", "1")]).await;
    let next = page.body["next"].as_str().unwrap();
    assert_eq!(
        found(api, &[("after", next)]).await.status,
        400,
        "the next of another search"
    );
    assert_eq!(found(api, &[("state", "lost")]).await.status, 400);
}

/// The external ids of the day's exports, in both formats; none twice.
async fn exported(api: &Api) -> BTreeSet<String> {
    let now = OffsetDateTime::now_utc();
    let mut names = Vec::new();
    // Midnight may have passed meanwhile.
    for (merchant, day) in [
        ("m-1", now - time::Duration::DAY),
        ("m-1", now),
        ("m-2", now - time::Duration::DAY),
        ("m-2", now),
    ] {
        let day = day.date().to_string();
        let query = [("merchant", merchant), ("day", day.as_str())];
        let (status, text) = api.text(&["v1", "export"], &query).await.unwrap();
        assert_eq!(status, 200, "{text}");
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for line in &lines {
            assert_eq!(line["merchant"], merchant);
            let registered = line["state"] == "registered";
            assert_eq!(
                line["document"]["register"]["send"]["uuid"].is_string(),
                registered,
                "{line}"
            );
            assert_eq!(line["exception"].is_string(), !registered, "{line}");
            assert!(line["document"]["validate"].is_null());
            names.push(line["external_id"].as_str().unwrap().to_owned());
        }
        let (status, csv) = api
            .text(&["v1", "export"], &[query[0], query[1], ("format", "csv")])
            .await
            .unwrap();
        assert_eq!((status, csv.lines().count()), (200, lines.len() + 1), "{csv}");
    }
    let unique: BTreeSet<String> = names.iter().cloned().collect();
    assert_eq!(unique.len(), names.len(), "no line twice");
    unique
}
