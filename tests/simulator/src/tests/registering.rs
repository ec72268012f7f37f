//! Registering, its errors, its reports, and what the ledger counts.

use super::*;

#[tokio::test]
async fn a_known_id_is_not_registered_again() {
    let running = Running::start().await;
    let (status, first) = answer(running.register(&body("c-1"))).await;
    assert_eq!(
        (status, &first["status"], &first["error"]),
        (200, &json!("wait"), &Value::Null)
    );

    // The same content, written in another way.
    let spaced = serde_json::to_string_pretty(&body("c-1")).unwrap();
    let (status, again) = answer(running.register(&body("c-1")).body(spaced)).await;
    assert_eq!(
        (status, &again["error"]["code"], &again["uuid"]),
        (200, &json!(33), &first["uuid"])
    );

    let mut other = body("c-1");
    other["receipt"]["client"]["email"] = json!("b@example.org");
    let (status, refused) = answer(running.register(&other)).await;
    assert_eq!((status, &refused["error"]["code"]), (400, &json!(35)));

    let (_, ledger) = running.get("/ledger").await;
    assert_eq!(ledger["registrations"], 1);
    assert_eq!(ledger["registered_twice"], 0);
    assert_eq!(ledger["by_operation"], json!({"sell": 1}));
    assert_eq!(ledger["calls"], json!({"fiscal.register": 3, "total": 3}));
    assert_eq!(ledger["max_calls_in_1s"], 3);
}

