//! The arm `single`: it registers every receipt once, whatever happens, and it is what it is said to be.

use std::ffi::OsStr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use end_to_end::{Api, Process, Receipts, Stack, TOKEN, eventually, free_port, in_parallel};
use serde_json::{Value, json};

use super::{A_MINUTE, bench, options, registered_once, start};

/// One engine.
struct Single {
    process: Process,
    api: Api,
}

impl Single {
    async fn start(stack: &Stack, slots: &str) -> Self {
        let listen = format!("127.0.0.1:{}", free_port().unwrap());
        let arguments = ["--listen", &listen, "--slots", slots].map(OsStr::new);
        let mut single = Self {
            process: Process::start("single", "single", &arguments, &stack.environment(), stack.directory()).unwrap(),
            api: Api::new(format!("http://{listen}"), TOKEN),
        };
        eventually(A_MINUTE, "it is ready", async || {
            assert!(single.process.is_running(), "{}", single.process.last_words());
            single.api.is_ready().await
        })
        .await;
        single
    }

    /// Posts receipts, so many at once; each must be accepted.
    async fn post(&self, receipts: &Arc<Receipts>, range: Range<usize>) {
        let answers = in_parallel(range, 64, |n| {
            let (api, receipts) = (self.api.clone(), Arc::clone(receipts));
            async move {
                let receipt: Value = serde_json::from_str(&receipts.body(n)).unwrap();
                api.post_until_answered(&receipt, A_MINUTE).await.unwrap()
            }
        });
        for answer in answers.await {
            assert_eq!(answer.status, 202, "{}", answer.body);
        }
    }
}

fn receipts() -> Arc<Receipts> {
    Arc::new(Receipts::new(&std::fs::read_to_string(bench("receipt.json")).unwrap()).unwrap())
}

fn number(stack: &Stack, sql: &str) -> usize {
    stack.database.sql(sql).unwrap().parse().unwrap()
}

async fn until(stack: &Stack, what: &str, sql: &str, wanted: usize) {
    eventually(A_MINUTE, what, async || number(stack, sql) == wanted).await;
}

const REGISTERED: &str = "select count(*) from finished where state = 'registered'";

