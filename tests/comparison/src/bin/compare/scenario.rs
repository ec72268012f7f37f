//! The scenarios of one arm in one run, and what is kept of each.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use end_to_end::Receipts;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use crate::arms::{Arm, BareLoad, Running, Setting};
use crate::events::{Call, Phase, Post, Recorded, Scenario, Span, Storage};
use crate::figures;
use crate::load::{self, Load, Posted, all_accepted, drained, micros, unix_us};
use crate::sampler::Sampler;

/// What the scenarios are made with.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How arms are started.
    pub setting: Setting,
    /// Which of them are made; the closed loop in any case.
    pub scenarios: Vec<Scenario>,
    /// Receipts under way in the closed loop.
    pub concurrency: usize,
    /// The share of its own maximum that an arm has in an open loop.
    pub share: f64,
    /// Posts that do not count, first.
    pub warm: Duration,
    /// How long a phase is measured; before and after an outage too.
    pub length: Duration,
    /// How long an outage is.
    pub outage: Duration,
    /// How long what was posted may take to be done once the last was posted.
    pub patience: Duration,
}

/// Calls of the fiscal API that a receipt takes.
const FISCAL_CALLS: f64 = 2.0;
/// Receipts of bare calls that go first, for each that is under way: most of their time as many are, and so it tells the maximum.
const BARE_WARMING: usize = 8;

impl Plan {
    /// Takes one arm through all of its scenarios.
    pub async fn run(&self, run: u32, arm: Arm, events: &Path) -> anyhow::Result<()> {
        let maximum = if arm.is_durable() {
            self.steady(run, arm, events).await?
        } else {
            self.bare(run, events).await?
        };
        if !arm.is_durable() {
            return Ok(());
        }
        let limited = Setting {
            limit: Some(limit_of(maximum)),
            ..self.setting.clone()
        };
        for scenario in self.of([Scenario::Refusing, Scenario::Hanging]) {
            let running = limited.start(arm).await?;
            let phase = Turn::new(run, scenario, &running, limited.limit);
            let rate = maximum * self.share;
            keep(&self.outage(phase, rate).await?, events)?;
        }
        Ok(())
    }

    /// Those that are made.
    fn of(&self, scenarios: impl IntoIterator<Item = Scenario>) -> impl Iterator<Item = Scenario> {
        let scenarios = scenarios.into_iter();
        scenarios.filter(|scenario| self.scenarios.contains(scenario))
    }

    /// Steady load and the storm; answers how many receipts a second it takes at most.
    async fn steady(&self, run: u32, arm: Arm, events: &Path) -> anyhow::Result<f64> {
        let mut running = self.setting.start(arm).await?;
        let closed = self.closed(Turn::new(run, Scenario::Closed, &running, None)).await?;
        keep(&closed, events)?;
        let maximum = figures::throughput(&closed);
        ensure!(maximum > 0.0, "{arm} took no receipt at all");
        let mut left = !closed.phase.drained;
        for scenario in self.of([Scenario::Open, Scenario::Storm]) {
            if left {
                // What the last phase left behind is not the next one's.
                drop(running);
                running = self.setting.start(arm).await?;
            }
            let open = self
                .open(Turn::new(run, scenario, &running, None), maximum * self.share)
                .await?;
            left = !open.phase.drained;
            keep(&open, events)?;
        }
        Ok(maximum)
    }

    async fn closed(&self, turn: Turn<'_>) -> anyhow::Result<Recorded> {
        let (load, begun) = turn.begin().await?;
        let posted = load::closed(&load, self.concurrency, self.warm, self.length, self.patience).await?;
        self.end(turn, begun, None, None, posted).await
    }

    async fn open(&self, turn: Turn<'_>, rate: f64) -> anyhow::Result<Recorded> {
        let ledger = &turn.running.stack.ledger;
        self.warm(&turn, rate).await?;
        if turn.scenario == Scenario::Storm {
            ledger.set_faults(&storm()).await?;
        }
        let (load, begun) = turn.begin().await?;
        let posted = load::open(&load, rate, self.length).await?;
        let recorded = self.end(turn, begun, Some(rate), None, posted).await?;
        ledger.clear_faults().await?;
        Ok(recorded)
    }

