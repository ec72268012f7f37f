//! A destination that gives out tokens: one serves all dispatchers, and no receipt pays for one that is refused.

use std::time::Duration;

use end_to_end::{FiscalCall, Options, Stack, eventually};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::limits::now;
use super::{all_registered, quick, receipts};

const SOON: Duration = Duration::from_secs(20);
const KEY: &str = "c0ffee00c0ffee11c0ffee22c0ffee33c0ffee44c0ffee55c0ffee66c0ffee77";
const PASSWORD: &str = "nobody-may-see-this";
/// How long giving out a token takes: two that overlap show.
const SLOW: u64 = 300;

fn with_token() -> Options {
    let body = json!({"login": "chekhov", "pass": PASSWORD}).to_string();
    Options {
        dispatchers: 2,
        ..quick()
    }
    .with("destination.fiscal.limits", "100/s")
    .with("destination.fiscal.slow_start", "1s")
    .with("destination.fiscal.probe", "500ms")
    .with("destination.fiscal.probe_max", "1s")
    .with("destination.fiscal.token.post", "/v4/token")
    .with("destination.fiscal.token.body", &body)
    .with("destination.fiscal.token.header", "Token")
    .with("destination.fiscal.token.prefix", "")
    .with("secrets.key", KEY)
}

async fn started(life: u64) -> Stack {
    let stack = Stack::start(&with_token()).await.unwrap();
    let auth = json!({"auth": true, "token_ttl_s": life});
    stack.ledger.set(&auth).await.unwrap();
    faults(&stack, json!({})).await;
    stack
}

/// Sets the faults beside the slow tokens.
async fn faults(stack: &Stack, mut faults: Value) {
    if faults.get("fiscal.token").is_none() {
        faults["fiscal.token"] = json!({"mode": "slow", "latency_ms": SLOW});
    }
    stack.ledger.set_faults(&faults).await.unwrap();
}

async fn fetched(stack: &Stack) -> Vec<FiscalCall> {
    let mut calls = stack.ledger.calls(0).await.unwrap();
    calls.retain(|call| call.target == "fiscal.token");
    calls
}

/// No token was asked for before the last one was there.
fn one_at_a_time(fetched: &[FiscalCall]) {
    let gaps: Vec<_> = fetched.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    let least = i64::try_from(SLOW).unwrap() - 20;
    assert!(gaps.iter().all(|gap| *gap >= least), "ms between tokens: {gaps:?}");
}

async fn closed_for(stack: &Stack, words: &str) {
    let api = &stack.orchestrators[0].api;
    eventually(SOON, &format!("it is closed, and says {words:?}"), async || {
        let shown = api.call(&["v1", "destinations", "fiscal"]).await.unwrap().body;
        shown["state"] == "closed" && shown["reason"].as_str().is_some_and(|reason| reason.contains(words))
    })
    .await;
}

/// Posts so many every half second, for so many seconds.
async fn load(stack: &mut Stack, count: usize, seconds: u64) {
    for _ in 0..seconds * 2 {
        stack.post_all(&receipts(count)).await.unwrap();
        sleep(Duration::from_millis(500)).await;
    }
}

fn never_closed(stack: &Stack) {
    let closed = stack
        .database
        .sql("select count(*) from destinations where failed_at is not null");
    assert_eq!(closed.unwrap(), "0", "it was closed");
}

