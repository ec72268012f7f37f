//! What a comparison is asked for.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};
use end_to_end::{Database, Urls, binary};
use sha2::{Digest, Sha256};

use crate::arms::{Arm, Setting};
use crate::events::{Comparison, Scenario};
use crate::figures::Prices;
use crate::scenario::Plan;

/// The share of its own maximum that an arm has in an open loop.
const SHARE: f64 = 0.7;
const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");

/// Compares Chekhov with other ways to do the same
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    /// Something else than a comparison.
    #[command(subcommand)]
    pub what: Option<What>,
    /// A comparison.
    #[command(flatten)]
    pub run: Run,
}

/// What is done with a comparison that was made.
#[derive(Debug, Subcommand)]
pub enum What {
    /// Writes the report anew, from its events alone
    Report {
        /// Where it is
        directory: PathBuf,
        /// Other prices.
        #[command(flatten)]
        prices: OtherPrices,
        /// Writes the README's table too
        #[arg(long, num_args = 0..=1, default_missing_value = README)]
        readme: Option<PathBuf>,
    },
    /// Computes the report's figures anew and compares
    Check {
        /// Where it is
        directory: PathBuf,
    },
}

/// Prices that may be stated, all or none.
#[derive(Debug, Args)]
pub struct OtherPrices {
    /// Takes the prices that are given here, not those of the comparison
    #[arg(long)]
    reprice: bool,
    #[command(flatten)]
    prices: Prices,
}

impl OtherPrices {
    /// Those, if they are to be taken.
    pub fn stated(self) -> Option<Prices> {
        self.reprice.then_some(self.prices)
    }
}

/// A comparison.
#[derive(Debug, Args)]
pub struct Run {
    /// Who takes part; absent: all
    #[arg(long, value_delimiter = ',')]
    arms: Vec<Arm>,
    /// What they are taken through; absent: everything. The closed loop always: the others take their rate from it
    #[arg(long, value_delimiter = ',')]
    scenarios: Vec<Scenario>,
    /// How often
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// How long a phase is measured
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// How long an outage is, in seconds
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..))]
    outage: u64,
    /// How long a call of the fiscal API may take, in seconds
    #[arg(long, default_value_t = 10.0)]
    timeout: f64,
    /// Receipts under way in the closed loop
    #[arg(long, default_value_t = 1024)]
    concurrency: usize,
    /// Calls in flight at most
    #[arg(long, default_value_t = 1000)]
    calls: usize,
    /// Short phases, unless others are given: for a look
    #[arg(long)]
    quick: bool,
    /// Temporal's development server instead of Temporal on PostgreSQL
    #[arg(long)]
    temporal_dev: bool,
    /// Where events and report go
    #[arg(long, default_value = "target/compare")]
    pub out: PathBuf,
    /// Goes on with the comparison that is there: what an arm has whole of a run is not made again. Settings and programs have to
    /// be the same
    #[arg(long)]
    pub resume: bool,
    /// Writes the README's table too
    #[arg(long, num_args = 0..=1, default_missing_value = README)]
    pub readme: Option<PathBuf>,
    #[command(flatten)]
    prices: Prices,
}

impl Run {
    /// Those that take part, in the order of their declaration, each once.
    pub fn arms(&self) -> Vec<Arm> {
        let all = Arm::value_variants().iter().copied();
        all.filter(|arm| self.arms.is_empty() || self.arms.contains(arm))
            .collect()
    }

    /// What they are taken through, in the order in which it is run.
    pub fn scenarios(&self) -> Vec<Scenario> {
        let wanted = |scenario: &Scenario| *scenario == Scenario::Closed || self.scenarios.contains(scenario);
        let all = Scenario::ALL.into_iter();
        all.filter(|scenario| self.scenarios.is_empty() || wanted(scenario))
            .collect()
    }

    /// How arms are taken through the scenarios.
    pub fn plan(&self) -> Plan {
        let (length, outage) = (Duration::from_secs(self.seconds), Duration::from_secs(self.outage));
        let timeout = Duration::from_secs_f64(self.timeout);
        Plan {
            setting: Setting {
                calls: self.calls,
                timeout,
                limit: None,
                temporal_dev: self.temporal_dev,
            },
            scenarios: self.scenarios(),
            concurrency: self.concurrency,
            share: SHARE,
            warm: length / 3,
            length,
            outage,
            // A backlog of the whole outage at the share of the maximum that was posted, and calls that hang to their end.
            patience: outage * 5 + timeout * 2 + Duration::from_secs(10),
        }
    }

    /// What is kept of how it was made.
    pub fn comparison(&self) -> anyhow::Result<Comparison> {
        let urls = Urls::from_environment();
        let database = Database::create(&urls)?;
        let setting = |name: &str| database.sql(&format!("show {name}"));
        Ok(Comparison {
            arms: self.arms(),
            scenarios: self.scenarios(),
            runs: self.runs,
            concurrency: self.concurrency,
            calls: self.calls,
            share: SHARE,
            seconds: self.seconds,
            outage_seconds: self.outage,
            timeout_seconds: self.timeout,
            build: if cfg!(debug_assertions) { "dev" } else { "release" }.to_owned(),
            quick: self.quick,
            temporal: self.temporal().to_owned(),
            cores: std::thread::available_parallelism()?.get(),
            processor: of_proc("cpuinfo", "model name").unwrap_or_else(|_| "an unnamed processor".to_owned()),
            memory_mib: of_proc("meminfo", "MemTotal")?.trim_end_matches(" kB").parse::<u64>()? / 1024,
            postgres: setting("server_version")?,
            fsync: setting("fsync")? == "on",
            programs: programs(&self.arms())?,
            prices: self.prices,
        })
    }

    fn temporal(&self) -> &'static str {
        if std::env::var_os("TEMPORAL_ADDRESS").is_some() {
            "a server that TEMPORAL_ADDRESS named, whose own use is not measured"
        } else if self.temporal_dev {
            "the development server, which keeps everything in memory"
        } else {
            "its server on the same PostgreSQL, all services in one process"
        }
    }
}

/// Those that run, and the SHA-256 of each: what was made with others is another comparison.
fn programs(arms: &[Arm]) -> anyhow::Result<BTreeMap<String, String>> {
    let names = arms.iter().flat_map(|arm| arm.programs());
    let all = ["compare", "simulator"].iter().chain(names);
    all.map(|name| {
        let path = binary(name);
        let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
        Ok(((*name).to_owned(), format!("{:x}", Sha256::digest(bytes))))
    })
    .collect()
}

/// A line of a file of `/proc`.
fn of_proc(file: &str, key: &str) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(format!("/proc/{file}"))?;
    let line = text.lines().find(|line| line.starts_with(key));
    let value = line.and_then(|line| line.split_once(':'));
    let (_, value) = value.with_context(|| format!("/proc/{file} has no {key}"))?;
    Ok(value.trim().to_owned())
}
