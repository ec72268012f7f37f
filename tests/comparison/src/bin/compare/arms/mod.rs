//! The systems that are compared, each started afresh: a simulator and databases of its own, the same pipeline, the same number
//! of calls in flight.

mod bare;
mod temporal;

use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::{bail, ensure};
use clap::ValueEnum;
use end_to_end::{Api, Options, Poster, Process, Processes, Stack, TOKEN, free_port, server};
use serde::{Deserialize, Serialize};
use serde_json::json;

pub use bare::Load as BareLoad;
use temporal::Server;

use crate::events::Scenario;

/// How long one may take to be ready.
const READY: Duration = Duration::from_mins(2);
/// The internal services of the pipeline.
const SERVICES: [&str; 3] = ["validation", "tax", "documents"];
/// Calls at once that a configuration gives a service by default.
const SERVICE: usize = 64;

/// One of the systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arm {
    /// The calls alone
    Bare,
    /// One engine, one queue
    Single,
    /// Chekhov
    Split,
    /// Temporal as it comes
    Temporal,
    /// Temporal as an expert runs it
    TemporalTuned,
}

/// What all arms are started with.
#[derive(Debug, Clone)]
pub struct Setting {
    /// Calls in flight at most.
    pub calls: usize,
    /// How long a call of the fiscal API may take.
    pub timeout: Duration,
    /// The fiscal API's limit in calls a second; none: no limit.
    pub limit: Option<u32>,
    /// The development server instead of Temporal on PostgreSQL.
    pub temporal_dev: bool,
}

/// An arm that runs. What works ends before the servers that it works on: fields are dropped in this order.
#[derive(Debug)]
pub struct Running {
    /// Who it is.
    pub arm: Arm,
    engine: Engine,
    temporal: Option<Server>,
    /// Its simulator, its databases, and Chekhov's own processes where it is Chekhov.
    pub stack: Stack,
}

#[derive(Debug)]
enum Engine {
    /// Started for each load.
    Bare,
    /// Chekhov's own.
    Split,
    /// A process that receipts are posted to, and where.
    One { process: Process, base: String },
}

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Arm {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Single => "single",
            Self::Split => "split",
            Self::Temporal => "temporal",
            Self::TemporalTuned => "temporal-tuned",
        }
    }

    /// Whether it keeps anything: only then an outage and a death mean something to it.
    pub fn is_durable(self) -> bool {
        self != Self::Bare
    }

    /// What it is taken through.
    pub fn scenarios(self) -> &'static [Scenario] {
        if self.is_durable() {
            &Scenario::ALL
        } else {
            &[Scenario::Closed, Scenario::Open]
        }
    }

    /// The programs of this workspace that it runs.
    pub fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Bare => &["bare"],
            Self::Single => &["single"],
            Self::Split => &["external-dispatcher", "orchestrator"],
            Self::Temporal | Self::TemporalTuned => &["temporal-worker"],
        }
    }

    /// Whether it is one of Temporal's.
    pub fn is_temporal(self) -> bool {
        matches!(self, Self::Temporal | Self::TemporalTuned)
    }
}

impl Setting {
    /// A stack with the comparison's pipeline. Of the calls in flight Chekhov has as many for each of the internal services as its
    /// configuration gives them by default, and the rest for the fiscal API; elsewhere slots are for all of them. Receipts in
    /// memory are no calls: they have room.
    fn options(&self, arm: Arm) -> Options {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let members = usize::from(arm == Arm::Split);
        let options = Options {
            orchestrators: members,
            dispatchers: members,
            pipeline: Some(root.join("pipeline/receipts.toml")),
            ..Options::default()
        };
        let (external, internal) = if arm == Arm::Split {
            let internal = (self.calls / 6).min(SERVICE);
            (self.calls - SERVICES.len() * internal, internal)
        } else {
            (self.calls, self.calls)
        };
        let limits = self.limit.map(|limit| format!("{limit}/s")).unwrap_or_default();
        let mut options = options
            .with("destination.fiscal.limits", &limits)
            .with("destination.fiscal.timeout", &format!("{}ms", self.timeout.as_millis()))
            .with("destination.fiscal.concurrency", &external.to_string())
            .with("orchestrator.in_flight", &(self.calls * 2).to_string());
        for service in SERVICES {
            options = options.with(&format!("service.{service}.concurrency"), &internal.to_string());
        }
        options
    }

