//! What went in as a secret, or as somebody's contact or INN, comes out nowhere but at the API that it is for.

use std::collections::BTreeSet;
use std::time::Duration;

use end_to_end::{Collector, Stack, TOKEN, eventually, fixture, read};
use serde_json::{Value, json};

use super::{quick, receipts};

const SOON: Duration = Duration::from_secs(30);
const KEY: &str = "5ec7e75ec7e75ec7e75ec7e75ec7e75ec7e75ec7e75ec7e75ec7e75ec7e75ec7";
const PASSWORD: &str = "the-password-of-the-api";
const HEADER: &str = "the-key-of-a-service";

/// Contacts and INNs of a receipt.
fn personal(receipt: &Value) -> Vec<String> {
    let own = ["/customer/email", "/customer/phone", "/merchant/inn"];
    let own = own.iter().filter_map(|place| receipt.pointer(place));
    let items = receipt["items"].as_array().into_iter().flatten();
    let sellers = items.filter_map(|item| item.pointer("/seller/inn"));
    own.chain(sellers)
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// Ends every process in order, so that it exports what it still has.
async fn end_all(stack: &mut Stack) {
    for member in stack.orchestrators.iter_mut().chain(&mut stack.dispatchers) {
        let status = member.process.terminate(Duration::from_secs(25)).await.unwrap();
        assert!(status.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_and_no_contact_is_logged_exported_or_shown() {
    let collector = Collector::start().await.unwrap();
    let body = json!({"login": "chekhov", "pass": PASSWORD}).to_string();
    let options = quick()
        .with("telemetry.endpoint", collector.endpoint())
        .with(
            "telemetry.filter",
            "debug,shared=trace,orchestrator=trace,external_dispatcher=trace",
        )
        .with("service.tax.headers.x-api-key", HEADER)
        .with("destination.fiscal.token.post", "/v4/token")
        .with("destination.fiscal.token.body", &body)
        .with("destination.fiscal.token.header", "Token")
        .with("destination.fiscal.token.prefix", "")
        .with("secrets.key", KEY);
    let mut stack = Stack::start(&options).await.unwrap();
    stack
        .ledger
        .set(&json!({"auth": true, "token_ttl_s": 3}))
        .await
        .unwrap();
    let all = receipts(60);
    let mut needles: BTreeSet<String> = all.iter().flat_map(personal).collect();
    assert!(needles.len() > 20, "{} contacts and INNs went in", needles.len());

    // All goes well, then each party repeats what it was sent: as an error that is declared, undeclared, or no answer at all.
    stack.post_all(&all[..20]).await.unwrap();
    stack.settled(SOON).await;
    let echo = needles.iter().cloned().collect::<Vec<_>>().join(", ");
    let rejects = json!({"error": {"code": 32, "type": "data", "text": format!("not accepted: {echo}")}});
    stack
        .ledger
        .set_faults(&json!({
            "fiscal.register": {"mode": "error", "status": 400, "body": rejects, "share": 0.5},
            "fiscal.report": {"mode": "error", "status": 418, "body": echo},
            "sellers": {"mode": "error", "status": 500, "body": echo, "share": 0.2},
            "tax": {"mode": "garbage", "share": 0.1},
        }))
        .await
        .unwrap();
    stack.post_all(&all[20..50]).await.unwrap();
    eventually(SOON, "some were rejected, some parked", async || {
        let sql = "select count(*) filter (where state = 'rejected') > 5, (select count(*) from work where state = 'parked') > 0 from finished";
        stack.database.sql(sql).unwrap() == "t|t"
    })
    .await;
    let refused = json!({"fiscal.token": {"mode": "error", "status": 401, "body": format!("{PASSWORD} is wrong")}});
    stack.ledger.set_faults(&refused).await.unwrap();
    stack.ledger.revoke_tokens().await.unwrap();
    stack.post_all(&all[50..]).await.unwrap();
    eventually(SOON, "a token was refused", async || {
        stack.ledger.summary().await.unwrap()["struck"]["fiscal.token"]["error"].as_u64() > Some(0)
    })
    .await;
    stack.ledger.clear_faults().await.unwrap();
    stack.settled(SOON).await;
    let api = stack.orchestrators[0].api.clone();
    let mut shown = String::new();
    for invalid in read(&fixture("invalid.ndjson")).unwrap() {
        needles.extend(personal(&invalid).into_iter().filter(|text| text.len() > 8));
        shown += &api.post(&invalid).await.unwrap().body.to_string();
    }
    for posted in &stack.posted {
        let receipt = stack.shown(posted).await;
        shown.extend(receipt.reason);
        let whole = api.call(&["v1", "receipts", &posted.id]).await.unwrap().body;
        shown += &whole["history"].to_string();
    }
    assert!(shown.contains("not accepted: …"), "what the API said of it is told");
    for member in stack.orchestrators.iter().chain(&stack.dispatchers) {
        shown += &member.all_measured().await.unwrap();
    }
    shown += &api.call(&["v1", "destinations"]).await.unwrap().body.to_string();
    end_all(&mut stack).await;
    let spans = collector.spans();
    assert!(spans.len() > 500, "{} spans", spans.len());

    let mut places = vec![
        ("a span".to_owned(), format!("{spans:?}")),
        ("the API or metrics".to_owned(), shown),
    ];
    for entry in std::fs::read_dir(stack.directory()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if path.extension().is_some_and(|extension| extension == "log") && name != "simulator" {
            places.push((name, std::fs::read_to_string(path).unwrap()));
        }
    }
    assert!(places.len() >= 4, "two logs at least");
    let password = |url: &str| reqwest::Url::parse(url).unwrap().password().map(str::to_owned).unwrap();
    needles.extend([KEY, PASSWORD, HEADER, TOKEN].map(str::to_owned));
    needles.extend([password(&stack.urls.database), password(&stack.urls.amqp)]);
    for (place, text) in &places {
        assert!(!text.is_empty(), "{place} is empty");
        let found: Vec<_> = needles.iter().filter(|needle| text.contains(*needle)).collect();
        assert!(
            found.is_empty(),
            "{place} has {found:?}; {}",
            stack.directory().display()
        );
    }
}
