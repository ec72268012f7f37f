//! Processes that can be stopped, frozen and killed.

use std::ffi::OsStr;
use std::fs::File;
use std::net::TcpListener;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};

/// A process of ours; it is killed when it is dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts one of the workspace's binaries. What it writes is added to `<directory>/<name>.log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(
        program: &str,
        name: &str,
        arguments: &[&OsStr],
        environment: &[(String, String)],
        directory: &Path,
    ) -> anyhow::Result<Self> {
        Self::start_program(&binary(program), name, arguments, environment, directory)
    }

    /// The same of any program.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_program(
        program: &Path,
        name: &str,
        arguments: &[&OsStr],
        environment: &[(String, String)],
        directory: &Path,
    ) -> anyhow::Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| log.display().to_string())?;
        let child = Command::new(program)
            .args(arguments)
            .envs(environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("{} cannot be started", program.display()))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// Its id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name: `TERM`, `KILL`, `STOP`, `CONT`.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn signal(&mut self, signal: &str) -> anyhow::Result<()> {
        // Not reaped yet, or alive: until then nobody else gets this id.
        ensure!(self.child.try_wait()?.is_none(), "{} has ended", self.name);
        let status = Command::new("kill")
            .args(["-s", signal, &self.pid().to_string()])
            .status()?;
        ensure!(
            status.success(),
            "kill -s {signal} {} ({}) failed",
            self.pid(),
            self.name
        );
        Ok(())
    }

    /// `kill -9`, and until it is gone.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// `SIGTERM`, and until it has ended.
    ///
    /// # Errors
    /// When it does not within `limit`.
    pub async fn terminate(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        self.signal("TERM")?;
        self.ended(limit).await
    }

    /// Until it has ended by itself.
    ///
    /// # Errors
    /// When it does not within `limit`.
    pub async fn ended(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(
                tokio::time::Instant::now() < deadline,
                "{} did not stop within {limit:?}",
                self.name
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The end of what it wrote.
    #[must_use]
    pub fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        format!(
            "{} ({}):\n{}",
            self.name,
            self.log.display(),
            lines[lines.len().saturating_sub(20)..].join("\n")
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Either fails only for a process that has ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A binary of the workspace, built with the profile of the running program.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("this program has a path");
    // target/<profile>/<program>, or target/<profile>/deps/<test>.
    let found = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "{name} is not built beside {}: cargo build --workspace --bins",
            own.display()
        )
    })
}

/// A port that nobody listens on, and that nobody is given again. Below those that systems give to outgoing connections: one of
/// them could take it before whoever it is for.
///
/// # Errors
/// When there is none.
pub fn free_port() -> anyhow::Result<u16> {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    const PORTS: Range<u32> = 20_000..32_000;
    let many = PORTS.end - PORTS.start;
    for _ in PORTS {
        let next = (std::process::id() + GIVEN.fetch_add(1, Ordering::Relaxed)) % many;
        let port = u16::try_from(PORTS.start + next)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    anyhow::bail!("no port of {PORTS:?} is free")
}
