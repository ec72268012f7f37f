//! Looks at everything, every few seconds.

use std::time::Instant;

use anyhow::Context;
use end_to_end::{Api, Stack};
use serde::Serialize;
use serde_json::Value;

use crate::memory::{Memory, range, resident};
use crate::plan::{Plan, SAMPLE};
use crate::report::Report;

/// One look.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    /// Seconds since the outage had its backlog.
    pub at_s: f64,
    /// `open` or `closed`.
    pub state: String,
    /// How far slow start has come.
    pub speed: f64,
    /// Canaries that failed since the API was well.
    pub canaries_failed: u64,
    /// Receipts that were handed off and not yet taken.
    pub queued: i64,
    /// Fiscal calls since the outage had its backlog.
    pub calls: u64,
    /// The most of them that were under way at once.
    pub under_way: u64,
    /// MiB resident, by process.
    pub memory: Memory,
}

/// All looks so far.
#[derive(Debug)]
pub struct Samples {
    pub all: Vec<Sample>,
    begun: Instant,
}

impl Samples {
    pub fn begin() -> Self {
        Self {
            all: Vec::new(),
            begun: Instant::now(),
        }
    }

    /// Looks, asks of it what must hold at every moment, and prints a line a minute.
    pub async fn take(&mut self, stack: &Stack, doing: &str, report: &mut Report) -> anyhow::Result<()> {
        let view = destination(stack).await?;
        let summary = stack.ledger.summary().await?;
        let sample = Sample {
            at_s: self.begun.elapsed().as_secs_f64(),
            state: view["state"].as_str().unwrap_or_default().to_owned(),
            speed: view["speed"].as_f64().context("no speed")?,
            canaries_failed: view["canaries_failed"].as_u64().context("no canaries")?,
            queued: view["queued"].as_i64().context("nothing about the queue")?,
            calls: fiscal(&summary),
            under_way: summary["max_under_way"].as_u64().unwrap_or_default(),
            memory: resident(stack),
        };
        report.must(sample.queued <= Plan::horizon(), || {
            format!("{} receipts were queued, of {} at most", sample.queued, Plan::horizon())
        });
        if self.all.len().is_multiple_of(usize::try_from(60 / SAMPLE.as_secs())?) {
            println!("{:6.1} min: {doing}; {sample}", sample.at_s / 60.0);
        }
        self.all.push(sample);
        Ok(())
    }

    /// The least and the most MiB of the processes whose name begins so, in the first and the last sample of some.
    pub fn memory(of: &[Sample], name: &str) -> String {
        let shown = |sample: Option<&Sample>| {
            let (least, most) = sample
                .and_then(|sample| range(&sample.memory, name))
                .unwrap_or_default();
            if least == most {
                most.to_string()
            } else {
                format!("{least} to {most}")
            }
        };
        format!("{}, {}", shown(of.first()), shown(of.last()))
    }
}

impl std::fmt::Display for Sample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            state,
            canaries_failed,
            queued,
            calls,
            ..
        } = self;
        write!(
            f,
            "{state}, {canaries_failed} canaries failed, {calls} calls, {queued} queued"
        )?;
        for name in ["orchestrator", "dispatcher", "rabbitmq"] {
            let (least, most) = range(&self.memory, name).unwrap_or_default();
            write!(f, ", {name} {least}..{most} MiB")?;
        }
        Ok(())
    }
}

/// The fiscal API as an operator sees it, by any orchestrator that answers.
pub async fn destination(stack: &Stack) -> anyhow::Result<Value> {
    let ask = |api: Api| async move { api.call(&["v1", "destinations", "fiscal"]).await };
    for member in &stack.orchestrators {
        if let Ok(answer) = ask(member.api.clone()).await
            && answer.status == 200
        {
            return Ok(answer.body);
        }
    }
    anyhow::bail!("no orchestrator shows the destination")
}

/// Calls to the fiscal API that the simulator has seen.
pub fn fiscal(summary: &Value) -> u64 {
    let calls = summary["calls"].as_object().into_iter().flatten();
    calls
        .filter(|(target, _)| target.starts_with("fiscal."))
        .filter_map(|(_, calls)| calls.as_u64())
        .sum()
}

/// Asks the database without standing in anybody's way.
pub fn sql(stack: &Stack, sql: &str) -> anyhow::Result<String> {
    tokio::task::block_in_place(|| stack.database.sql(sql))
}

/// The same, for one number.
pub fn number(stack: &Stack, sql: &str) -> anyhow::Result<u64> {
    Ok(self::sql(stack, sql)?.parse()?)
}

/// The same, for a column of seconds.
pub fn times(stack: &Stack, sql: &str) -> anyhow::Result<Vec<f64>> {
    self::sql(stack, sql)?.lines().map(|line| Ok(line.parse()?)).collect()
}
