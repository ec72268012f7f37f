//! Who may do what: every endpoint that the API describes, with every kind of token, and with none.

use std::collections::BTreeSet;

use end_to_end::{Api, ONE_MERCHANT, Options, Stack, VIEWER};
use serde_json::{Value, json};
use uuid::Uuid;

use super::receipts;

/// An endpoint, and whether a merchant's token and a viewer's may call it; an operator's may call each. One that may not is told
/// so before anything else.
const ENDPOINTS: [(&str, &str, bool, bool); 20] = [
    ("post", "/v1/receipts", true, false),
    ("get", "/v1/receipts", true, true),
    ("get", "/v1/receipts/{id}", true, true),
    ("post", "/v1/receipts/{id}/retry", false, false),
    ("post", "/v1/receipts/{id}/cancel", false, false),
    ("post", "/v1/receipts/{id}/release", false, false),
    ("post", "/v1/receipts/{id}/reopen", false, false),
    ("post", "/v1/receipts/{id}/restart", false, false),
    ("post", "/v1/receipts/{id}/resolve", false, false),
    // Which merchant's is looked at then: see `searching`.
    ("get", "/v1/export", true, true),
    ("get", "/v1/failures", false, true),
    ("get", "/v1/destinations", true, true),
    ("get", "/v1/destinations/{name}", true, true),
    ("patch", "/v1/destinations/{name}", false, false),
    ("get", "/v1/audit", false, true),
    ("get", "/v1/jobs", false, true),
    ("post", "/v1/jobs", false, false),
    ("get", "/v1/jobs/{id}", false, true),
    ("post", "/v1/jobs/{id}/start", false, false),
    ("post", "/v1/jobs/{id}/stop", false, false),
];

/// With ids that nobody has: what is let in harms nobody.
async fn status(api: &Api, method: &str, path: &str) -> u16 {
    let path = path
        .replace("{id}", &Uuid::nil().to_string())
        .replace("{name}", "nowhere");
    let body = if (method, path.as_str()) == ("post", "/v1/receipts") {
        let mut receipt = receipts(1).remove(0);
        receipt["merchant"]["id"] = "m-1".into();
        Some(receipt)
    } else {
        (method != "get").then(|| json!({"reason": "to be seen who may"}))
    };
    api.request(&method.to_uppercase(), &path, body.as_ref())
        .await
        .unwrap()
        .status
}

async fn stack() -> Stack {
    let options = Options {
        dispatchers: 0,
        ..Options::default()
    };
    Stack::start(&options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_endpoint_is_for_whom_it_is_for_and_for_nobody_else() {
    let stack = stack().await;
    let operator = stack.orchestrators[0].api.clone();
    let described = operator.request("GET", "/openapi.json", None).await.unwrap().body;
    let mut paths = BTreeSet::new();
    for (path, methods) in described["paths"].as_object().unwrap() {
        paths.extend(
            methods
                .as_object()
                .unwrap()
                .keys()
                .map(|method| (method.clone(), path.clone())),
        );
    }
    let known = ENDPOINTS
        .iter()
        .map(|(method, path, ..)| ((*method).to_owned(), (*path).to_owned()));
    assert_eq!(paths, known.collect(), "each endpoint has its line here");

    for (method, path, merchant, viewer) in ENDPOINTS {
        for nobody in ["", "wrong", "end-to-en", "end-to-end2"] {
            let api = operator.with_token(nobody);
            assert_eq!(
                status(&api, method, path).await,
                401,
                "{method} {path} with the token '{nobody}'"
            );
        }
        for (token, may) in [(ONE_MERCHANT, merchant), (VIEWER, viewer)] {
            let status = status(&operator.with_token(token), method, path).await;
            assert_eq!(status != 403, may, "{method} {path} by {token}: {status}");
            assert!(status != 401 && status < 500, "{method} {path} by {token}: {status}");
        }
        let status = status(&operator, method, path).await;
        assert!(
            !matches!(status, 401 | 403 | 500..),
            "{method} {path} by an operator: {status}"
        );
    }
    assert_eq!(
        operator
            .with_token("")
            .request("GET", "/openapi.json", None)
            .await
            .unwrap()
            .status,
        401
    );
    let audit = operator.request("GET", "/v1/audit", None).await.unwrap().body;
    assert_eq!(audit["entries"], json!([]), "what was refused is not on record");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merchants_token_sees_its_own_receipts_and_no_others() {
    let mut stack = stack().await;
    let mut given = receipts(2);
    given[0]["merchant"]["id"] = "m-1".into();
    given[1]["merchant"]["id"] = "m-2".into();
    stack.post_all(&given).await.unwrap();
    let operator = stack.orchestrators[0].api.clone();
    let merchant = operator.with_token(ONE_MERCHANT);
    let posted = |id: &str| {
        stack
            .posted
            .iter()
            .find(|posted| posted.merchant == id)
            .unwrap()
            .clone()
    };
    let (own, other) = (posted("m-1"), posted("m-2"));
    let get = async |api: &Api, path: String| api.request("GET", &path, None).await.unwrap();

    assert_eq!(get(&merchant, format!("/v1/receipts/{}", own.id)).await.status, 200);
    let unknown = get(&merchant, format!("/v1/receipts/{}", Uuid::nil())).await;
    let others = get(&merchant, format!("/v1/receipts/{}", other.id)).await;
    assert_eq!(
        (others.status, &others.body),
        (404, &unknown.body),
        "as if it were not there"
    );
    for (posted, count) in [(&own, 1), (&other, 0)] {
        let key = format!(
            "/v1/receipts?merchant={}&external_id={}",
            posted.merchant, posted.external_id
        );
        let found = get(&merchant, key).await.body;
        assert_eq!(found["receipts"].as_array().map(Vec::len), Some(count), "{found}");
    }
    for posted in [&own, &other] {
        for action in ["retry", "cancel", "release", "reopen", "restart", "resolve"] {
            let path = format!("/v1/receipts/{}/{action}", posted.id);
            let body = json!({"reason": "mine"});
            assert_eq!(
                merchant.request("POST", &path, Some(&body)).await.unwrap().status,
                403,
                "{action}"
            );
        }
    }
    let job = json!({"action": "cancel", "filter": {"merchant": "m-1", "state": "waiting"}, "reason": "mine"});
    assert_eq!(
        merchant.request("POST", "/v1/jobs", Some(&job)).await.unwrap().status,
        403
    );
    let posted_for_another = merchant.post(&given[1]).await.unwrap();
    assert_eq!(posted_for_another.status, 403);
    let state = |shown: Value| shown["state"].clone();
    assert_ne!(
        state(get(&operator, format!("/v1/receipts/{}", own.id)).await.body),
        "cancelled"
    );
}