    /// The fiscal API goes away in the middle, and comes back with its limit.
    async fn outage(&self, turn: Turn<'_>, rate: f64) -> anyhow::Result<Recorded> {
        let ledger = turn.running.stack.ledger.clone();
        let limit = turn.limit.context("an API that comes back has a limit")?;
        ledger
            .set(&json!({"done_after_ms": 0, "limit": {"rate": limit, "per_s": 1}}))
            .await?;
        let mode = if turn.scenario == Scenario::Hanging {
            "hang"
        } else {
            "refuse"
        };
        self.warm(&turn, rate).await?;
        let (load, begun) = turn.begin().await?;
        let start = Instant::now();
        let steering = async {
            sleep_until(start + self.length).await;
            ledger.set_faults(&json!({"fiscal": {"mode": mode}})).await?;
            let begin_us = unix_us();
            sleep_until(start + self.length + self.outage).await;
            let end_us = unix_us();
            ledger.clear_faults().await?;
            anyhow::Ok(Span { begin_us, end_us })
        };
        let length = self.length * 2 + self.outage;
        let (posted, outage) = tokio::try_join!(load::open(&load, rate, length), steering)?;
        self.end(turn, begun, Some(rate), Some(outage), posted).await
    }

    /// Receipts that go first and are not measured: connections are opened, statements prepared.
    async fn warm(&self, turn: &Turn<'_>, rate: f64) -> anyhow::Result<()> {
        let (load, begun) = turn.begin().await?;
        let posted = load::open(&load, rate, self.warm).await?;
        drained(&load.ledger, posted.posts.len() as u64, self.patience).await?;
        begun.sampler.end().await?;
        Ok(())
    }

    /// Bare calls: at most, then on time.
    async fn bare(&self, run: u32, events: &Path) -> anyhow::Result<f64> {
        let running = self.setting.start(Arm::Bare).await?;
        let concurrency = self.concurrency;
        let warming = BareLoad::Closed {
            count: BARE_WARMING * concurrency,
            concurrency,
        };
        let warm = self
            .bare_load(Turn::new(run, Scenario::Closed, &running, None), "warm", warming)
            .await?;
        let receipts = figures::throughput(&warm) * self.length.as_secs_f64();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a number of receipts"
        )]
        let most = BareLoad::Closed {
            count: receipts as usize + concurrency,
            concurrency,
        };
        let closed = self
            .bare_load(Turn::new(run, Scenario::Closed, &running, None), "closed", most)
            .await?;
        keep(&closed, events)?;
        let maximum = figures::throughput(&closed);
        if self.of([Scenario::Open]).next().is_none() {
            return Ok(maximum);
        }
        let on_time = BareLoad::Open {
            rate: maximum * self.share,
            length: self.length,
        };
        let open = self
            .bare_load(Turn::new(run, Scenario::Open, &running, None), "open", on_time)
            .await?;
        keep(&open, events)?;
        Ok(maximum)
    }

    async fn bare_load(&self, turn: Turn<'_>, name: &str, load: BareLoad) -> anyhow::Result<Recorded> {
        let stack = &turn.running.stack;
        stack.ledger.forget().await?;
        let storage = Storage::of(&stack.database)?;
        let making = turn.running.make(name, load)?;
        let begun = Begun {
            sampler: Sampler::start(making.processes(turn.running)),
            storage,
            at_us: unix_us(),
        };
        let posts = making
            .ended(self.warm + self.length * 3 + self.patience + Duration::from_mins(1))
            .await?;
        let begins = posts.iter().map(|post| post.begun_us);
        let (first, last) = (
            begins.clone().min().context("bare made no call")?,
            begins.max().unwrap_or_default(),
        );
        let (rate, end_us) = match load {
            BareLoad::Closed { .. } => (None, last),
            BareLoad::Open { rate, length } => (Some(rate), first + micros(length)),
        };
        let window = Span {
            begin_us: first,
            end_us,
        };
        self.end(turn, begun, rate, None, Posted { posts, window }).await
    }

    /// Waits until all of it is done, and gathers what is known.
    async fn end(
        &self,
        turn: Turn<'_>,
        begun: Begun,
        rate: Option<f64>,
        outage: Option<Span>,
        posted: Posted,
    ) -> anyhow::Result<Recorded> {
        let stack = &turn.running.stack;
        let Posted { posts, window } = posted;
        if turn.running.arm.is_durable() {
            all_accepted(&posts)?;
        }
        let drained = drained(&stack.ledger, posts.len() as u64, self.patience).await?;
        let samples = begun.sampler.end().await?;
        let whole = Span {
            begin_us: begun.at_us,
            end_us: unix_us(),
        };
        let phase = Phase {
            run: turn.run,
            arm: turn.running.arm,
            scenario: turn.scenario,
            rate,
            limit: turn.limit,
            whole,
            window,
            outage,
            drained,
            storage: [begun.storage, Storage::of(&stack.database)?],
        };
        let calls = match outage {
            None => Vec::new(),
            Some(outage) => called(&stack.ledger.calls(outage.begin_us / 1000).await?, outage),
        };
        let ways = in_order(stack.ledger.ways().await?, &posts);
        Ok(Recorded {
            phase,
            posts,
            ways,
            calls,
            samples,
        })
    }
}

