//! The sections that every configuration has once.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;

use super::read::Mistake;
use super::{BrokerTls, ListenerTls, Secret, SecretKey, duration};

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

impl Database {
    pub(super) fn check(&self) -> Vec<Mistake> {
        if self.connections == 0 {
            vec![("connections", "at least 1")]
        } else {
            Vec::new()
        }
    }
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
    /// `[rabbitmq.tls]`
    pub tls: Option<BrokerTls>,
}

impl RabbitMq {
    pub(super) fn check(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        if let Some(tls) = &self.tls {
            if !self.url.expose().starts_with("amqps://") {
                mistakes.push(("tls", "needs a URL that begins with amqps://"));
            }
            if tls.certificate_file.is_some() != tls.key_file.is_some() {
                mistakes.push(("tls", "certificate_file and key_file go together"));
            }
        }
        mistakes
    }
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
    /// `[intake.tls]`
    pub tls: Option<ListenerTls>,
}

impl Intake {
    pub(super) fn check(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        let is_hash = |token: &Token| token.sha256.len() == 64 && hex::decode(&token.sha256).is_ok();
        if !self.tokens.iter().all(is_hash) {
            mistakes.push(("tokens", "each sha256 has 64 hexadecimal digits"));
        }
        if self.backlog <= 0 {
            mistakes.push(("backlog", "at least 1"));
        }
        mistakes
    }
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
    /// `[orchestrator.tls]`: of its metrics.
    pub tls: Option<ListenerTls>,
}

impl Orchestrator {
    pub(super) fn check(&self) -> Vec<Mistake> {
        if self.in_flight == 0 {
            vec![("in_flight", "at least 1")]
        } else {
            Vec::new()
        }
    }
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
    /// `[dispatcher.tls]`
    pub tls: Option<ListenerTls>,
}

/// `[telemetry]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    /// `json` or `human`. Default `json`.
    #[serde(default)]
    pub format: LogFormat,
    /// OTLP over HTTP, such as `http://127.0.0.1:4318`. Absent: no traces are exported.
    pub endpoint: Option<String>,
    /// Where a receipt's trace is looked at, `{trace_id}` in it: `http://127.0.0.1:16686/trace/{trace_id}`. Absent: no links.
    pub trace_url: Option<String>,
    /// The share of traces that begin here and are exported, from 0 to 1; whose trace is continued decides for its receipt. Default
    /// 1.
    #[serde(default = "whole")]
    pub sampling: f64,
    /// The filter of logs, as `tracing_subscriber::EnvFilter` reads it. Default `info`.
    pub filter: Option<String>,
}

impl Telemetry {
    pub(super) fn check(&self) -> Vec<Mistake> {
        let is_template =
            |url: &String| (url.starts_with("http://") || url.starts_with("https://")) && url.contains("{trace_id}");
        let mut mistakes = Vec::new();
        if !self.trace_url.as_ref().is_none_or(is_template) {
            mistakes.push(("trace_url", "a URL such as \"http://127.0.0.1:16686/trace/{trace_id}\""));
        }
        if !(0.0..=1.0).contains(&self.sampling) {
            mistakes.push(("sampling", "from 0 to 1"));
        }
        mistakes
    }

    /// The share of the traces that begin here and are exported: none without an endpoint.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        if self.endpoint.is_some() { self.sampling } else { 0.0 }
    }
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

impl Heartbeat {
    pub(super) fn check(&self) -> Vec<Mistake> {
        if self.dead_after < self.every * 3 {
            vec![("dead_after", "at least three times heartbeat.every")]
        } else {
            Vec::new()
        }
    }
}

/// `[secrets]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secrets {
    /// What tokens are sealed with in the database; needed where a destination has one.
    pub key: Option<SecretKey>,
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
fn whole() -> f64 {
    1.0
}
fn yes() -> bool {
    true
}
fn in_flight() -> usize {
    256
}
fn two_seconds() -> Duration {
    Duration::from_secs(2)
}
fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}
