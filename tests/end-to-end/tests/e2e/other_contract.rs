//! An API whose contract has nothing in common with the shipped one's: signed bytes, a client certificate, other codes. It takes
//! a configuration and a pipeline, and nothing of Chekhov.

use std::collections::BTreeSet;
use std::time::Duration;

use end_to_end::{Certificates, Options, Receipt, Stack, eventually, free_port};
use serde_json::{Value, json};

use super::{all_registered, quick, receipts};

const SOON: Duration = Duration::from_secs(20);

fn options(certificates: &Certificates) -> Options {
    let listen = format!("127.0.0.1:{}", free_port().unwrap());
    let mut options = quick()
        .pipeline("orange.toml")
        .with("destination.orange.url", &format!("https://{listen}/orange"))
        .with("destination.orange.timeout", "2s")
        .with("destination.orange.lost_after", "2s")
        .with("destination.orange.slow_start", "1s")
        .with("destination.orange.probe", "500ms")
        .with("destination.orange.probe_max", "1s")
        .with(
            "destination.orange.signature.key_file",
            &certificates.path("signing.key"),
        )
        .with(
            "destination.orange.tls.certificate_file",
            &certificates.path("client.pem"),
        )
        .with("destination.orange.tls.key_file", &certificates.path("client.key"))
        .with("destination.orange.tls.ca_file", &certificates.path("ca.pem"));
    let files = [
        ("--tls-certificate", "server.pem"),
        ("--tls-key", "server.key"),
        ("--client-ca", "ca.pem"),
    ];
    options.simulator = vec!["--tls-listen".to_owned(), listen];
    for (argument, file) in files {
        options.simulator.extend([argument.to_owned(), certificates.path(file)]);
    }
    options
}

/// How often a fault struck a target.
async fn struck(stack: &Stack, target: &str, mode: &str) -> u64 {
    stack.ledger.summary().await.unwrap()["struck"][target][mode]
        .as_u64()
        .unwrap_or_default()
}

async fn break_down(stack: &Stack, faults: Value) {
    stack.ledger.set_faults(&faults).await.unwrap();
}

fn ids_of_registrations(receipt: &Receipt) -> BTreeSet<&str> {
    let calls = receipt.history.iter().filter(|call| call.stage == "register");
    calls.map(|call| call.call_id.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn signed_bytes_and_a_certificate_and_other_codes_take_configuration_alone() {
    let certificates = Certificates::make().unwrap();
    let mut stack = Stack::start(&options(&certificates)).await.unwrap();
    let key = certificates.text("signing.pub").unwrap();
    let settings = json!({"orange": {"signature_key": key, "certificate": true}});
    stack.ledger.set(&settings).await.unwrap();

    // Its queue is full for a while.
    let full = json!({"mode": "error", "status": 503, "retry_after": "1"});
    break_down(&stack, json!({"orange.register": full})).await;
    stack.post_all(&receipts(100)).await.unwrap();
    eventually(SOON, "the queue is full", async || {
        struck(&stack, "orange.register", "error").await > 0
    })
    .await;
    // Then it takes documents and says nothing of it, and forgets some of those it took.
    let expire = json!({"mode": "expire", "share": 0.15});
    let silent = json!({"mode": "commit_then_drop", "share": 0.3});
    break_down(&stack, json!({"orange.register": silent, "orange.status": expire})).await;
    stack.post_all(&receipts(100)).await.unwrap();
    eventually(SOON, "it takes and says nothing", async || {
        struck(&stack, "orange.register", "commit_then_drop").await >= 30
    })
    .await;
    break_down(&stack, json!({"orange.status": expire})).await;
    stack.settled(Duration::from_mins(1)).await;

    all_registered(&stack).await;
    let summary = stack.ledger.summary().await.unwrap();
    assert_eq!(
        (&summary["registrations"], &summary["registered_twice"]),
        (&json!(200), &json!(0))
    );
    let expired = summary["registrations_failed"].as_u64().unwrap();
    assert!(expired > 0);
    let statuses: BTreeSet<_> = stack
        .ledger
        .calls(0)
        .await
        .unwrap()
        .into_iter()
        .filter_map(|call| call.status)
        .collect();
    assert!(
        [201, 409, 503, 202, 200, 524]
            .iter()
            .all(|status| statuses.contains(status)),
        "{statuses:?}"
    );
    assert!(!statuses.contains(&400) && !statuses.contains(&401), "{statuses:?}");
    let mut reissued = 0;
    for posted in &stack.posted {
        let receipt = stack.shown(posted).await;
        let times = receipt.history.iter().filter(|call| call.outcome == "reissue").count();
        assert_eq!(
            ids_of_registrations(&receipt).len(),
            times + 1,
            "{:#?}",
            receipt.history
        );
        reissued += u64::try_from(times).unwrap();
    }
    assert_eq!(reissued, expired);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_exists_with_another_amount_is_left_to_a_person() {
    let certificates = Certificates::make().unwrap();
    let mut stack = Stack::start(&options(&certificates)).await.unwrap();
    let other = json!({"mode": "error", "status": 200, "body": {"amount": 0.01}});
    break_down(&stack, json!({"orange.status": other})).await;
    stack.post_all(&receipts(1)).await.unwrap();
    let posted = stack.posted[0].clone();
    let shown = stack.shown_in(&posted, "parked", SOON).await;
    assert!(shown.reason.unwrap().contains("another amount"));
}
