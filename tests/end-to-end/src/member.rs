//! One process of a stack: an orchestrator or a dispatcher.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::api::Api;
use crate::eventually::eventually;
use crate::http;
use crate::processes::Process;

/// How long a process may need to be ready, on a machine that does other things.
const READY: Duration = Duration::from_mins(1);

/// One orchestrator or dispatcher.
#[derive(Debug)]
pub struct Member {
    /// The process; signal it, kill it.
    pub process: Process,
    /// Its HTTP API: an orchestrator's intake, a dispatcher's health.
    pub api: Api,
    pub(crate) metrics: String,
    pub(crate) program: &'static str,
    pub(crate) name: String,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) authority: Option<PathBuf>,
}

impl Member {
    /// Starts it again, on the same ports, after it was killed or has ended.
    ///
    /// # Errors
    /// When it cannot be started.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn restart(&mut self, directory: &Path) -> anyhow::Result<()> {
        self.process = Process::start(self.program, &self.name, &[], &self.environment, directory)?;
        self.ready().await;
        Ok(())
    }

    /// Where its metrics are: `host:port`.
    #[must_use]
    pub fn metrics(&self) -> &str {
        self.metrics.trim_start_matches("http://").trim_end_matches("/metrics")
    }

    /// Everything that it measures, as `/metrics` writes it.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn all_measured(&self) -> anyhow::Result<String> {
        Ok(http::trusting(self.authority.as_deref())
            .get(&self.metrics)
            .send()
            .await?
            .text()
            .await?)
    }

    /// The value of a metric, by its name and labels as `/metrics` writes them; `None`: it shows no such one.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn measured(&self, metric: &str) -> anyhow::Result<Option<f64>> {
        let text = self.all_measured().await?;
        let value = |line: &str| line.strip_prefix(metric)?.trim().parse().ok();
        Ok(text.lines().find_map(value))
    }

    pub(crate) async fn ready(&mut self) {
        let api = &self.api;
        ready(&mut self.process, async || api.is_ready().await).await;
    }
}

/// Waits until a process is.
pub(crate) async fn ready(process: &mut Process, is_ready: impl AsyncFn() -> bool) {
    eventually(READY, "a process is ready", async || {
        assert!(process.is_running(), "it ended: {}", process.last_words());
        is_ready().await
    })
    .await;
}
