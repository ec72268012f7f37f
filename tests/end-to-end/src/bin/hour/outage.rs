//! The outage: the API goes away behind a backlog, fails in one way after the other, and processes die meanwhile.

use std::time::{Duration, Instant};

use anyhow::ensure;
use end_to_end::{Backlog, Invariants, Stack, eventually, fixture, fresh, read};
use serde_json::Value;
use time::OffsetDateTime;
use tokio::time::sleep_until;

use crate::plan::{DISPATCHERS, Event, Plan, SHAPES, UNDER_WAY, fault};
use crate::report::{Report, percentiles};
use crate::samples::{Samples, destination, fiscal, number, sql, times};

/// Names the backlog's receipts.
pub const NAME: &str = "hour";
/// The internal stages of the pipeline, in their order.
const INTERNAL: [&str; 5] = ["validate", "enrich", "calculate", "number", "document"];
/// How long it may take until it is closed, and a process to stop.
const SOON: Duration = Duration::from_mins(1);
/// How long early stages may take a receipt, at the median and of all but one in a hundred, on a machine that restarts
/// processes and scans tables meanwhile.
const EARLY_MS: [f64; 2] = [250.0, 1_500.0];

/// What the outage left behind.
#[derive(Debug)]
pub struct Outage {
    /// When it was closed, and when it had its backlog.
    closed: Instant,
    began: OffsetDateTime,
    /// Processes that died, and that were frozen.
    killed: usize,
    frozen: usize,
}

/// Has one receipt registered: the pattern of the backlog's.
pub async fn pattern(stack: &mut Stack) -> anyhow::Result<()> {
    stack.post_all(&fresh(&templates()?, 1)).await?;
    stack.settled(SOON).await;
    let verdict = stack.judge().await?;
    ensure!(verdict.all_registered(), "{verdict:#?}");
    // The ledger is about to forget it.
    stack.posted.clear();
    Ok(())
}

/// Without the few that are made to be hard.
fn templates() -> anyhow::Result<Vec<Value>> {
    Ok(read(&fixture("valid.ndjson"))?.split_off(10))
}

/// Takes the API away, and makes the backlog once it is closed.
pub async fn begin(stack: &mut Stack, plan: &Plan, report: &mut Report) -> anyhow::Result<(Outage, Backlog)> {
    let before = fiscal(&stack.ledger.summary().await?);
    stack.ledger.set_faults(&fault(0)).await?;
    // Enough for one of the dispatchers to have its five.
    stack.post_all(&fresh(&templates()?, DISPATCHERS * 5 + 10)).await?;
    eventually(SOON, "it is closed", async || {
        destination(stack).await.is_ok_and(|view| view["state"] == "closed")
    })
    .await;
    let closed = Instant::now();
    eventually(SOON, "what was under way has ended", async || {
        number(stack, "select count(*) from work where state = 'dispatching'").is_ok_and(|calls| calls == 0)
    })
    .await;
    stack.all_know("fiscal", false, SOON).await;
    let calls = fiscal(&stack.ledger.summary().await?) - before;
    let bound = Plan::until_closed() + Plan::canaries(closed.elapsed(), 0);
    report.figure("calls until it was closed for all", calls);
    report.must(calls <= u64::try_from(bound)?, || {
        format!("{calls} calls until it was closed, of {bound} at most")
    });
    // From here on every call of the ledger is one of the outage. Nothing was registered that is not final.
    stack.ledger.forget().await?;
    let backlog = Backlog {
        name: NAME.to_owned(),
        count: plan.receipts,
        internal: INTERNAL.map(str::to_owned).to_vec(),
        timers: plan.timers(),
        urgent: plan.urgent(),
        deadline: plan.deadline(),
        key: None,
    };
    tokio::task::block_in_place(|| backlog.fill(&stack.database))?;
    println!("{} receipts wait behind it", plan.receipts);
    let outage = Outage {
        closed,
        began: OffsetDateTime::now_utc(),
        killed: 0,
        frozen: 0,
    };
    Ok((outage, backlog))
}

impl Outage {
    /// Lets everything happen.
    pub async fn last(
        &mut self,
        stack: &mut Stack,
        plan: &Plan,
        backlog: &Backlog,
        samples: &mut Samples,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let begun = tokio::time::Instant::now();
        let invariants = Invariants::watch_large(&stack.database);
        let directory = stack.directory().to_path_buf();
        let mut shape = 0;
        for (at, event) in plan.events() {
            sleep_until(begun + at).await;
            match event {
                Event::Shape(next) => {
                    shape = next;
                    stack.ledger.set_faults(&fault(shape)).await?;
                }
                Event::Kill(dispatcher) => {
                    let member = &mut stack.dispatchers[dispatcher];
                    member.process.kill()?;
                    member.restart(&directory).await?;
                    self.killed += 1;
                }
                Event::Freeze => {
                    stack.dispatchers[0].process.signal("STOP")?;
                    self.frozen += 1;
                }
                Event::Thaw => stack.dispatchers[0].process.signal("CONT")?,
                Event::Restart => {
                    let member = &mut stack.orchestrators[0];
                    ensure!(
                        member.process.terminate(SOON).await?.success(),
                        "an orchestrator failed"
                    );
                    member.restart(&directory).await?;
                }
                Event::Sample => samples.take(stack, SHAPES[shape % SHAPES.len()], report).await?,
                Event::Count => self.count(stack, backlog, report).await?,
            }
        }
        sleep_until(begun + plan.outage).await;
        samples.take(stack, "the last moment", report).await?;
        self.count(stack, backlog, report).await?;
        let (looks, violations) = invariants.seen().await;
        report.figure(
            "looks at the invariants of all states, violations",
            format!("{looks}, {}", violations.len()),
        );
        report.must(violations.is_empty() && looks > 0, || {
            format!("{looks} looks at the invariants: {violations:#?}")
        });
        self.judge(stack, plan, backlog, samples, report).await
    }

