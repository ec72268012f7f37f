//! The arm `bare`: every receipt's calls are made once, and each line says what came of them.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use end_to_end::{Stack, binary};
use serde::Deserialize;
use serde_json::json;

use super::{bench, options, registered_once, start};

#[derive(Debug, Deserialize)]
struct Line {
    n: usize,
    external_id: String,
    begun_us: u64,
    early_us: Option<u64>,
    ended_us: u64,
    outcome: String,
}

async fn run(stack: &Stack, arguments: &[&str]) -> Vec<Line> {
    let mut command = Command::new(binary("bare"));
    command
        .arg("--receipt")
        .arg(bench("receipt.json"))
        .args(arguments)
        .envs(stack.environment())
        .stderr(Stdio::inherit());
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap();
    assert!(output.status.success());
    let lines = output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn bare_makes_every_call_once() {
    let stack = start(&options()).await;
    let lines = run(&stack, &["--count", "300", "--concurrency", "16"]).await;
    assert!(lines.iter().map(|line| line.n).eq(0..300));
    let ids: BTreeSet<_> = lines.iter().map(|line| &line.external_id).collect();
    assert_eq!(ids.len(), 300);
    for line in &lines {
        let early = line.early_us.unwrap();
        assert!(
            line.outcome == "registered" && line.begun_us < early && early < line.ended_us,
            "{line:?}"
        );
    }
    registered_once(&stack, 300).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bare_keeps_its_rate_whatever_the_answers_do() {
    let stack = start(&options()).await;
    let faults = json!({"tax": {"mode": "error", "status": 500}, "validation": {"mode": "slow", "latency_ms": 1500}});
    stack.ledger.set_faults(&faults).await.unwrap();
    let lines = run(&stack, &["--rate", "100", "--seconds", "1"]).await;
    assert_eq!(lines.len(), 100);
    for (line, next) in lines.iter().zip(&lines[1..]) {
        assert!(
            (9_990..10_010).contains(&(next.begun_us - line.begun_us)),
            "{line:?} {next:?}"
        );
    }
    let first = lines.iter().map(|line| line.ended_us).min().unwrap();
    assert!(lines[99].begun_us < first, "all began before the first was answered");
    // Not tried again, and nothing after it.
    assert!(
        lines
            .iter()
            .all(|line| line.outcome == "failed" && line.early_us.is_none())
    );
    let summary = stack.ledger.summary().await.unwrap();
    assert_eq!(summary["struck"]["tax"]["error"], 100, "{summary}");
    registered_once(&stack, 0).await;
}
