//! One fault: what it is, whom it strikes, and what it answers.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Mode;
use crate::answer::Answer;
use crate::ledger::CallId;
use crate::orange;
use crate::route::{Api, Target};

/// One entry of the table.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    pub(crate) mode: Mode,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<RetryAfter>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_type: Option<String>,
    #[serde(default = "whole")]
    pub(super) share: f64,
    /// Is each call drawn anew? If not, a key that is struck is struck again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    anew: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) for_s: Option<f64>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(untagged)]
enum RetryAfter {
    Seconds(u64),
    Text(String),
}

impl Fault {
    /// How long the fault delays.
    pub(crate) fn latency(&self) -> Duration {
        Duration::from_millis(self.latency_ms.unwrap_or_default())
    }

    /// The `type` of the error in a failed report.
    pub(crate) fn error_type(&self) -> &str {
        self.error_type.as_deref().unwrap_or("system")
    }

    /// The answer of mode `error`.
    pub(crate) fn answer(&self, target: Target) -> Answer {
        let status = self.status.and_then(|status| StatusCode::from_u16(status).ok());
        let status = status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        let answer = match &self.body {
            Some(Value::String(text)) => Answer::raw(status, "text/plain", text.clone()),
            Some(body) => Answer::json(status, body),
            None => match target.api() {
                Some(Api::Fiscal) => Answer::error(status, 50, "system", "simulated fault"),
                Some(Api::Orange) => orange::errors(status, "simulated fault"),
                None => Answer::json(status, &json!({"error": "simulated fault"})),
            },
        };
        answer.retry_after(self.retry_after.as_ref().and_then(RetryAfter::header))
    }

    /// Whether a request is among its share, which begins behind those `before`. `id` decides, the same way each time, and with
    /// `anew` which call it is.
    pub(super) fn strikes(&self, target: Target, id: &str, call: CallId, before: f64) -> bool {
        if self.share >= 1.0 {
            return true;
        }
        let mut hash = Sha256::new()
            .chain_update(target.name())
            .chain_update([0])
            .chain_update(id);
        if self.anew {
            hash.update(call.0.to_be_bytes());
        }
        let hash = hash.finalize();
        let draw = u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]);
        (before..before + self.share).contains(&(f64::from(draw) / (f64::from(u32::MAX) + 1.0)))
    }

    /// What is wrong with an entry for the target `name`: a sentence.
    pub(super) fn check(&self, name: &str) -> Result<(), String> {
        let targets = || Target::ALL.into_iter().filter(|target| *target != Target::Other);
        let aimed_at = |target: &Target| target.name() == name || target.api().is_some_and(|api| api.name() == name);
        if !targets().any(|target| aimed_at(&target)) {
            let known: Vec<_> = Api::ALL
                .into_iter()
                .map(Api::name)
                .chain(targets().map(Target::name))
                .collect();
            return Err(format!("no such target; there are {}", known.join(", ")));
        }
        let fits = targets().filter(aimed_at).any(|target| self.mode.suits(name, target));
        let delays = matches!(self.mode, Mode::Slow | Mode::CommitLate | Mode::Lag);
        let mistake = if !fits {
            "this mode has no meaning for this target: stuck and fail are for reports, expire for a status, lag for what is looked up"
        } else if delays && self.latency_ms.is_none() {
            "this mode needs latency_ms"
        } else if self.status.is_some_and(|status| !(200..=599).contains(&status)) {
            "status: 200 to 599"
        } else if !(0.0..=1.0).contains(&self.share) {
            "share: 0 to 1"
        } else if self.for_s.is_some_and(|seconds| !(seconds > 0.0 && seconds < 1e9)) {
            "for_s: more than 0"
        } else if self.retry_after.as_ref().is_some_and(|value| value.header().is_none()) {
            "retry_after: not a header's value"
        } else {
            return Ok(());
        };
        Err(mistake.to_owned())
    }
}

impl RetryAfter {
    fn header(&self) -> Option<HeaderValue> {
        match self {
            Self::Seconds(seconds) => Some(HeaderValue::from(*seconds)),
            Self::Text(text) => HeaderValue::from_str(text).ok(),
        }
    }
}

fn whole() -> f64 {
    1.0
}
