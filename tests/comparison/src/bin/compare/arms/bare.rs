//! The calls alone: a process that makes its load itself, and says of every receipt when it began and ended.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use end_to_end::{Process, Processes};
use serde::Deserialize;

use super::Running;
use crate::events::Post;

/// The load that it is to make.
#[derive(Debug, Clone, Copy)]
pub enum Load {
    /// So many receipts, so many at once.
    Closed { count: usize, concurrency: usize },
    /// So many a second, on time.
    Open { rate: f64, length: Duration },
}

/// A line of what it says.
#[derive(Debug, Deserialize)]
struct Line {
    n: u64,
    external_id: String,
    begun_us: i64,
}

/// A load that is being made.
pub struct Making {
    process: Process,
    log: PathBuf,
}

impl Running {
    /// Starts making a load of bare calls.
    pub fn make(&self, name: &str, load: Load) -> anyhow::Result<Making> {
        let mut arguments = vec!["--receipt".to_owned(), crate::load::template().display().to_string()];
        let own = match load {
            Load::Closed { count, concurrency } => [
                ("--count", count.to_string()),
                ("--concurrency", concurrency.to_string()),
            ],
            Load::Open { rate, length } => [
                ("--rate", rate.round().to_string()),
                ("--seconds", length.as_secs().max(1).to_string()),
            ],
        };
        for (key, value) in own {
            arguments.extend([key.to_owned(), value]);
        }
        let process = self.stack.start_beside("bare", name, &arguments)?;
        let log = self.stack.directory().join(format!("{name}.log"));
        Ok(Making { process, log })
    }
}

impl Making {
    /// The processes that work for it, and those that do not.
    pub fn processes(&self, running: &Running) -> Processes {
        Processes::named(vec![
            ("driver", std::process::id()),
            ("simulator", running.stack.simulator.pid()),
            ("bare", self.process.pid()),
        ])
    }

    /// What it has begun, once all of it has ended.
    pub async fn ended(mut self, limit: Duration) -> anyhow::Result<Vec<Post>> {
        let status = self.process.ended(limit).await?;
        ensure!(status.success(), "bare: {}", self.process.last_words());
        let text = std::fs::read_to_string(&self.log).with_context(|| self.log.display().to_string())?;
        let lines = text.lines().filter(|line| line.starts_with("{\"n\""));
        lines
            .map(|line| {
                let line: Line = serde_json::from_str(line).with_context(|| line.to_owned())?;
                Ok(Post {
                    n: line.n,
                    external_id: line.external_id,
                    begun_us: line.begun_us,
                    acknowledged_us: None,
                    repeats: 0,
                })
            })
            .collect()
    }
}
