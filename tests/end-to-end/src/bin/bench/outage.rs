//! Whether early stages feel an outage of the fiscal API behind a backlog of many receipts, and what the backlog costs
//! meanwhile.

use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Parser;
use end_to_end::{Backlog, Receipts, Stack, TOKEN, eventually};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};
use uuid::Uuid;

use crate::loaded;
use crate::pairs::Figures;

#[derive(Debug, Parser)]
pub struct Outage {
    /// Rounds: each without an outage, with an API that refuses, and with one that hangs
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Receipts that wait for the API during the outage
    #[arg(long, default_value_t = 100_000)]
    backlog: u64,
    /// Receipts posted a second, on time whatever comes of them
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// How long they are posted, in seconds
    #[arg(long, default_value_t = 30)]
    seconds: u32,
}

/// How long the backlog is watched while nothing is posted.
const WATCHED: Duration = Duration::from_secs(10);
/// How long it may take until the backlog is registered.
const DRAINED: Duration = Duration::from_mins(15);
/// How long what was posted may take to pass its internal stages.
const PASSED: Duration = Duration::from_mins(2);

/// Runs the rounds and prints the figures.
pub async fn run(stack: &Stack, template: &str, arguments: &Outage) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let mut registered = u64::from(arguments.rate * arguments.seconds);
    window(stack, &client, template, arguments).await?;
    let mut figures = Figures::default();
    for round in 0..arguments.rounds {
        drained(stack, registered).await?;
        let posted = u64::from(arguments.rate * arguments.seconds);
        figures.early("no outage", window(stack, &client, template, arguments).await?);
        drained(stack, registered + posted).await?;
        stack.ledger.set_faults(&json!({"fiscal": {"mode": "refuse"}})).await?;
        let backlog = Backlog {
            name: format!("backlog-{round}"),
            count: arguments.backlog,
            internal: ["validate", "calculate", "document"].map(str::to_owned).to_vec(),
            timers: 0,
            urgent: 0,
            key: None,
            deadline: Duration::from_hours(1),
        };
        backlog.fill(&stack.database)?;
        for mode in ["refuse", "hang"] {
            stack.ledger.set_faults(&json!({"fiscal": {"mode": mode}})).await?;
            figures.early(mode, window(stack, &client, template, arguments).await?);
            let (calls, rows) = touched(stack, &backlog).await?;
            let seconds = WATCHED.as_secs_f64();
            figures.add(
                format!("{mode}: calls a second, for all that is parked"),
                calls / seconds,
            );
            figures.add(
                format!("{mode}: parked receipts' rows written a second"),
                rows / seconds,
            );
        }
        stack.ledger.clear_faults().await?;
        registered += 3 * posted + arguments.backlog;
    }
    drained(stack, registered).await?;
    println!("{}", figures.table());
    Ok(())
}

/// Posts at an even pace, without paying for what was written before, and answers how long each took from its acceptance to the
/// end of its last internal stage.
async fn window(
    stack: &Stack,
    client: &reqwest::Client,
    template: &str,
    arguments: &Outage,
) -> anyhow::Result<Vec<Duration>> {
    stack.database.sql("checkpoint")?;
    let receipts = Receipts::new(template)?;
    let url = format!("{}/v1/receipts", stack.orchestrators[0].api.base());
    let mut pace = interval(Duration::from_secs(1) / arguments.rate);
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut posts = JoinSet::new();
    for n in 0..usize::try_from(arguments.rate * arguments.seconds)? {
        pace.tick().await;
        let request = client.post(&url).bearer_auth(TOKEN);
        let request = request
            .header("content-type", "application/json")
            .body(receipts.body(n));
        posts.spawn(async move {
            let response = request.send().await?;
            let status = response.status();
            let answer: Value = serde_json::from_slice(&response.bytes().await?)?;
            ensure!(status == 202, "a post was answered {status}: {answer}");
            let id: Uuid = answer["id"].as_str().context("no id")?.parse()?;
            Ok(id)
        });
    }
    let mut ids = Vec::new();
    while let Some(id) = posts.join_next().await {
        ids.push(id??);
    }
    eventually(PASSED, "early stages are passed", async || {
        stack
            .database
            .sql("select count(*) from work where position < 3")
            .is_ok_and(|open| open == "0")
    })
    .await;
    loaded::early(&stack.database.url(), &ids).await
}

/// Calls that were made, answered or not, and rows of the backlog that were written, while nothing is posted. Counted in the
/// tables themselves: PostgreSQL's statistics come seconds late.
async fn touched(stack: &Stack, backlog: &Backlog) -> anyhow::Result<(f64, f64)> {
    let since = stack.database.sql("select now()")?;
    let before = backlog.touched(&stack.database)?;
    sleep(WATCHED).await;
    let calls = stack
        .database
        .sql(&format!("select count(*) from calls where stored_at > '{since}'"))?;
    let rows = backlog.touched(&stack.database)? - before;
    Ok((calls.parse()?, f64::from(u32::try_from(rows)?)))
}

/// Waits until nothing is open, and everything was registered once.
async fn drained(stack: &Stack, registered: u64) -> anyhow::Result<()> {
    eventually(DRAINED, "the backlog is registered", async || {
        stack
            .database
            .sql("select count(*) from work")
            .is_ok_and(|open| open == "0")
    })
    .await;
    let summary = stack.ledger.summary().await?;
    ensure!(
        summary["registrations"] == registered && summary["registered_twice"] == 0,
        "{registered} receipts, and the simulator has: {summary}"
    );
    Ok(())
}