/// A phase that is about to be.
struct Turn<'a> {
    run: u32,
    scenario: Scenario,
    running: &'a Running,
    limit: Option<u32>,
}

/// What was noted when it began.
struct Begun {
    sampler: Sampler,
    storage: Storage,
    at_us: i64,
}

impl<'a> Turn<'a> {
    fn new(run: u32, scenario: Scenario, running: &'a Running, limit: Option<u32>) -> Self {
        Self {
            run,
            scenario,
            running,
            limit,
        }
    }

    async fn begin(&self) -> anyhow::Result<(Load, Begun)> {
        let stack = &self.running.stack;
        stack.ledger.forget().await?;
        let template = std::fs::read_to_string(load::template())?;
        let load = Load {
            poster: self.running.poster()?,
            receipts: Arc::new(Receipts::new(&template)?),
            ledger: stack.ledger.clone(),
        };
        let begun = Begun {
            storage: Storage::of(&stack.database)?,
            sampler: Sampler::start(self.running.processes()?),
            at_us: unix_us(),
        };
        Ok((load, begun))
    }
}

/// One call in twenty is answered with an error; one registration in fifty is done and not answered. Each call is drawn anew.
fn storm() -> Value {
    let error = json!({"mode": "error", "status": 503, "share": 0.05, "anew": true});
    let unknown = json!({"mode": "commit_then_drop", "share": 0.02, "anew": true});
    json!({
        "validation": error, "tax": error, "documents": error,
        "fiscal.register": [error, unknown], "fiscal.report": error,
    })
}

/// The limit with which the API comes back: what the arm itself calls at most in a second.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "calls a second")]
fn limit_of(maximum: f64) -> u32 {
    (maximum * FISCAL_CALLS).ceil().max(1.0) as u32
}

fn called(calls: &[end_to_end::FiscalCall], outage: Span) -> Vec<Call> {
    let calls = calls.iter().map(|call| Call {
        at_us: call.at * 1000,
        target: call.target.clone(),
    });
    calls.filter(|call| outage.has(call.at_us)).collect()
}

/// The ways of what was posted, in the order of the posts.
fn in_order(ways: Vec<end_to_end::Way>, posts: &[Post]) -> Vec<end_to_end::Way> {
    let mut known: std::collections::HashMap<_, _> = ways
        .into_iter()
        .map(|way| (figures::external_id(&way).to_owned(), way))
        .collect();
    posts
        .iter()
        .filter_map(|post| known.remove(&post.external_id))
        .collect()
}

fn keep(recorded: &Recorded, events: &Path) -> anyhow::Result<()> {
    recorded.write(events)?;
    println!("{}", figures::line(recorded));
    Ok(())
}