    /// Whether canaries alone touched the backlog: each takes one receipt, and who dies may have taken one and not called.
    async fn count(&self, stack: &Stack, backlog: &Backlog, report: &mut Report) -> anyhow::Result<()> {
        let touched = tokio::task::block_in_place(|| backlog.touched(&stack.database))?;
        let calls = usize::try_from(fiscal(&stack.ledger.summary().await?))?;
        let lost = self.killed + self.frozen;
        report.must(touched <= calls + lost, || {
            format!("{touched} rows of the backlog were touched by {calls} calls, {lost} processes having been killed or frozen")
        });
        Ok(())
    }

    async fn judge(
        &self,
        stack: &Stack,
        plan: &Plan,
        backlog: &Backlog,
        samples: &Samples,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let summary = stack.ledger.summary().await?;
        let calls = usize::try_from(fiscal(&summary))?;
        let lost = self.killed + self.frozen;
        let bound = Plan::canaries(self.closed.elapsed(), lost);
        let touched = tokio::task::block_in_place(|| backlog.touched(&stack.database))?;
        report.figure(
            format!(
                "calls in {:.0} min of outage (canaries alone may be: at most {bound})",
                plan.outage.as_secs_f64() / 60.0
            ),
            calls,
        );
        report.figure(format!("rows touched of {} behind it", plan.receipts), touched);
        report.must((1..=bound).contains(&calls), || {
            format!("{calls} calls in the outage; canaries alone are {bound} at most, and one at least")
        });
        let (under_way, most) = (
            summary["max_under_way"].as_u64().unwrap_or_default(),
            UNDER_WAY + u64::try_from(self.frozen)?,
        );
        report.figure("canaries at once", under_way);
        report.must(under_way <= most, || {
            format!(
                "{under_way} canaries were under way at once, {} of them frozen",
                self.frozen
            )
        });
        let queued = samples.all.iter().map(|sample| sample.queued).max();
        report.figure(
            format!("most receipts in the broker (at most {})", Plan::horizon()),
            queued.unwrap_or_default(),
        );
        report.figure(
            "dispatchers killed, frozen for 30 s; orchestrators restarted",
            format!("{}, {}, 1", self.killed, self.frozen),
        );
        for name in ["orchestrator", "dispatcher", "rabbitmq"] {
            report.figure(
                format!("MiB resident, {name}: at the beginning, at the end"),
                Samples::memory(&samples.all, name),
            );
        }
        self.early(stack, plan, report)
    }

    /// What early stages took in each quarter.
    fn early(&self, stack: &Stack, plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
        let from = self.began.unix_timestamp();
        let quarter = plan.outage.as_secs_f64() / 4.0;
        let mut shown = Vec::new();
        for n in 0..4 {
            let accepted = format!(
                "external_id not like '{NAME}-%' and accepted_at >= to_timestamp({from} + {n} * {quarter}) and accepted_at < to_timestamp({from} + ({n} + 1) * {quarter})"
            );
            let posted = number(stack, &format!("select count(*) from receipts where {accepted}"))?;
            let took = times(
                stack,
                &format!(
                    "select extract(epoch from calls.stored_at - accepted_at) from receipts join calls on receipt = receipts.id
                     where stage = 'document' and result is not null and {accepted}"
                ),
            )?;
            let [median, most] = percentiles(&took);
            shown.push(format!("{median:.0} and {most:.0}"));
            report.must(took.len() == usize::try_from(posted)? && posted > 0, || {
                format!(
                    "{} of {posted} fresh receipts came through their early stages in quarter {}",
                    took.len(),
                    n + 1
                )
            });
            report.must(median <= EARLY_MS[0] && most <= EARLY_MS[1], || {
                format!(
                    "early stages took {median:.0} and {most:.0} ms in quarter {}, of {EARLY_MS:?}",
                    n + 1
                )
            });
        }
        report.figure(
            "early stages of fresh receipts, median and 99th percentile, by quarters of the outage",
            format!("{} ms", shown.join("; ")),
        );
        let waiting = "select count(*) from work where state in ('queued', 'dispatching', 'running')";
        println!("the outage ends; {} receipts are under way", sql(stack, waiting)?);
        Ok(())
    }
}