#[tokio::test]
async fn an_api_without_memory_registers_twice_and_the_ledger_tells() {
    let running = Running::start().await;
    assert_eq!(running.put("/settings", &json!({"idempotent": false})).await.0, 200);
    let uuid = |answer: (u16, Value)| answer.1["uuid"].as_str().unwrap().to_owned();
    let first = uuid(answer(running.register(&body("c-1"))).await);
    let second = uuid(answer(running.register(&body("c-1"))).await);
    assert_ne!(first, second);
    let (_, ledger) = running.get("/ledger").await;
    assert_eq!(
        (&ledger["registrations"], &ledger["registered_twice"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(ledger["twice"], json!(["m-042/order 1/ч"]));
    let (_, receipt) = running.get("/ledger/m-042/order%201%2F%D1%87").await;
    assert_eq!(receipt["registrations"].as_array().unwrap().len(), 2);

    let forgotten = running.request(Method::DELETE, "/ledger").send().await.unwrap();
    assert_eq!(forgotten.status(), 204);
    let (_, ledger) = running.get("/ledger").await;
    assert_eq!(
        (&ledger["registrations"], &ledger["calls"]),
        (&json!(0), &json!({"total": 0}))
    );
    assert_eq!(running.get(&format!("/fiscal/v4/main-1/report/{first}")).await.0, 404);
}

#[tokio::test]
async fn what_a_tax_api_refuses_is_refused() {
    let running = Running::start().await;
    let long = "x".repeat(65);
    for (pointer, value, wanted) in [
        ("/external_id", json!(long), "external_id"),
        ("/external_id", json!("ч"), "external_id"),
        ("/reference", json!("m-042"), "reference"),
        ("/timestamp", json!("2026-11-23"), "timestamp"),
        ("/receipt/total", json!(12346), "items add up to 12345"),
        ("/receipt/total", json!(12345.0), "invalid type: floating point"),
        ("/receipt/payments/0/sum", json!(12344), "payments add up to 12344"),
        ("/receipt/items/0/quantity", json!("2"), "items[0].sum"),
        ("/receipt/items/0/vat/type", json!("vat18"), "vat: no such rate"),
        ("/receipt/vats/0/sum", json!(2057), "vats"),
        ("/receipt/company/inn", json!("3914177769"), "company.inn"),
        ("/receipt/client", json!({}), "client"),
    ] {
        let mut wrong = body("c-1");
        *wrong.pointer_mut(pointer).unwrap() = value;
        let (status, refused) = answer(running.register(&wrong)).await;
        assert_eq!(
            (status, &refused["error"]["code"], &refused["error"]["type"]),
            (400, &json!(32), &json!("data"))
        );
        let text = refused["error"]["text"].as_str().unwrap();
        assert!(text.starts_with(wanted), "{pointer}: {text}");
    }
    let unknown = running
        .request(Method::POST, "/fiscal/v4/main-1/steal")
        .body(body("c-1").to_string());
    assert_eq!(answer(unknown).await.1["error"]["code"], 31);
    assert_eq!(running.get("/ledger").await.1["registrations"], 0);
}

#[tokio::test]
async fn a_report_waits_and_is_done() {
    let running = Running::start().await;
    running.put("/settings", &json!({"done_after_ms": 3_600_000})).await;
    let (_, registered) = answer(running.register(&body("c/1?"))).await;
    let uuid = registered["uuid"].as_str().unwrap();
    let report = format!("/fiscal/v4/main-1/report/{uuid}");
    assert_eq!(running.get(&report).await.1["status"], "wait");
    assert_eq!(running.get(&format!("/fiscal/v4/main-1/document/{uuid}")).await.0, 404);
    assert_eq!(
        running.get("/fiscal/v4/main-1/by-id/c%2F1%3F").await.1["status"],
        "wait"
    );

    running.put("/settings", &json!({"done_after_ms": 0})).await;
    let (_, done) = running.get(&report).await;
    assert_eq!(
        (&done["status"], &done["payload"]["total"]),
        (&json!("done"), &json!(12345))
    );
    assert_eq!(
        running.get(&format!("/fiscal/v4/main-1/document/{uuid}")).await.1["document"]["total"],
        12345
    );
    assert_eq!(running.get("/fiscal/v4/main-1/by-id/c%2F1%3F").await.1["uuid"], uuid);

    for unknown in [
        "report/nothing",
        "by-id/c-2",
        "document/00000000-0000-4000-8000-000000000000",
    ] {
        let (status, refused) = running.get(&format!("/fiscal/v4/main-1/{unknown}")).await;
        assert_eq!((status, &refused["error"]["code"]), (404, &json!(34)), "{unknown}");
    }
    assert_eq!(running.get(&format!("/fiscal/v4/other/report/{uuid}")).await.0, 404);
    // Each of them is tied to the receipt, by its uuid or id.
    let (_, receipt) = running.get("/ledger/m-042/order%201%2F%D1%87").await;
    assert_eq!(receipt["calls"].as_array().unwrap().len(), 8);
}

#[tokio::test]
async fn a_token_is_asked_for_and_limits_hold() {
    let running = Running::start().await;
    running.put("/settings", &json!({"auth": true})).await;
    let (status, refused) = answer(running.register(&body("c-1"))).await;
    assert_eq!((status, &refused["error"]["code"]), (401, &json!(11)));
    let login = running
        .request(Method::POST, "/fiscal/v4/token")
        .body(r#"{"login": "a", "pass": "b"}"#);
    let (_, given) = answer(login).await;
    let token = given["token"].as_str().unwrap();
    assert_eq!(answer(running.register(&body("c-1")).bearer_auth(token)).await.0, 200);
    assert_eq!(
        answer(running.register(&body("c-2")).header("Token", token)).await.0,
        200
    );
    assert_eq!(
        answer(running.register(&body("c-3")).header("Token", "else")).await.0,
        401
    );
    assert_eq!(running.get("/tokens").await.1, json!([token]));
    answer(running.request(Method::DELETE, "/tokens")).await;
    assert_eq!(
        answer(running.register(&body("c-3")).header("Token", token)).await.0,
        401,
        "revoked"
    );

    running
        .put("/settings", &json!({"limit": {"rate": 1, "per_s": 3600}}))
        .await;
    assert_eq!(answer(running.register(&body("c-4"))).await.0, 200);
    let response = running.register(&body("c-5")).send().await.unwrap();
    assert_eq!(response.status(), 429);
    assert_eq!(response.headers()["retry-after"], "3600");
    for wrong in [json!({"limits": 1}), json!({"limit": {"rate": 0, "per_s": 1}})] {
        assert_eq!(running.put("/settings", &wrong).await.0, 422, "{wrong}");
    }
    let (_, ledger) = running.get("/ledger").await;
    assert_eq!(
        (&ledger["registrations"], &ledger["max_calls_in_1s"]),
        (&json!(3), &json!(7))
    );
}
