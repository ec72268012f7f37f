//! The raw events of a comparison, as they are kept: a directory of each phase, a line an event. Every figure comes from them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::ValueEnum;
use end_to_end::Way;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::arms::Arm;
use crate::figures::Prices;

/// What a phase shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// So many receipts under way: how fast it is at most
    Closed,
    /// Receipts on time, at a share of that
    Open,
    /// The same while calls fail and answers get lost
    Storm,
    /// The same while the fiscal API refuses
    Refusing,
    /// The same while the fiscal API hangs
    Hanging,
}

impl Scenario {
    /// All of them, in the order in which they are run.
    pub const ALL: [Self; 5] = [Self::Closed, Self::Open, Self::Storm, Self::Refusing, Self::Hanging];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::Storm => "storm",
            Self::Refusing => "refusing",
            Self::Hanging => "hanging",
        }
    }
}

/// How a comparison was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// Those that took part, in their order.
    pub arms: Vec<Arm>,
    /// What they were taken through.
    pub scenarios: Vec<Scenario>,
    /// How often all of it was done.
    pub runs: u32,
    /// Receipts under way in the closed loop.
    pub concurrency: usize,
    /// Calls in flight at most.
    pub calls: usize,
    /// The share of its own maximum that an arm has in an open loop.
    pub share: f64,
    /// How long a phase is measured, in seconds.
    pub seconds: u64,
    /// How long an outage is, in seconds.
    pub outage_seconds: u64,
    /// How long a call of the fiscal API may take, in seconds.
    pub timeout_seconds: f64,
    /// `release` or `dev`.
    pub build: String,
    /// Short phases: every figure, none of them good for more than a look.
    pub quick: bool,
    /// Which server Temporal's arms had.
    pub temporal: String,
    /// Cores of the machine.
    pub cores: usize,
    /// Its processor.
    pub processor: String,
    /// Its memory in MiB.
    pub memory_mib: u64,
    /// PostgreSQL's version.
    pub postgres: String,
    /// Whether PostgreSQL made sure that what it wrote was on the disk.
    pub fsync: bool,
    /// The programs that took part, and the SHA-256 of each.
    pub programs: BTreeMap<String, String>,
    /// What a cluster's parts are taken to cost.
    pub prices: Prices,
}

impl Comparison {
    /// What an arm is taken through.
    pub fn scenarios(&self, arm: Arm) -> impl Iterator<Item = Scenario> {
        let can = arm.scenarios().iter().copied();
        can.filter(|scenario| self.scenarios.contains(scenario))
    }

    /// The settings in which another one differs.
    pub fn differs(&self, other: &Self) -> anyhow::Result<Vec<String>> {
        let (ours, theirs) = (serde_json::to_value(self)?, serde_json::to_value(other)?);
        let settings = ours.as_object().into_iter().flatten();
        let differing = settings.filter(|(name, value)| theirs.get(name) != Some(value));
        Ok(differing.map(|(name, _)| name.clone()).collect())
    }
}

/// A stretch of time, in microseconds since 1970; the end is not part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Its begin.
    pub begin_us: i64,
    /// Its end.
    pub end_us: i64,
}

impl Span {
    /// Whether an instant is in it.
    pub fn has(&self, at_us: i64) -> bool {
        (self.begin_us..self.end_us).contains(&at_us)
    }

    /// How long it is.
    #[expect(clippy::cast_precision_loss, reason = "microseconds of hours are far below 2^52")]
    pub fn seconds(&self) -> f64 {
        (self.end_us - self.begin_us) as f64 / 1e6
    }
}

/// A phase of one arm in one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Phase {
    /// The run, from 1.
    pub run: u32,
    /// Which arm had its turn.
    pub arm: Arm,
    /// What was done.
    pub scenario: Scenario,
    /// Posts a second, where they came on time.
    pub rate: Option<f64>,
    /// The fiscal API's limit in calls a second.
    pub limit: Option<u32>,
    /// From the first post to the end of the watch: the whole phase.
    pub whole: Span,
    /// When posts began that count.
    pub window: Span,
    /// When the fiscal API was away.
    pub outage: Option<Span>,
    /// Whether all that was accepted had ended before the watch did.
    pub drained: bool,
    /// What PostgreSQL had written and kept at the begin and at the end of the whole phase.
    pub storage: [Storage; 2],
}

/// What PostgreSQL has written and keeps, in bytes, all databases together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Storage {
    /// Written ahead so far.
    pub wal: u64,
    /// Tables and indexes.
    pub stored: u64,
}

