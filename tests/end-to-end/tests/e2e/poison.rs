//! Receipts that fail by themselves, and receipts that come too late, wait for a person and hold up nobody.

use std::path::Path;
use std::time::Duration;

use end_to_end::{Options, Stack, eventually};
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::limits::now;
use super::{quick, receipts};

const SOON: Duration = Duration::from_secs(30);

fn options() -> Options {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/late.toml");
    Options {
        pipeline: Some(file),
        ..quick()
    }
    .with("destination.fiscal.probe", "500ms")
    .with("destination.fiscal.probe_max", "1s")
    .with("destination.fiscal.slow_start", "1s")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_alone_parks_and_the_others_go_on_at_the_limit() {
    let mut stack = Stack::start(&options().with("destination.fiscal.limits", "200/s"))
        .await
        .unwrap();
    let poison = json!({"fiscal.register": {"mode": "error", "status": 500, "share": 0.01}});
    stack.ledger.set_faults(&poison).await.unwrap();
    stack.post_all(&receipts(1_000)).await.unwrap();
    eventually(SOON, "calls are made", async || {
        stack.ledger.calls(0).await.unwrap().len() > 50
    })
    .await;
    let begun = now();
    tokio::time::sleep(Duration::from_secs(4)).await;
    let calls = stack.ledger.calls(begun).await.unwrap();
    let within: Vec<_> = calls.iter().filter(|call| call.at < begun + 4_000).collect();
    let passed = within.iter().filter(|call| call.status == Some(200)).count();
    // Each that fails takes its five turns: the others have all the rest.
    let left = 800 - (within.len() - passed);
    assert!(passed * 100 >= left * 93, "{passed} of {left} passed in 4 s of 200/s");
    // Whether others pass is seen while there are others.
    let deadline = tokio::time::Instant::now() + SOON;
    let last = stack.database.sql("select max(id::text) from receipts").unwrap();
    let open = format!("select count(*) from work where state <> 'parked' and id <= '{last}'");
    while stack.database.sql(&open).unwrap() != "0" {
        assert!(tokio::time::Instant::now() < deadline, "some fail on and on");
        stack.post_all(&receipts(10)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    stack.ledger.clear_faults().await.unwrap();
    stack.settled(SOON).await;
    let verdict = stack.judge().await.unwrap();
    assert!(verdict.is_clean(), "{verdict:#?}");
    let parked = verdict.parked.len();
    assert!(
        parked > 0 && verdict.registered == verdict.accepted - parked,
        "{verdict:#?}"
    );
    assert!(
        verdict
            .parked
            .iter()
            .all(|line| line.contains("5 times in a row while others passed")),
        "{verdict:#?}"
    );
    for call in calls.iter().filter(|call| call.status == Some(500)) {
        let key = call.idempotency_key.as_deref();
        let repeats = calls
            .iter()
            .filter(|other| other.idempotency_key.as_deref() == key)
            .count();
        assert!(repeats <= 5, "{key:?} was sent {repeats} times");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_late_before_anything_was_sent_waits_for_a_person() {
    let mut stack = Stack::start(&options()).await.unwrap();
    let paused = json!({"state": "paused"});
    assert_eq!(
        stack.orchestrators[0]
            .api
            .change("fiscal", &paused)
            .await
            .unwrap()
            .status,
        200
    );
    let mut urgent = receipts(1).remove(0);
    urgent["deadline"] = json!(
        (OffsetDateTime::now_utc() + Duration::from_secs(2))
            .format(&Rfc3339)
            .unwrap()
    );
    stack.post_all(&[urgent]).await.unwrap();
    let posted = stack.posted[0].clone();
    let deadlines = async || {
        let shown = stack.orchestrators[0].api.call(&["v1", "destinations", "fiscal"]).await;
        shown.unwrap().body["deadlines"].take()
    };
    assert_eq!(deadlines().await["at_risk"], 1);
    // A dispatcher's clock is a little behind the database's, by what it takes to read it.
    let late = "select count(*) from work where deadline < now() - interval '100 ms'";
    eventually(SOON, "the deadline has passed", async || {
        stack.database.sql(late).unwrap() == "1"
    })
    .await;
    let open = json!({"state": "open"});
    assert_eq!(
        stack.orchestrators[0].api.change("fiscal", &open).await.unwrap().status,
        200
    );
    let shown = stack.shown_in(&posted, "parked", SOON).await;
    assert!(shown.reason.unwrap().contains("its deadline has passed"));
    assert_eq!(stack.ledger.calls(0).await.unwrap().len(), 0);
    let shown = deadlines().await;
    assert_eq!((&shown["at_risk"], &shown["passed"]), (&json!(0), &json!(1)));
    assert_eq!(shown["nearest"], json!(null));
}
