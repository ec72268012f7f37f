//! The configuration: one TOML file for both processes, overridden by `CHEKHOV__…` environment variables
//! (`CHEKHOV__DATABASE__URL` is `database.url`).
//!
//! Every key is described where it stands; a key that nobody reads is a mistake. Secrets never show in `Debug`.

mod duration;
mod rate;
mod secret;

pub use duration::duration;
pub use rate::Rate;
pub use secret::Secret;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The whole configuration.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// The pipeline's file, relative to the configuration's.
    pub pipeline: PathBuf,
    /// `[database]`
    pub database: Database,
    /// `[rabbitmq]`
    pub rabbitmq: RabbitMq,
    /// `[intake]`
    pub intake: Intake,
    /// `[orchestrator]`
    pub orchestrator: Orchestrator,
    /// `[dispatcher]`
    pub dispatcher: Dispatcher,
    /// `[telemetry]`
    pub telemetry: Telemetry,
    /// `[heartbeat]`
    pub heartbeat: Heartbeat,
    /// `[service.<name>]`: internal services.
    pub service: BTreeMap<String, Service>,
    /// `[destination.<name>]`: external APIs.
    pub destination: BTreeMap<String, Destination>,
}

/// `[database]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// PostgreSQL URL.
    pub url: Secret,
    /// Connections a process may hold. Default 10.
    #[serde(default = "ten")]
    pub connections: u32,
}

/// `[rabbitmq]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RabbitMq {
    /// AMQP URL.
    pub url: Secret,
    /// Queues are named `<prefix>.<destination>`. Default `chekhov`.
    #[serde(default = "prefix")]
    pub prefix: String,
}

/// `[intake]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intake {
    /// Where receipts are posted. Default `127.0.0.1:8080`.
    #[serde(default = "intake_address")]
    pub listen: SocketAddr,
    /// `[[intake.tokens]]`
    #[serde(default)]
    pub tokens: Vec<Token>,
    /// Receipts waiting for an orchestrator before posts are refused with 503. Default 50,000.
    #[serde(default = "backlog")]
    pub backlog: i64,
    /// Whether a receipt's trace continues the caller's. Default true.
    #[serde(default = "yes")]
    pub continue_trace: bool,
}

/// `[[intake.tokens]]`: who may call.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Shown in logs.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// SHA-256 of the token, in hexadecimal.
    pub sha256: String,
    /// The only merchants it may post for and see. Absent: all.
    pub merchants: Option<Vec<String>>,
}

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Posts receipts and reads them.
    Intake,
    /// Reads.
    Viewer,
    /// May do everything.
    Operator,
}

/// `[orchestrator]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Orchestrator {
    /// Where metrics are read. Default `127.0.0.1:9080`.
    #[serde(default = "orchestrator_metrics")]
    pub metrics: SocketAddr,
    /// Receipts in internal stages at once. Default 256.
    #[serde(default = "in_flight")]
    pub in_flight: usize,
}

/// `[dispatcher]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dispatcher {
    /// Where health and metrics are read. Default `127.0.0.1:9081`.
    #[serde(default = "dispatcher_listen")]
    pub listen: SocketAddr,
    /// Adds `Chekhov-Sent-At` (Unix milliseconds) to every call. Default false.
    #[serde(default)]
    pub sent_at: bool,
}

/// `[telemetry]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    /// `json` or `human`. Default `json`.
    #[serde(default)]
    pub format: LogFormat,
    /// OTLP over HTTP, such as `http://127.0.0.1:4318`. Absent: no traces are exported.
    pub endpoint: Option<String>,
    /// The filter of logs, as `tracing_subscriber::EnvFilter` reads it. Default `info`.
    pub filter: Option<String>,
}

/// How logs are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For a person.
    Human,
}

/// `[heartbeat]`
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {
    /// Default 2 s.
    #[serde(deserialize_with = "duration", default = "two_seconds")]
    pub every: Duration,
    /// An instance whose counter stood still this long is dead. Default 10 s.
    #[serde(deserialize_with = "duration", default = "ten_seconds")]
    pub dead_after: Duration,
}

/// `[service.<name>]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// What paths are appended to.
    pub url: String,
    /// Of one request. Default 10 s.
    #[serde(deserialize_with = "duration", default = "ten_seconds")]
    pub timeout: Duration,
    /// Requests at once. Default 64.
    #[serde(default = "calls")]
    pub concurrency: usize,
    /// Added to every request; treated as secrets.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
}