    /// Starts an arm, and returns when it takes receipts.
    ///
    /// # Errors
    /// When a part cannot be started or does not become ready.
    pub async fn start(&self, arm: Arm) -> anyhow::Result<Running> {
        let stack = Stack::start(&self.options(arm)).await?;
        stack.ledger.set(&json!({"done_after_ms": 0})).await?;
        let temporal = arm
            .is_temporal()
            .then(|| Server::start(arm == Arm::TemporalTuned, self.temporal_dev))
            .transpose()?;
        let listen = format!("127.0.0.1:{}", free_port()?);
        let (program, arguments) = match (arm, &temporal) {
            (Arm::Single, _) => ("single", vec!["--slots".to_owned(), self.calls.to_string()]),
            (_, Some(server)) => ("temporal-worker", server.worker(arm == Arm::TemporalTuned, self.limit)),
            _ => ("", Vec::new()),
        };
        let engine = match arm {
            Arm::Bare => Engine::Bare,
            Arm::Split => Engine::Split,
            Arm::Single | Arm::Temporal | Arm::TemporalTuned => {
                let own = ["--listen".to_owned(), listen.clone()];
                let arguments: Vec<_> = own.into_iter().chain(arguments).collect();
                let mut process = stack.start_beside(program, program, &arguments)?;
                let base = format!("http://{listen}");
                ready(&mut process, &base).await?;
                Engine::One { process, base }
            }
        };
        Ok(Running {
            arm,
            engine,
            temporal,
            stack,
        })
    }
}

impl Running {
    /// Who posts to it.
    ///
    /// # Errors
    /// When nobody can.
    pub fn poster(&self) -> anyhow::Result<Poster> {
        match &self.engine {
            Engine::Bare => bail!("nobody posts to bare calls"),
            Engine::Split => Poster::new(self.stack.orchestrators[0].api.base()),
            Engine::One { base, .. } => Poster::new(base),
        }
    }

    /// The processes that work for it, and the two that do not: the driver, the simulator.
    ///
    /// # Errors
    /// When a server does not run.
    pub fn processes(&self) -> anyhow::Result<Processes> {
        let mut processes = vec![
            ("driver", std::process::id()),
            ("simulator", self.stack.simulator.pid()),
        ];
        match (&self.engine, self.arm) {
            (Engine::Bare, _) => {}
            (Engine::Split, _) => {
                processes.push(("orchestrator", self.stack.orchestrators[0].process.pid()));
                processes.push(("external-dispatcher", self.stack.dispatchers[0].process.pid()));
                processes.push(("rabbitmq", server("rabbitmq")?));
                processes.push(("postgres", server("postgres")?));
            }
            (Engine::One { process, .. }, Arm::Single) => {
                processes.push(("single", process.pid()));
                processes.push(("postgres", server("postgres")?));
            }
            (Engine::One { process, .. }, _) => {
                processes.push(("temporal-worker", process.pid()));
                let temporal = self.temporal.as_ref();
                processes.extend(temporal.and_then(Server::pid).map(|pid| ("temporal-server", pid)));
                if temporal.is_some_and(Server::is_on_postgres) {
                    processes.push(("postgres", server("postgres")?));
                }
            }
        }
        Ok(Processes::named(processes))
    }
}

async fn ready(process: &mut Process, base: &str) -> anyhow::Result<()> {
    let api = Api::new(base, TOKEN);
    let deadline = tokio::time::Instant::now() + READY;
    loop {
        if api.is_ready().await {
            return Ok(());
        }
        ensure!(process.is_running(), "it ended: {}", process.last_words());
        ensure!(
            tokio::time::Instant::now() < deadline,
            "not ready within {READY:?}: {}",
            process.last_words()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
