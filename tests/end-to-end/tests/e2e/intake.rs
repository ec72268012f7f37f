//! The door: who may call, and what each body is answered with.

use std::collections::BTreeSet;
use std::time::Duration;

use end_to_end::{ONE_MERCHANT, Options, Stack, TOKEN, VIEWER, eventually, fixture};
use serde_json::{Value, json};

use super::receipts;

#[tokio::test(flavor = "multi_thread")]
async fn every_body_gets_its_answer_and_nobody_enters_without_a_token() {
    let stack = Stack::start(&Options {
        dispatchers: 0,
        ..Options::default()
    })
    .await
    .unwrap();
    let base = stack.orchestrators[0].api.base().to_owned();
    let client = reqwest::Client::new();
    let url = format!("{base}/v1/receipts");
    let post = async |body: String, token: Option<&str>| {
        let mut request = client.post(&url).header("content-type", "application/json").body(body);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let media = answer
            .headers()
            .get("content-type")
            .map(|media| media.to_str().unwrap().to_owned());
        (
            status,
            media,
            serde_json::from_str::<Value>(&answer.text().await.unwrap()).unwrap(),
        )
    };

    for line in std::fs::read_to_string(fixture("invalid.ndjson")).unwrap().lines() {
        let given: Value = serde_json::from_str(line).unwrap();
        let (status, media, problem) = post(given["body"].as_str().unwrap().to_owned(), Some(TOKEN)).await;
        assert_eq!(u64::from(status), given["status"].as_u64().unwrap(), "{}", given["why"]);
        assert_eq!(media.as_deref(), Some("application/problem+json"));
        let found: BTreeSet<&str> = problem["errors"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|error| error["pointer"].as_str())
            .collect();
        for pointer in given["pointers"].as_array().into_iter().flatten() {
            assert!(found.contains(pointer.as_str().unwrap()), "{}: {problem}", given["why"]);
        }
    }

    let receipt = receipts(1).remove(0);
    assert_eq!(post(receipt.to_string(), None).await.0, 401);
    assert_eq!(post(receipt.to_string(), Some("wrong")).await.0, 401);
    assert_eq!(
        post(receipt.to_string(), Some(VIEWER)).await.0,
        403,
        "a viewer posts nothing"
    );
    assert_eq!(
        post(receipt.to_string(), Some(ONE_MERCHANT)).await.0,
        403,
        "another merchant's"
    );
    let (status, _, first) = post(receipt.to_string(), Some(TOKEN)).await;
    assert_eq!(status, 202);
    let (status, _, again) = post(receipt.to_string(), Some(TOKEN)).await;
    assert_eq!((status, &again["id"]), (200, &first["id"]));
    let mut other = receipt.clone();
    other["merchant"]["payment_address"] = "https://other.example".into();
    assert_eq!(post(other.to_string(), Some(TOKEN)).await.0, 409);
    let large = format!(r#"{{"external_id": "{}"}}"#, "x".repeat(300 * 1024));
    assert_eq!(post(large, Some(TOKEN)).await.0, 413);
    let plain = client
        .post(&url)
        .header("authorization", format!("Bearer {TOKEN}"))
        .body("{}")
        .send()
        .await
        .unwrap();
    assert_eq!(plain.status().as_u16(), 415);
    assert_eq!(plain.headers()["connection"], "close", "its body was not read");
    let document: Value = serde_json::from_str(
        &client
            .get(format!("{base}/openapi.json"))
            .header("authorization", format!("Bearer {TOKEN}"))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap(),
    )
    .unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1") && document["paths"]["/v1/receipts"].is_object());
    let taxes = &document["components"]["schemas"]["TaxSystem"]["enum"];
    assert!(
        taxes.as_array().is_some_and(|taxes| taxes.contains(&json!("osn"))),
        "{taxes}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_may_what_it_may() {
    let mut stack = Stack::start(&Options {
        dispatchers: 0,
        ..Options::default()
    })
    .await
    .unwrap();
    stack.post_all(&receipts(1)).await.unwrap();
    let (operator, posted) = (stack.orchestrators[0].api.clone(), stack.posted[0].clone());
    let viewer = operator.with_token(VIEWER);
    let one_merchant = operator.with_token(ONE_MERCHANT);
    let stranger = operator.with_token("nobody");
    let one = ["v1", "receipts", posted.id.as_str()];
    let cancel = ["v1", "receipts", posted.id.as_str(), "cancel"];
    let release = ["v1", "receipts", posted.id.as_str(), "release"];
    for (api, read, steered, described) in [
        (&stranger, 401, 401, 401),
        (&one_merchant, 404, 403, 200),
        (&viewer, 200, 403, 200),
    ] {
        assert_eq!(api.call(&one).await.unwrap().status, read);
        assert_eq!(api.act(&cancel).await.unwrap().status, steered);
        assert_eq!(api.act(&release).await.unwrap().status, steered);
        assert_eq!(api.call(&["openapi.json"]).await.unwrap().status, described);
        assert_eq!(api.call(&["healthz"]).await.unwrap().status, 200);
        assert_eq!(api.call(&["readyz"]).await.unwrap().status, 200);
    }
    assert_eq!(operator.act(&release).await.unwrap().status, 409, "it is not parked");
}

#[tokio::test(flavor = "multi_thread")]
async fn posts_are_refused_at_the_door_while_the_backlog_is_over_its_bound() {
    let options = Options::default()
        .with("orchestrator.in_flight", "1")
        .with("intake.backlog", "5");
    let mut stack = Stack::start(&Options {
        dispatchers: 0,
        ..options
    })
    .await
    .unwrap();
    stack
        .ledger
        .set_faults(&json!({"validation": {"mode": "hang"}}))
        .await
        .unwrap();
    stack.post_all(&receipts(6)).await.unwrap();
    let api = stack.orchestrators[0].api.clone();
    let refused = receipts(1).remove(0);
    eventually(Duration::from_secs(20), "a post is refused", async || {
        let answer = api.post(&refused).await.unwrap();
        assert!(answer.status == 202 || answer.status == 200 || (answer.status == 503 && answer.retry_after.is_some()));
        answer.status == 503
    })
    .await;
    stack.ledger.clear_faults().await.unwrap();
    eventually(Duration::from_secs(30), "posts are taken again", async || {
        api.post(&refused).await.unwrap().is_accepted()
    })
    .await;
}