/// `[destination.<name>]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Destination {
    /// What paths are appended to.
    pub url: String,
    /// Of one request. Default 10 s.
    #[serde(deserialize_with = "duration", default = "ten_seconds")]
    pub timeout: Duration,
    /// Calls in flight in one dispatcher. Default 64.
    #[serde(default = "calls")]
    pub concurrency: usize,
    /// The most calls of one dispatcher, such as `50/s`. Absent: no limit.
    pub rate: Option<Rate>,
    /// Receipts in the broker at once. Default 10,000.
    #[serde(default = "horizon")]
    pub max_queued: i64,
    /// A message older than this, while the broker has fewer than are queued, is taken for lost.
    /// Default: twice the time that the limit needs for `max_queued`.
    #[serde(default, deserialize_with = "duration::optional")]
    pub lost_after: Option<Duration>,
    /// Added to every request; treated as secrets.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
}

impl Destination {
    /// When a queued receipt's message is taken for lost.
    #[must_use]
    pub fn lost_after(&self) -> Duration {
        self.lost_after.unwrap_or_else(|| {
            let each = self.rate.map_or_else(
                || self.timeout / u32::try_from(self.concurrency.max(1)).unwrap_or(u32::MAX),
                |rate| rate.per / rate.calls,
            );
            (each * u32::try_from(self.max_queued).unwrap_or(u32::MAX) * 2).max(Duration::from_secs(5))
        })
    }
}

/// Why a configuration cannot be used: every mistake, with its key.
#[derive(Debug, thiserror::Error)]
#[error("the configuration cannot be used:\n{}", .0.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n"))]
pub struct Invalid(pub Vec<String>);

impl Configuration {
    /// Reads the file and the environment.
    ///
    /// # Errors
    /// Every mistake that can be found, each with its key.
    pub fn load(path: &Path) -> Result<Self, Invalid> {
        let text =
            std::fs::read_to_string(path).map_err(|error| Invalid(vec![format!("{}: {error}", path.display())]))?;
        let source = config::Config::builder()
            .add_source(config::File::from_str(&text, config::FileFormat::Toml))
            .add_source(
                config::Environment::with_prefix("CHEKHOV")
                    .prefix_separator("__")
                    .separator("__")
                    .try_parsing(true),
            )
            .build()
            .map_err(|error| Invalid(vec![error.to_string()]))?;
        let base = path.parent().unwrap_or_else(|| Path::new("."));
        Self::read(&source, base)
    }

    fn read(source: &config::Config, base: &Path) -> Result<Self, Invalid> {
        let mut mistakes = unknown_sections(source);
        let pipeline = source
            .get_string("pipeline")
            .map_err(|error| mistakes.push(format!("pipeline: {error}")))
            .ok();
        let database = section::<Database>(source, "database", &mut mistakes);
        let rabbitmq = section::<RabbitMq>(source, "rabbitmq", &mut mistakes);
        let intake = section::<Intake>(source, "intake", &mut mistakes);
        let orchestrator = section::<Orchestrator>(source, "orchestrator", &mut mistakes);
        let dispatcher = section::<Dispatcher>(source, "dispatcher", &mut mistakes);
        let telemetry = section::<Telemetry>(source, "telemetry", &mut mistakes);
        let heartbeat = section::<Heartbeat>(source, "heartbeat", &mut mistakes);
        let service = sections::<Service>(source, "service", &mut mistakes);
        let destination = sections::<Destination>(source, "destination", &mut mistakes);
        if let (
            Some(pipeline),
            Some(database),
            Some(rabbitmq),
            Some(intake),
            Some(orchestrator),
            Some(dispatcher),
            Some(telemetry),
            Some(heartbeat),
        ) = (
            pipeline,
            database,
            rabbitmq,
            intake,
            orchestrator,
            dispatcher,
            telemetry,
            heartbeat,
        ) {
            let configuration = Self {
                pipeline: base.join(pipeline),
                database,
                rabbitmq,
                intake,
                orchestrator,
                dispatcher,
                telemetry,
                heartbeat,
                service,
                destination,
            };
            configuration.examine(&mut mistakes);
            if mistakes.is_empty() {
                return Ok(configuration);
            }
        }
        Err(Invalid(mistakes))
    }