/// Neither a token nor what it is fetched with, in any log or table.
fn nothing_is_seen(stack: &Stack, tokens: &[String]) {
    let dumped = ["tokens", "calls", "sends", "work", "destinations"]
        .map(|table| stack.database.sql(&format!("select t::text from {table} t")).unwrap());
    let logs = std::fs::read_dir(stack.directory())
        .unwrap()
        .map(|file| file.unwrap().path());
    let logs = logs.filter(|path| path.extension().is_some_and(|kind| kind == "log"));
    let logged: Vec<_> = logs.map(|log| std::fs::read_to_string(log).unwrap()).collect();
    assert!(logged.len() >= 3 && !tokens.is_empty());
    for secret in tokens.iter().map(String::as_str).chain([KEY, PASSWORD]) {
        let hidden = |text: &String| !text.contains(secret) && !text.contains(&hex::encode(secret));
        assert!(
            dumped.iter().all(hidden) && logged.iter().all(hidden),
            "{secret} is seen"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_token_serves_all_and_is_renewed_before_its_life_is_over() {
    let mut stack = started(5).await;
    let begun = now();
    load(&mut stack, 15, 9).await;
    stack.settled(SOON).await;
    let calls = stack.ledger.calls(0).await.unwrap();
    assert!(
        calls.iter().all(|call| call.status != Some(401)),
        "some token was refused"
    );
    let tokens = fetched(&stack).await;
    one_at_a_time(&tokens);
    let most = 1 + usize::try_from((now() - begun) / 4_000).unwrap();
    assert!(
        (2..=most).contains(&tokens.len()),
        "{} tokens, at most {most}",
        tokens.len()
    );
    let mut seen = stack.ledger.tokens().await.unwrap();

    // Revoked under load: each call is repeated with the next one.
    stack.post_all(&receipts(60)).await.unwrap();
    stack.ledger.revoke_tokens().await.unwrap();
    let before = tokens.len();
    load(&mut stack, 15, 1).await;
    stack.settled(SOON).await;
    let tokens = fetched(&stack).await;
    assert!(
        (before + 1..=before + 3).contains(&tokens.len()),
        "{} after {before}",
        tokens.len()
    );
    let calls = stack.ledger.calls(0).await.unwrap();
    assert!(calls.iter().any(|call| call.status == Some(401)), "none was refused");

    // What another key has sealed is fetched anew, by who finds it so: nobody else is there to take the calls.
    for dispatcher in &mut stack.dispatchers {
        dispatcher.process.kill().unwrap();
    }
    stack
        .database
        .sql(r"update tokens set sealed = '\x00', fetched_at = now(), expires_at = now() + interval '1 hour'")
        .unwrap();
    let directory = stack.directory().to_path_buf();
    stack.dispatchers[0].restart(&directory).await.unwrap();
    load(&mut stack, 15, 1).await;
    stack.settled(SOON * 2).await;
    let log = std::fs::read_to_string(directory.join("external-dispatcher-0.log")).unwrap();
    assert_eq!(log.matches("sealed with another key").count(), 1, "{log}");
    one_at_a_time(&fetched(&stack).await);
    never_closed(&stack);
    all_registered(&stack).await;
    seen.extend(stack.ledger.tokens().await.unwrap());
    nothing_is_seen(&stack, &seen);
}

#[tokio::test(flavor = "multi_thread")]
async fn good_credentials_that_are_refused_close_the_destination_and_cost_no_receipt() {
    let mut stack = started(86_400).await;
    load(&mut stack, 15, 1).await;
    stack.settled(SOON).await;
    let refused = json!({"mode": "error", "status": 401});
    faults(
        &stack,
        json!({"fiscal.register": refused, "fiscal.report": refused, "fiscal.document": refused}),
    )
    .await;
    load(&mut stack, 15, 3).await;
    closed_for(&stack, "refuses good credentials").await;
    faults(&stack, json!({})).await;
    stack.settled(SOON * 2).await;
    let tokens = fetched(&stack).await;
    assert!(tokens.len() <= 4, "{} tokens for nothing", tokens.len());
    one_at_a_time(&tokens);
    all_registered(&stack).await;

    // The token is gone, and no other is given.
    faults(&stack, json!({"fiscal.token": {"mode": "error", "status": 503}})).await;
    stack.ledger.revoke_tokens().await.unwrap();
    let before = tokens.len();
    load(&mut stack, 15, 3).await;
    closed_for(&stack, "no token could be fetched").await;
    let waiting = stack
        .shown(stack.posted.last().unwrap())
        .await
        .reason
        .unwrap_or_default();
    assert!(waiting.contains("fiscal"), "{waiting}");
    faults(&stack, json!({})).await;
    stack.settled(SOON * 3).await;
    let after = fetched(&stack).await.len();
    assert!(after - before <= 25, "{} tokens were asked for in vain", after - before);
    all_registered(&stack).await;
    let verdict = stack.judge().await.unwrap();
    assert_eq!(verdict.rejected, 0);
    nothing_is_seen(&stack, &stack.ledger.tokens().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_dies_while_it_fetches_a_token_holds_everybody_up_for_one_lease() {
    let options = Options {
        dispatchers: 1,
        ..with_token()
    };
    let options = options
        .with("heartbeat.every", "500ms")
        .with("heartbeat.dead_after", "3s");
    let mut stack = Stack::start(&options).await.unwrap();
    stack.ledger.set(&json!({"auth": true})).await.unwrap();
    faults(&stack, json!({"fiscal.token": {"mode": "hang"}})).await;
    stack.post_all(&receipts(10)).await.unwrap();
    eventually(SOON, "a token is being fetched", async || {
        !fetched(&stack).await.is_empty()
    })
    .await;
    stack.dispatchers[0].process.kill().unwrap();
    faults(&stack, json!({})).await;
    let directory = stack.directory().to_path_buf();
    stack.dispatchers[0].restart(&directory).await.unwrap();
    stack.post_all(&receipts(10)).await.unwrap();
    stack.settled(SOON * 2).await;
    let tokens = fetched(&stack).await;
    assert_eq!(tokens.len(), 2);
    // The timeout of a request and two seconds.
    let gap = tokens[1].at - tokens[0].at;
    assert!((3_900..8_000).contains(&gap), "{gap} ms");
    all_registered(&stack).await;
}
