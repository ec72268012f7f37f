//! What is called: internal services, and destinations.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::read::Mistake;
use super::{Limits, Secret, Signature, Tls, TokenSource, duration, filter};

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

impl Service {
    pub(super) fn check(&self) -> Vec<Mistake> {
        let mut mistakes = url(&self.url);
        if self.concurrency == 0 {
            mistakes.push(("concurrency", "at least 1"));
        }
        mistakes
    }
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
    /// Calls in flight, of all dispatchers together. Default 64.
    #[serde(default = "calls")]
    pub concurrency: usize,
    /// The most calls of all dispatchers together, such as `["50/s", "180/h"]`. Absent: no limit.
    #[serde(default)]
    pub limits: Limits,
    /// A filter over `.receipt`: what the API counts its calls by, such as `.receipt.device`. Absent: nothing.
    #[serde(default, deserialize_with = "filter::optional")]
    pub limit_key: Option<String>,
    /// The most calls of one such key, such as `1/s`. Absent: keys only take turns.
    #[serde(default)]
    pub key_limits: Limits,
    /// How long it takes from opening to full speed. Default 30 s.
    #[serde(deserialize_with = "duration", default = "half_a_minute")]
    pub slow_start: Duration,
    /// How long before it passes a deadline is at risk. Default 15 m.
    #[serde(deserialize_with = "duration", default = "quarter_of_an_hour")]
    pub at_risk: Duration,
    /// How long after it closed the first canary is sent; the pause doubles with each that fails. Default 1 s.
    #[serde(deserialize_with = "duration", default = "second")]
    pub probe: Duration,
    /// The longest pause between canaries. Default 30 s.
    #[serde(deserialize_with = "duration", default = "half_a_minute")]
    pub probe_max: Duration,
    /// Receipts in the broker at once. Default 10,000.
    #[serde(default = "horizon")]
    pub max_queued: i64,
    /// A message is taken for lost when the queue has been empty, or is past it, for this long.
    /// Default: the longest of a minute, four timeouts and three intervals of the limits.
    #[serde(default, deserialize_with = "duration::optional")]
    pub lost_after: Option<Duration>,
    /// Added to every request; treated as secrets.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// Absent: bodies are not signed.
    pub signature: Option<Signature>,
    /// Absent: no certificate of ours is shown, and the system says who is trusted.
    pub tls: Option<Tls>,
    /// `[destination.<name>.token]`: read as a section of its own. Absent: no token is fetched.
    #[serde(skip)]
    pub token: Option<TokenSource>,
}

impl Destination {
    /// Files are relative to the configuration's.
    pub(super) fn resolve(&mut self, base: &Path) {
        if let Some(signature) = &mut self.signature {
            signature.resolve(base);
        }
        if let Some(tls) = &mut self.tls {
            tls.resolve(base);
        }
    }

    pub(super) fn check(&self) -> Vec<Mistake> {
        let mut mistakes = url(&self.url);
        if self.concurrency == 0 {
            mistakes.push(("concurrency", "at least 1"));
        }
        if self.max_queued <= 0 {
            mistakes.push(("max_queued", "at least 1"));
        }
        if self.limit_key.is_none() && !self.key_limits.0.is_empty() {
            mistakes.push(("key_limits", "limit_key has to say of which keys"));
        }
        mistakes
    }

    /// The most receipts that one message hands off: what may be sent within a tenth of a second, and no more than an
    /// eighth of what a dispatcher may have in flight, so that several share a backlog evenly.
    #[must_use]
    pub fn message(&self) -> usize {
        let admitted = self.limits.admit(TENTH).unwrap_or(usize::MAX);
        admitted.min(self.concurrency / 8).clamp(1, MOST)
    }

    /// When a queued receipt's message is taken for lost: longer than a delivery is ever held by a dispatcher.
    #[must_use]
    pub fn lost_after(&self) -> Duration {
        self.lost_after.unwrap_or_else(|| {
            Duration::from_mins(1)
                .max(self.timeout * 4)
                .max(self.limits.interval() * 3)
        })
    }
}

const TENTH: Duration = Duration::from_millis(100);
/// The most receipts of any message: the broker's share is small by then.
const MOST: usize = 32;

fn url(text: &str) -> Vec<Mistake> {
    match reqwest::Url::parse(text) {
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            vec![("url", "a name and a password belong in headers")]
        }
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Vec::new(),
        _ => vec![("url", "an http or https URL is needed")],
    }
}

fn calls() -> usize {
    64
}
fn horizon() -> i64 {
    10_000
}
fn second() -> Duration {
    Duration::from_secs(1)
}
fn half_a_minute() -> Duration {
    Duration::from_secs(30)
}
pub(crate) fn quarter_of_an_hour() -> Duration {
    Duration::from_mins(15)
}
fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}