    fn examine(&self, mistakes: &mut Vec<String>) {
        for (n, token) in self.intake.tokens.iter().enumerate() {
            if token.sha256.len() != 64 || hex::decode(&token.sha256).is_err() {
                mistakes.push(format!("intake.tokens[{n}].sha256: 64 hexadecimal digits are needed"));
            }
        }
        let urls = self
            .service
            .iter()
            .map(|(name, service)| ("service", name, &service.url));
        for (kind, name, url) in urls.chain(
            self.destination
                .iter()
                .map(|(name, api)| ("destination", name, &api.url)),
        ) {
            if !reqwest::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host()) {
                mistakes.push(format!("{kind}.{name}.url: an http or https URL is needed"));
            }
        }
        for (name, destination) in &self.destination {
            if destination.concurrency == 0 || destination.max_queued <= 0 {
                mistakes.push(format!("destination.{name}: concurrency and max_queued are at least 1"));
            }
        }
        if self.heartbeat.dead_after < self.heartbeat.every * 3 {
            mistakes.push("heartbeat.dead_after: at least three times heartbeat.every".to_owned());
        }
    }
}

const SECTIONS: [&str; 10] = [
    "pipeline",
    "database",
    "rabbitmq",
    "intake",
    "orchestrator",
    "dispatcher",
    "telemetry",
    "heartbeat",
    "service",
    "destination",
];

fn unknown_sections(source: &config::Config) -> Vec<String> {
    let keys = source.cache.clone().into_table().unwrap_or_default();
    let mut unknown: Vec<String> = keys
        .into_keys()
        // CHEKHOV_CONFIG and its like have one underscore: they are no keys.
        .filter(|key| !SECTIONS.contains(&key.as_str()))
        .map(|key| format!("{key}: no such section"))
        .collect();
    unknown.sort();
    unknown
}

fn section<T: DeserializeOwned>(source: &config::Config, key: &str, mistakes: &mut Vec<String>) -> Option<T> {
    let value = source.get_table(key).unwrap_or_default();
    config::Value::new(None, value)
        .try_deserialize::<T>()
        .map_err(|error| mistakes.push(format!("{key}: {error}")))
        .ok()
}

fn sections<T: DeserializeOwned>(
    source: &config::Config,
    kind: &str,
    mistakes: &mut Vec<String>,
) -> BTreeMap<String, T> {
    let mut found = BTreeMap::new();
    for (name, value) in source.get_table(kind).unwrap_or_default() {
        match value.try_deserialize::<T>() {
            Ok(section) => {
                found.insert(name, section);
            }
            Err(error) => mistakes.push(format!("{kind}.{name}: {error}")),
        }
    }
    found
}

fn ten() -> u32 {
    10
}
fn prefix() -> String {
    "chekhov".to_owned()
}
fn intake_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8080))
}
fn orchestrator_metrics() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9080))
}
fn dispatcher_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9081))
}
fn backlog() -> i64 {
    50_000
}
fn yes() -> bool {
    true
}
fn in_flight() -> usize {
    256
}
fn calls() -> usize {
    64
}
fn horizon() -> i64 {
    10_000
}
fn two_seconds() -> Duration {
    Duration::from_secs(2)
}
fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Configuration, Invalid> {
        let source = config::Config::builder()
            .add_source(config::File::from_str(text, config::FileFormat::Toml))
            .build()
            .unwrap();
        Configuration::read(&source, Path::new("/etc/chekhov"))
    }

    const LEAST: &str = r#"
        pipeline = "receipts.toml"
        [database]
        url = "postgres://somebody:hidden@localhost/chekhov"
        [rabbitmq]
        url = "amqp://localhost"
        [destination.fiscal]
        url = "http://localhost:8090/fiscal"
        rate = "50/s"
    "#;

    #[test]
    fn defaults_are_the_contracts() {
        let configuration = load(LEAST).unwrap();
        assert_eq!(configuration.heartbeat.every, Duration::from_secs(2));
        assert_eq!(configuration.destination["fiscal"].max_queued, 10_000);
        assert_eq!(
            configuration.destination["fiscal"].lost_after(),
            Duration::from_secs(400)
        );
        assert_eq!(configuration.pipeline, Path::new("/etc/chekhov/receipts.toml"));
    }

    #[test]
    fn every_mistake_is_named_with_its_key() {
        let text =
            LEAST.replace("50/s", "fast").replace("pipeline =", "pipelin =") + "[heartbeat]\nevery = \"2 parsecs\"\n";
        let text = load(&text).unwrap_err().to_string();
        for key in ["pipelin:", "pipeline:", "destination.fiscal", "heartbeat"] {
            assert!(text.contains(key), "{key} in {text}");
        }
    }

    #[test]
    fn secrets_do_not_show() {
        assert!(!format!("{:?}", load(LEAST).unwrap()).contains("hidden"));
    }
}
