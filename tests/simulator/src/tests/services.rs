//! The internal services, and how their calls find their receipt.

use super::*;

#[tokio::test]
async fn internal_services_answer() {
    let running = Running::start().await;
    let envelope = json!({"receipt": receipt(), "results": {}});
    let post = |path: &str| running.request(Method::POST, path).body(envelope.to_string());
    assert_eq!(answer(post("/validation/validate")).await, (200, json!({"ok": true})));
    let (_, tax) = answer(post("/tax/calculate")).await;
    let vat = json!([{"vat": "none", "sum": 0}, {"vat": "vat20", "sum": 2058}]);
    assert_eq!(tax, json!({"vat": vat, "totals": {"total": 12396}}));
    let (_, catalog) = running.get("/catalog/items?ids=taxi%2Ctea").await;
    let skus: Vec<_> = catalog["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| &item["sku"])
        .collect();
    assert_eq!(skus, ["taxi", "tea"]);
    assert_eq!(
        running.get("/sellers/sellers/391417776386").await.1["inn"],
        "391417776386"
    );
    assert_eq!(running.get("/sellers/sellers/000000000000").await.0, 404);
    let number = |key: &str| format!("/numbers/numbers/{key}");
    let (first, second) = (
        running.put(&number("a"), &envelope).await,
        running.put(&number("b"), &envelope).await,
    );
    assert_ne!(first, second);
    assert_eq!(first, running.put(&number("a"), &envelope).await);
    assert_eq!(
        running.put("/documents/documents/a%2Fb", &envelope).await.1,
        json!({"document": "a/b"})
    );
    assert_eq!(running.get("/tax/calculate").await.0, 404);
    assert_eq!(running.get("/ledger").await.1["calls"]["other"], 1);
}

#[tokio::test]
async fn the_ledger_shows_every_call_of_a_receipt() {
    let running = Running::start().await;
    let traced = |method, path: &str| running.request(method, path).header("traceparent", TRACE);
    // Neither body nor anything known of its trace, yet.
    answer(traced(Method::GET, "/catalog/items?ids=taxi")).await;
    let envelope = json!({"receipt": receipt(), "results": {}}).to_string();
    answer(traced(Method::POST, "/tax/calculate").body(envelope)).await;
    answer(traced(Method::GET, "/sellers/sellers/391417776386").header("Idempotency-Key", "s-1")).await;
    answer(
        running
            .register(&body("c-1"))
            .header("traceparent", TRACE)
            .header("Chekhov-Sent-At", "1764000000000"),
    )
    .await;
    answer(running.request(Method::GET, "/catalog/items?ids=somebody-elses")).await;

    let (_, receipt) = running.get("/ledger/m-042/order%201/%D1%87").await;
    let calls = receipt["calls"].as_array().unwrap();
    let targets: Vec<_> = calls.iter().map(|call| call["target"].as_str().unwrap()).collect();
    assert_eq!(targets, ["catalog", "tax", "sellers", "fiscal.register"]);
    let call = &calls[3];
    assert_eq!(call["method"], "POST");
    assert_eq!(call["path"], "/fiscal/v4/main-1/sell");
    assert_eq!(call["traceparent"], TRACE);
    assert_eq!(call["idempotency_key"], "c-1");
    assert_eq!(call["user_agent"], "chekhov/test");
    assert_eq!(call["sent_at"], 1_764_000_000_000_i64);
    assert_eq!(call["status"], 200);
    assert!(call["at"].as_i64().unwrap() > 1_700_000_000_000);
    assert_eq!(receipt["registrations"][0]["external_id"], "c-1");
    assert_eq!(receipt["trace_ids"], json!(["0af7651916cd43dd8448eb211c80319c"]));
    assert_eq!(receipt["processes"], json!(["chekhov/test"]));
    assert_eq!(running.get("/ledger").await.1["max_sent_in_1s"], 1);
    assert_eq!(running.get("/ledger/nobody/nothing").await.1["calls"], json!([]));
    assert_eq!(running.get("/ledger/nobody").await.0, 400);
}

#[tokio::test]
async fn the_way_of_a_receipt_has_its_instants() {
    let running = Running::start().await;
    running.put("/settings", &json!({"done_after_ms": 0})).await;
    let envelope = json!({"receipt": receipt(), "results": {}});
    running.put("/documents/documents/d-1", &envelope).await;
    let (_, accepted) = answer(running.register(&body("c-1"))).await;
    assert_eq!(running.get("/done").await.1, json!({"done": 0}));
    let report = format!("/fiscal/v4/main-1/report/{}", accepted["uuid"].as_str().unwrap());
    running
        .put("/faults", &json!({"fiscal.report": {"mode": "garbage"}}))
        .await;
    running.get(&report).await;
    assert_eq!(running.get("/done").await.1, json!({"done": 0}));
    let fault = running.request(Method::DELETE, "/faults").send().await.unwrap();
    assert_eq!(fault.status(), 204);
    running.get(&report).await;

    assert_eq!(running.get("/done").await.1, json!({"done": 1}));
    let (_, ways) = running.get("/ways").await;
    assert_eq!(
        (&ways[0]["reference"], &ways[0]["registered"]),
        (&json!("m-042/order 1/ч"), &json!(1))
    );
    let instant = |name: &str| ways[0][name].as_i64().unwrap();
    assert!(instant("document_us") > 1_700_000_000_000_000 && instant("done_us") > instant("document_us"));
    running.request(Method::DELETE, "/ledger").send().await.unwrap();
    assert_eq!(running.get("/ways").await.1, json!([]));
}