/// A post, by the driver's clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Post {
    /// Its number.
    pub n: u64,
    /// Its receipt's id.
    pub external_id: String,
    /// When it was due.
    pub begun_us: i64,
    /// When it was answered 202; never: it was given up, or nobody posts to this arm.
    pub acknowledged_us: Option<i64>,
    /// How often it was posted again.
    pub repeats: u32,
}

/// A call that reached the fiscal API while it was away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// When.
    pub at_us: i64,
    /// What was called.
    pub target: String,
}

/// What a process had used at an instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// When.
    pub at_us: i64,
    /// Whose.
    pub process: String,
    /// CPU time so far.
    pub cpu_us: u64,
    /// Memory now, in bytes.
    pub memory: u64,
    /// Written to disks so far, in bytes.
    pub written: u64,
}

/// A phase with its events.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// What it was.
    pub phase: Phase,
    /// Every post.
    pub posts: Vec<Post>,
    /// Every receipt's way, by the simulator's clock.
    pub ways: Vec<Way>,
    /// The calls of the fiscal API during the outage.
    pub calls: Vec<Call>,
    /// Of each process, each second.
    pub samples: Vec<Sample>,
}

impl Recorded {
    /// Keeps it below `events`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, events: &Path) -> anyhow::Result<()> {
        let Phase { run, arm, scenario, .. } = self.phase;
        let directory = directory(events, run, arm, scenario);
        std::fs::create_dir_all(&directory)?;
        write_lines(&directory.join("posts.ndjson"), &self.posts)?;
        write_lines(&directory.join("ways.ndjson"), &self.ways)?;
        write_lines(&directory.join("calls.ndjson"), &self.calls)?;
        write_lines(&directory.join("samples.ndjson"), &self.samples)?;
        // Last: a directory that has it is whole.
        write_json(&directory.join("phase.json"), &self.phase)
    }

    fn read(directory: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            phase: read_json(&directory.join("phase.json"))?,
            posts: read_lines(&directory.join("posts.ndjson"))?,
            ways: read_lines(&directory.join("ways.ndjson"))?,
            calls: read_lines(&directory.join("calls.ndjson"))?,
            samples: read_lines(&directory.join("samples.ndjson"))?,
        })
    }
}

/// Whether a run has every phase of an arm.
pub fn has_whole(events: &Path, comparison: &Comparison, run: u32, arm: Arm) -> bool {
    let mut scenarios = comparison.scenarios(arm);
    scenarios.all(|scenario| directory(events, run, arm, scenario).join("phase.json").is_file())
}

fn directory(events: &Path, run: u32, arm: Arm, scenario: Scenario) -> PathBuf {
    events.join(format!("{run}-{arm}-{}", scenario.name()))
}

/// Reads every phase below `events`, one after the other, in the order of run, arm and scenario: all at once may be much.
///
/// # Errors
/// When there is none, or one cannot be read.
pub fn read_all(events: &Path) -> anyhow::Result<impl Iterator<Item = anyhow::Result<Recorded>>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(events).with_context(|| events.display().to_string())? {
        let directory = entry?.path();
        if directory.join("phase.json").is_file() {
            let phase: Phase = read_json(&directory.join("phase.json"))?;
            found.push(((phase.run, phase.arm, phase.scenario), directory));
        }
    }
    ensure!(!found.is_empty(), "no events in {}", events.display());
    found.sort();
    Ok(found.into_iter().map(|(_, directory)| Recorded::read(&directory)))
}

/// Writes a value as JSON.
///
/// # Errors
/// When it cannot be written.
pub fn write_json(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    std::fs::write(path, text).with_context(|| path.display().to_string())
}

/// Reads a value from JSON.
///
/// # Errors
/// When it is not there, or another.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = std::fs::read(path).with_context(|| path.display().to_string())?;
    serde_json::from_slice(&text).with_context(|| path.display().to_string())
}

fn write_lines<T: Serialize>(path: &Path, lines: &[T]) -> anyhow::Result<()> {
    let mut file = BufWriter::new(File::create(path).with_context(|| path.display().to_string())?);
    for line in lines {
        serde_json::to_writer(&mut file, line)?;
        file.write_all(b"\n")?;
    }
    Ok(file.flush()?)
}

fn read_lines<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Vec<T>> {
    let file = BufReader::new(File::open(path).with_context(|| path.display().to_string())?);
    file.lines()
        .map(|line| serde_json::from_str(&line?).with_context(|| path.display().to_string()))
        .collect()
}
