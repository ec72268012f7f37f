//! The second external API: its answers, its signatures, and that the ledger judges it as the first.

use std::process::Command;

use super::*;

const DOCUMENTS: &str = "/orange/api/v2/documents/";
const RECEIPT: &str = "/ledger/m-042/order%201%2F%D1%87";

fn document(id: &str) -> Value {
    json!({
        "id": id, "inn": "3914177768", "group": "main-1", "key": "3914177768", "reference": "m-042/order 1/ч",
        "content": {
            "type": 1,
            "positions": [{"text": "Taxi ride", "price": 123.45, "quantity": 1, "tax": 1, "paymentMethodType": 4,
                "paymentSubjectType": 4}],
            "checkClose": {"payments": [{"type": 2, "amount": 123.45}], "taxationSystem": 0},
            "customerContact": "a@example.org",
        },
    })
}

async fn send(running: &Running, body: &Value) -> (u16, Value) {
    answer(running.request(Method::POST, DOCUMENTS).body(body.to_string())).await
}

async fn status(running: &Running, id: &str) -> (u16, Value) {
    running.get(&format!("{DOCUMENTS}3914177768/status/{id}")).await
}

#[tokio::test]
async fn a_document_is_queued_and_processed() {
    let running = Running::start().await;
    running.put("/settings", &json!({"done_after_ms": 3_600_000})).await;
    assert_eq!(status(&running, "c-1").await.0, 400);
    assert_eq!(send(&running, &document("c-1")).await, (201, Value::Null));
    assert_eq!(status(&running, "c-1").await, (202, Value::Null));
    // Whatever its content is.
    let mut other = document("c-1");
    other["content"]["customerContact"] = json!("b@example.org");
    assert_eq!(send(&running, &other).await.0, 409);
    running.put("/settings", &json!({"done_after_ms": 0})).await;
    let (code, done) = status(&running, "c-1").await;
    assert_eq!(
        (code, &done["amount"], &done["documentNumber"]),
        (200, &json!(123.45), &json!(1))
    );

    let (_, ledger) = running.get("/ledger").await;
    assert_eq!(
        (&ledger["registrations"], &ledger["registered_twice"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(ledger["by_operation"], json!({"sell": 1}));
    // Another API is another matter; a second document at this one is not.
    answer(running.register(&body("c-1"))).await;
    assert_eq!(running.get("/ledger").await.1["registered_twice"], 0);
    assert_eq!(send(&running, &document("c-2")).await.0, 201);
    let (_, ledger) = running.get("/ledger").await;
    assert_eq!(
        (&ledger["registrations"], &ledger["registered_twice"]),
        (&json!(3), &json!(1))
    );
    let (_, receipt) = running.get(RECEIPT).await;
    let apis: Vec<_> = receipt["registrations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|known| &known["api"])
        .collect();
    assert_eq!(apis, ["orange", "fiscal", "orange"]);
}

#[tokio::test]
async fn what_is_not_in_order_is_refused() {
    let running = Running::start().await;
    for (pointer, value, wanted) in [
        ("/id", json!("x".repeat(65)), "id"),
        ("/inn", json!("3914177769"), "inn"),
        ("/content/type", json!(7), "type"),
        ("/content/positions/0/price", json!(123.455), "positions[0].price"),
        ("/content/positions/0/quantity", json!(0), "positions[0].quantity"),
        ("/content/positions/0/tax", json!(13), "positions[0].tax"),
        (
            "/content/checkClose/payments/0/amount",
            json!(123.44),
            "payments add up to 12344",
        ),
        ("/content/checkClose/taxationSystem", json!("osn"), "invalid type"),
        ("/reference", json!("m-042"), "reference"),
    ] {
        let mut wrong = document("c-1");
        *wrong.pointer_mut(pointer).unwrap() = value;
        let (code, refused) = send(&running, &wrong).await;
        let text = refused["errors"][0].as_str().unwrap();
        assert!(code == 400 && text.starts_with(wanted), "{pointer}: {code} {text}");
    }
    assert_eq!(running.get("/ledger").await.1["registrations"], 0);
}

#[tokio::test]
async fn a_document_that_expired_is_sent_again_with_another_id() {
    let running = Running::start().await;
    running.put("/settings", &json!({"done_after_ms": 0})).await;
    running
        .put("/faults", &json!({"orange.status": {"mode": "expire"}}))
        .await;
    send(&running, &document("c-1")).await;
    assert_eq!(status(&running, "c-1").await.0, 524);
    running.put("/faults", &json!({})).await;
    assert_eq!(status(&running, "c-1").await.0, 524, "for good");
    assert_eq!(send(&running, &document("c-1")).await.0, 409);
    send(&running, &document("c-2")).await;
    assert_eq!(status(&running, "c-2").await.0, 200);
    let (_, ledger) = running.get("/ledger").await;
    assert_eq!(
        (
            &ledger["registrations"],
            &ledger["registrations_failed"],
            &ledger["registered_twice"]
        ),
        (&json!(1), &json!(1), &json!(0))
    );
}

#[tokio::test]
async fn a_full_queue_and_a_client_without_a_certificate() {
    let running = Running::start().await;
    running
        .put("/settings", &json!({"orange": {"limit": {"rate": 1, "per_s": 3600}}}))
        .await;
    assert_eq!(send(&running, &document("c-1")).await.0, 201);
    let full = running
        .request(Method::POST, DOCUMENTS)
        .body(document("c-2").to_string());
    let full = full.send().await.unwrap();
    assert_eq!(
        (full.status().as_u16(), &full.headers()["retry-after"]),
        (503, &"3600".parse().unwrap())
    );
    assert_eq!(
        answer(running.register(&body("c-1"))).await.0,
        200,
        "the limits are two"
    );
    running
        .put("/settings", &json!({"orange": {"certificate": true}}))
        .await;
    assert_eq!(send(&running, &document("c-2")).await.0, 401);
    running
        .put("/faults", &json!({"orange": {"mode": "error", "status": 500}}))
        .await;
    assert_eq!(
        send(&running, &document("c-2")).await,
        (500, json!({"errors": ["simulated fault"]}))
    );
    assert_eq!(
        answer(running.register(&body("c-2"))).await.0,
        200,
        "the other API is well"
    );
}

#[tokio::test]
async fn signatures_are_checked() {
    let running = Running::start().await;
    let directory = std::env::temp_dir().join(format!("chekhov-{}", uuid::Uuid::new_v4().simple()));
    std::fs::create_dir(&directory).unwrap();
    let openssl = |arguments: &str| {
        let output = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(&directory)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{arguments}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        output.stdout
    };
    openssl("genrsa -out key.pem 2048");
    let public = String::from_utf8(openssl("rsa -in key.pem -pubout")).unwrap();
    let signed = document("c-1").to_string();
    std::fs::write(directory.join("body"), &signed).unwrap();
    openssl("dgst -sha256 -sign key.pem -out signature body");
    let signature = String::from_utf8(openssl("base64 -A -in signature")).unwrap();
    std::fs::remove_dir_all(&directory).unwrap();

    assert_eq!(
        running
            .put("/settings", &json!({"orange": {"signature_key": "none"}}))
            .await
            .0,
        422
    );
    let settings = json!({"orange": {"signature_key": public}});
    let (code, shown) = running.put("/settings", &settings).await;
    assert_eq!((code, &shown["orange"]["signature_key"]), (200, &json!(public)));
    let post = |body: String| running.request(Method::POST, DOCUMENTS).body(body);
    let unsigned = answer(post(signed.clone())).await;
    assert!(unsigned.0 == 400 && unsigned.1["errors"][0].as_str().unwrap().contains("signature"));
    let spaced = post(format!("{signed} ")).header("X-Signature", &signature);
    assert_eq!(answer(spaced).await.0, 400, "of other bytes");
    assert_eq!(answer(post(signed).header("X-Signature", signature)).await.0, 201);
}