async fn all_registered(stack: &Stack, count: usize) {
    until(stack, "all are registered", REGISTERED, count).await;
    assert_eq!(number(stack, "select count(*) from work"), 0);
    registered_once(stack, count).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn single_registers_each_receipt_once_through_faults_and_restarts() {
    let stack = start(&options()).await;
    let receipts = receipts();
    let mut single = Single::start(&stack, "64").await;
    single.post(&receipts, 0..1000).await;
    all_registered(&stack, 1000).await;

    let faults = json!({
        "tax": {"mode": "error", "status": 500, "share": 0.3},
        "fiscal.register": [
            {"mode": "error", "status": 503, "retry_after": "1", "share": 0.15},
            {"mode": "commit_then_drop", "share": 0.15},
        ],
        "fiscal.report": {"mode": "drop_before_commit", "share": 0.1},
    });
    stack.ledger.set_faults(&faults).await.unwrap();
    single.post(&receipts, 1000..1600).await;
    let ended = single.process.terminate(A_MINUTE).await.unwrap();
    assert!(ended.success(), "{}", single.process.last_words());
    assert_eq!(number(&stack, "select count(*) from work where owner is not null"), 0);
    assert_eq!(number(&stack, "select count(*) from instances"), 0);

    // Killed while it holds some: another finds what it left.
    let hang = json!({"documents": {"mode": "hang"}});
    stack.ledger.set_faults(&hang).await.unwrap();
    let mut single = Single::start(&stack, "64").await;
    single.post(&receipts, 1600..2000).await;
    eventually(A_MINUTE, "calls hang", async || {
        stack.ledger.summary().await.unwrap()["struck"]["documents"]["hang"].as_u64() > Some(0)
    })
    .await;
    single.process.kill().unwrap();
    assert!(number(&stack, "select count(*) from work where owner is not null") > 0);
    stack.ledger.set_faults(&faults).await.unwrap();
    let single = Single::start(&stack, "64").await;
    until(
        &stack,
        "the dead one is taken over",
        "select count(*) from instances",
        1,
    )
    .await;
    stack.ledger.clear_faults().await.unwrap();
    // Their back-offs have grown; what is asked here is not how long they are.
    let now = "update work set internal_due_at = now() where internal_due_at > now()";
    stack.database.sql(now).unwrap();
    all_registered(&stack, 2000).await;
    drop(single);
}

/// The slots of the scenarios in which they are few.
const SLOTS: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_api_holds_every_slot_of_a_single_engine() {
    let stack = start(&options()).await;
    let receipts = receipts();
    let single = Single::start(&stack, &SLOTS.to_string()).await;
    stack
        .ledger
        .set_faults(&json!({"fiscal.register": {"mode": "hang"}}))
        .await
        .unwrap();
    single.post(&receipts, 0..SLOTS).await;
    eventually(A_MINUTE, "all slots hold hanging calls", async || {
        stack.ledger.summary().await.unwrap()["struck"]["fiscal.register"]["hang"] == SLOTS
    })
    .await;
    single.post(&receipts, SLOTS..3 * SLOTS).await;
    let validated = "select count(distinct receipt) from calls where stage = 'validate'";
    eventually(A_MINUTE, "a newer one was called for", async || {
        number(&stack, validated) > SLOTS
    })
    .await;
    // A call is stored when its attempt has ended: by one clock, that of the engine.
    let freed = "select extract(epoch from min(started_at + duration_ms * interval '1 ms')) * 1000 from calls where stage = 'register'";
    let newer = format!(
        "select extract(epoch from min(started_at)) * 1000 from (select started_at, row_number() over (order by started_at) as n from calls where stage = 'validate') c where n > {SLOTS}"
    );
    let instant = |sql: &str| stack.database.sql(sql).unwrap().parse::<f64>().unwrap();
    assert!(
        instant(&newer) >= instant(freed),
        "a newer receipt was called for at {}, and no slot was free before {}",
        instant(&newer),
        instant(freed)
    );
    stack.ledger.clear_faults().await.unwrap();
    all_registered(&stack, 3 * SLOTS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_its_next_try_holds_no_slot() {
    let stack = start(&options()).await;
    let receipts = receipts();
    let single = Single::start(&stack, &SLOTS.to_string()).await;
    let busy = json!({"mode": "error", "status": 503, "retry_after": "8"});
    stack
        .ledger
        .set_faults(&json!({ "fiscal.register": busy }))
        .await
        .unwrap();
    let many = 10 * SLOTS;
    single.post(&receipts, 0..many).await;
    // Its own time, not that of the others: ten times as many as there are slots wait at once.
    let waiting = "select count(*) from work where position = 3 and attempt = 1 and internal_due_at > now()";
    until(&stack, "all wait at once", waiting, many).await;
    stack.ledger.clear_faults().await.unwrap();
    single.post(&receipts, many..many + 1).await;
    until(&stack, "a newer one overtakes them", REGISTERED, 1).await;
    assert_eq!(number(&stack, waiting), many, "nobody is tried before it is due");
    all_registered(&stack, many + 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_engine_keeps_to_the_limit_and_uses_it() {
    let stack = start(&options().with("destination.fiscal.limits", "100/s")).await;
    let receipts = receipts();
    let single = Single::start(&stack, "16").await;
    single.post(&receipts, 0..200).await;
    all_registered(&stack, 200).await;
    let arrived: Vec<i64> = stack
        .ledger
        .calls(0)
        .await
        .unwrap()
        .iter()
        .map(|call| call.at)
        .collect();
    assert_eq!(arrived.len(), 400, "no call is made in vain");
    // What a call takes to arrive is not the sender's.
    let most = end_to_end::busiest_second(&arrived);
    assert!(most <= 103, "{most} calls in a second");
    let took = Duration::from_millis(u64::try_from(arrived[399] - arrived[0]).unwrap());
    assert!(took < Duration::from_secs(7), "{took:?} for 400 calls");
}
