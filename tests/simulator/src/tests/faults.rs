//! Every mode of fault, as a client sees it.

use super::*;

const RECEIPT: &str = "/ledger/m-042/order%201%2F%D1%87";

async fn with_fault(target: &str, fault: Value) -> Running {
    let running = Running::start().await;
    let (status, text) = running.put("/faults", &json!({target: fault})).await;
    assert_eq!(status, 200, "{text}");
    running
}

async fn registrations(running: &Running) -> i64 {
    running.get("/ledger").await.1["registrations"].as_i64().unwrap()
}

#[tokio::test]
async fn connections_are_closed_before_any_byte_of_an_answer() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    for (mode, registered) in [("refuse", 0), ("drop_before_commit", 0), ("commit_then_drop", 1)] {
        let running = with_fault("fiscal", json!({"mode": mode})).await;
        let body = body("c-1").to_string();
        let mut stream = tokio::net::TcpStream::connect(running.address).await.unwrap();
        let request = format!(
            "POST /fiscal/v4/main-1/sell HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut received = Vec::new();
        // Closed, or reset: either way nothing came.
        let _ = stream.read_to_end(&mut received).await;
        assert!(received.is_empty(), "{mode}");
        assert_eq!(registrations(&running).await, registered, "{mode}");

        assert!(running.register(&super::body("c-1")).send().await.is_err(), "{mode}");
        let (_, receipt) = running.get(RECEIPT).await;
        for call in receipt["calls"].as_array().unwrap() {
            assert_eq!((&call["status"], &call["fault"]), (&Value::Null, &json!(mode)));
        }
        let cleared = running.request(Method::DELETE, "/faults").send().await.unwrap();
        assert_eq!(cleared.status(), 204);
        assert_eq!(answer(running.register(&super::body("c-1"))).await.0, 200, "{mode}");
        assert_eq!(registrations(&running).await, 1, "{mode}");
    }
}

#[tokio::test]
async fn errors_are_answered_as_told() {
    let fault = json!({"mode": "error", "status": 429, "retry_after": "20", "body": {"error": {"code": 50}}});
    let running = with_fault("fiscal.register", fault.clone()).await;
    let response = running.register(&body("c-1")).send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["retry-after"]),
        (429, &"20".parse().unwrap())
    );
    assert_eq!(response.text().await.unwrap(), r#"{"error":{"code":50}}"#);
    assert_eq!(registrations(&running).await, 0);
    let (_, table) = running.get("/faults").await;
    assert_eq!(table["fiscal.register"]["body"], fault["body"]);
    // Others are not struck.
    assert_eq!(running.get("/catalog/items?ids=a").await.0, 200);
    let (status, text) = running.put("/faults", &json!({"fiscal.sell": {"mode": "error"}})).await;
    assert_eq!(status, 422);
    assert!(text["error"].as_str().unwrap().contains("no such target"));
    assert_eq!(
        running.get("/faults").await.1,
        table,
        "a table that is refused changes nothing"
    );
}

#[tokio::test]
async fn garbage_is_not_json() {
    let running = with_fault("fiscal.register", json!({"mode": "garbage"})).await;
    let response = running.register(&body("c-1")).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let bytes = response.bytes().await.unwrap();
    assert!(serde_json::from_slice::<Value>(&bytes).is_err());
    assert_eq!(registrations(&running).await, 1);
}

#[tokio::test]
async fn a_hanging_request_ends_with_its_client() {
    let running = with_fault("tax", json!({"mode": "hang"})).await;
    let hanging = tokio::spawn(running.request(Method::POST, "/tax/calculate").body("{}").send());
    running.until("/ledger", |ledger| ledger["calls"]["tax"] == 1).await;
    assert!(!hanging.is_finished());
    hanging.abort();
    assert!(hanging.await.unwrap_err().is_cancelled());
}

#[tokio::test]
async fn slow_and_late_work() {
    let running = with_fault("fiscal.register", json!({"mode": "slow", "latency_ms": 30})).await;
    let start = std::time::Instant::now();
    assert_eq!(answer(running.register(&body("c-1"))).await.0, 200);
    assert!(start.elapsed() >= Duration::from_millis(30));

    // The client goes, the work is done all the same, and nothing is noted as answered.
    running
        .put(
            "/faults",
            &json!({"fiscal.register": {"mode": "commit_late", "latency_ms": 100}}),
        )
        .await;
    let late = tokio::spawn(running.register(&body("c-2")).send());
    running
        .until("/ledger", |ledger| ledger["calls"]["fiscal.register"] == 2)
        .await;
    assert_eq!(registrations(&running).await, 1);
    late.abort();
    running.until("/ledger", |ledger| ledger["registrations"] == 2).await;
    assert_eq!(running.get(RECEIPT).await.1["calls"][1]["status"], Value::Null);
    // A client with more patience gets its answer.
    assert_eq!(answer(running.register(&body("c-3"))).await.0, 200);
}

#[tokio::test]
async fn reports_and_look_ups_that_mislead() {
    let running = with_fault("fiscal", json!({"mode": "stuck"})).await;
    running.put("/settings", &json!({"done_after_ms": 0})).await;
    let (_, registered) = answer(running.register(&body("c-1"))).await;
    let report = format!("/fiscal/v4/main-1/report/{}", registered["uuid"].as_str().unwrap());
    assert_eq!(running.get(&report).await.1["status"], "wait");

    running
        .put("/faults", &json!({"fiscal": {"mode": "lag", "latency_ms": 3_600_000}}))
        .await;
    assert_eq!(running.get("/fiscal/v4/main-1/by-id/c-1").await.0, 404);
    running
        .put("/faults", &json!({"fiscal": {"mode": "lag", "latency_ms": 0}}))
        .await;
    assert_eq!(running.get("/fiscal/v4/main-1/by-id/c-1").await.0, 200);

    running
        .put("/faults", &json!({"fiscal.report": {"mode": "fail"}}))
        .await;
    let (_, failed) = running.get(&report).await;
    assert_eq!(
        (&failed["status"], &failed["error"]["type"]),
        (&json!("fail"), &json!("system"))
    );
    let (_, ledger) = running.get("/ledger").await;
    assert_eq!(
        (&ledger["registrations"], &ledger["registrations_failed"]),
        (&json!(0), &json!(1))
    );

    // With a new id it is registered once, and the failed one stays failed.
    running.put("/faults", &json!({})).await;
    answer(running.register(&body("c-2"))).await;
    assert_eq!(running.get(&report).await.1["status"], "fail");
    let (_, ledger) = running.get("/ledger").await;
    assert_eq!(
        (&ledger["registrations"], &ledger["registered_twice"]),
        (&json!(1), &json!(0))
    );
}
