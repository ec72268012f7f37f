//! What is called: internal services, and destinations.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::read::Mistake;
use super::{Rate, Secret, duration};

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
    /// Calls in flight in one dispatcher. Default 64.
    #[serde(default = "calls")]
    pub concurrency: usize,
    /// The most calls of one dispatcher, such as `50/s`. Absent: no limit.
    pub rate: Option<Rate>,
    /// Receipts in the broker at once. Default 10,000.
    #[serde(default = "horizon")]
    pub max_queued: i64,
    /// A message is taken for lost when the queue has been empty, or is past it, for this long.
    /// Default: the longest of a minute, four timeouts and three intervals of the rate.
    #[serde(default, deserialize_with = "duration::optional")]
    pub lost_after: Option<Duration>,
    /// Added to every request; treated as secrets.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
}

impl Destination {
    pub(super) fn check(&self) -> Vec<Mistake> {
        let mut mistakes = url(&self.url);
        if self.concurrency == 0 {
            mistakes.push(("concurrency", "at least 1"));
        }
        if self.max_queued <= 0 {
            mistakes.push(("max_queued", "at least 1"));
        }
        mistakes
    }

    /// The most receipts that one message hands off: what may be sent within a tenth of a second, and no more than an
    /// eighth of what a dispatcher may have in flight, so that several share a backlog evenly.
    #[must_use]
    pub fn message(&self) -> usize {
        let admitted = self.rate.map_or(u128::MAX, |rate| {
            u128::from(rate.calls) * TENTH.as_millis() / rate.per.as_millis().max(1)
        });
        usize::try_from(admitted)
            .unwrap_or(usize::MAX)
            .min(self.concurrency / 8)
            .clamp(1, MOST)
    }

    /// When a queued receipt's message is taken for lost: longer than a delivery is ever held by a dispatcher.
    #[must_use]
    pub fn lost_after(&self) -> Duration {
        let interval = self.rate.map_or(Duration::ZERO, |rate| rate.per / rate.calls);
        self.lost_after
            .unwrap_or_else(|| Duration::from_mins(1).max(self.timeout * 4).max(interval * 3))
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
fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}
