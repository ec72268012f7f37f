//! Temporal's server: this checkout's own, begun anew for each arm, or any other that `TEMPORAL_ADDRESS` names.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, ensure};

/// A server that takes workflows.
#[derive(Debug)]
pub struct Server {
    address: String,
    /// Absent: somebody else's.
    pid: Option<u32>,
    dev: bool,
}

impl Server {
    /// Starts one, unless there is another's.
    pub fn start(tuned: bool, dev: bool) -> anyhow::Result<Self> {
        if let Ok(address) = std::env::var("TEMPORAL_ADDRESS") {
            let pid = None;
            return Ok(Self { address, pid, dev });
        }
        let mut arguments = vec!["up"];
        arguments.extend(tuned.then_some("--tuned"));
        arguments.extend(dev.then_some("--dev"));
        let text = run(&arguments)?;
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.map(str::to_owned)
                .with_context(|| format!("Temporal's server said no {key}"))
        };
        Ok(Self {
            address: value("TEMPORAL_ADDRESS")?,
            pid: Some(value("TEMPORAL_PID")?.parse()?),
            dev,
        })
    }

    /// Its process, if it is ours.
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// Whether its state is in our PostgreSQL.
    pub fn is_on_postgres(&self) -> bool {
        self.pid.is_some() && !self.dev
    }

    /// The arguments of a worker of it.
    pub fn worker(&self, tuned: bool, limit: Option<u32>) -> Vec<String> {
        let mut arguments = vec!["--temporal".to_owned(), self.address.clone()];
        arguments.extend(["--namespace", "default"].map(str::to_owned));
        if tuned {
            arguments.push("--tuned".to_owned());
            arguments.extend(
                limit
                    .into_iter()
                    .flat_map(|limit| ["--fiscal-limit".to_owned(), limit.to_string()]),
            );
        }
        arguments
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.pid.is_some()
            && let Err(error) = run(&["down"])
        {
            eprintln!("Temporal's server stays: {error:#}");
        }
    }
}

fn run(arguments: &[&str]) -> anyhow::Result<String> {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("temporal/server");
    let output = Command::new(&script)
        .args(arguments)
        .output()
        .with_context(|| script.display().to_string())?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "temporal/server {}: {}",
        arguments.join(" "),
        words.trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
