//! A real Prometheus, with the configuration of `deploy/monitoring`, looking at one stack.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::eventually::eventually;
use crate::http;
use crate::processes::{Process, free_port};
use crate::stack::Stack;

/// How long it may need to be ready.
const READY: Duration = Duration::from_secs(30);

/// A Prometheus; it ends when it is dropped.
#[derive(Debug)]
pub struct Prometheus {
    base: String,
    #[expect(dead_code, reason = "held: it ends with this")]
    process: Process,
}

/// `deploy/monitoring`.
#[must_use]
pub fn monitoring() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/monitoring")
}

/// Runs `promtool` in `deploy/monitoring`.
///
/// # Errors
/// When it has something against it: with its words.
pub fn promtool(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("promtool")
        .args(arguments)
        .current_dir(monitoring())
        .output()
        .context("promtool cannot be run; deploy/install tests installs it")?;
    let words = [output.stdout, output.stderr].concat();
    ensure!(
        output.status.success(),
        "promtool {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&words)
    );
    Ok(())
}

impl Prometheus {
    /// Starts it on a stack and the broker whose metrics are at `rabbitmq`: as it is deployed, but for addresses, and that it looks
    /// every second.
    ///
    /// # Errors
    /// When it cannot be started.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn start(stack: &Stack, rabbitmq: &str) -> anyhow::Result<Self> {
        let own = stack.directory().join("prometheus");
        std::fs::create_dir_all(&own)?;
        let mut text = std::fs::read_to_string(monitoring().join("prometheus.yml"))?;
        let addresses = [
            ("127.0.0.1:9080", stack.orchestrators[0].metrics()),
            ("127.0.0.1:9081", stack.dispatchers[0].metrics()),
            ("127.0.0.1:15703", rabbitmq),
            ("interval: 15s", "interval: 1s"),
        ];
        for (example, real) in addresses {
            ensure!(text.contains(example), "prometheus.yml has {example} no more");
            text = text.replace(example, real);
        }
        std::fs::write(own.join("prometheus.yml"), text)?;
        std::fs::copy(monitoring().join("rules.yml"), own.join("rules.yml"))?;
        let listen = format!("127.0.0.1:{}", free_port()?);
        let file = own.join("prometheus.yml");
        let options = [
            format!("--config.file={}", file.display()),
            format!("--storage.tsdb.path={}", own.join("data").display()),
            format!("--web.listen-address={listen}"),
        ];
        let options: Vec<&OsStr> = options.iter().map(OsStr::new).collect();
        let mut process = Process::start_program(Path::new("prometheus"), "prometheus", &options, &[], &own)?;
        let base = format!("http://{listen}");
        eventually(READY, "Prometheus is ready", async || {
            assert!(process.is_running(), "it ended: {}", process.last_words());
            let answer = http::client().get(format!("{base}/-/ready")).send().await;
            answer.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
        Ok(Self { base, process })
    }

    /// How many series a query finds now.
    ///
    /// # Errors
    /// When Prometheus does not understand it.
    pub async fn found(&self, query: &str) -> anyhow::Result<usize> {
        let mut url = reqwest::Url::parse(&format!("{}/api/v1/query", self.base))?;
        url.query_pairs_mut().append_pair("query", query);
        let answer: Value = serde_json::from_str(&http::client().get(url).send().await?.text().await?)?;
        ensure!(answer["status"] == "success", "{query}: {answer}");
        let found = answer["data"]["result"].as_array();
        found.map(Vec::len).with_context(|| format!("{query}: {answer}"))
    }

    /// The rules that are in force, as groups.
    ///
    /// # Errors
    /// When Prometheus does not answer.
    pub async fn rules(&self) -> anyhow::Result<Vec<Value>> {
        let text = http::client()
            .get(format!("{}/api/v1/rules", self.base))
            .send()
            .await?
            .text()
            .await?;
        let answer: Value = serde_json::from_str(&text)?;
        let groups = answer["data"]["groups"].as_array().context("groups")?;
        Ok(groups
            .iter()
            .filter_map(|group| group["rules"].as_array())
            .flatten()
            .cloned()
            .collect())
    }
}
