//! How the external APIs behave when nothing is broken, and their rate limits.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::orange::PublicKey;
use crate::route::Api;

/// The table of `PUT /settings`; what is absent takes its default.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// Is an external id remembered? If not, every accepted registration registers again.
    pub(crate) idempotent: bool,
    /// How long a registration stays `wait`, at either API.
    pub(crate) done_after_ms: u64,
    /// Is a token needed?
    pub(crate) auth: bool,
    /// How long a token is good for.
    pub(crate) token_ttl_s: u64,
    /// Above it the answer is 429.
    pub(crate) limit: Option<Limit>,
    /// The second API's own.
    pub(crate) orange: Orange,
}

/// How the second API behaves.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Orange {
    /// `X-Signature` is checked with it; absent: not at all.
    pub(crate) signature_key: Option<PublicKey>,
    /// Is a client certificate needed?
    pub(crate) certificate: bool,
    /// Above it the queue is full.
    limit: Option<Limit>,
}

/// At most `rate` calls in any window of `per_s` seconds.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limit {
    rate: usize,
    per_s: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            idempotent: true,
            done_after_ms: 300,
            auth: false,
            token_ttl_s: 86_400,
            limit: None,
            orange: Orange::default(),
        }
    }
}

impl Settings {
    /// What is wrong with them, if anything.
    pub(crate) fn mistake(&self) -> Option<&'static str> {
        [self.limit, self.orange.limit]
            .into_iter()
            .flatten()
            .find_map(|limit| match limit {
                Limit { rate: 0, .. } => Some("limit.rate: at least 1"),
                Limit { per_s: 0, .. } => Some("limit.per_s: at least 1"),
                Limit { .. } => None,
            })
    }

    /// The limit of an API's calls.
    pub(crate) fn limit(&self, api: Api) -> Option<Limit> {
        match api {
            Api::Fiscal => self.limit,
            Api::Orange => self.orange.limit,
        }
    }

    /// How long a registration stays `wait`.
    pub(crate) fn done_after(&self) -> Duration {
        Duration::from_millis(self.done_after_ms)
    }
}

/// A sliding window of the calls that were let through.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    admitted: VecDeque<Instant>,
}

impl Limiter {
    /// Lets a call through, or says in how many whole seconds there is room again.
    pub(crate) fn admit(&mut self, limit: Option<Limit>, now: Instant) -> Result<(), u64> {
        let Some(Limit { rate, per_s }) = limit else {
            self.admitted.clear();
            return Ok(());
        };
        let window = Duration::from_secs(per_s);
        while self
            .admitted
            .front()
            .is_some_and(|at| now.saturating_duration_since(*at) >= window)
        {
            self.admitted.pop_front();
        }
        if self.admitted.len() < rate {
            self.admitted.push_back(now);
            return Ok(());
        }
        let oldest = self
            .admitted
            .front()
            .map_or(Duration::ZERO, |at| now.saturating_duration_since(*at));
        let left = window.saturating_sub(oldest);
        Err(left.as_secs() + u64::from(left.subsec_nanos() > 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_slides() {
        let (mut limiter, start) = (Limiter::default(), Instant::now());
        let limit = Some(Limit { rate: 2, per_s: 3 });
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(limiter.admit(limit, at(0)), Ok(()));
        assert_eq!(limiter.admit(limit, at(1000)), Ok(()));
        assert_eq!(limiter.admit(limit, at(1500)), Err(2));
        assert_eq!(limiter.admit(limit, at(3000)), Ok(()));
        assert_eq!(limiter.admit(limit, at(3999)), Err(1));
        assert_eq!(limiter.admit(None, at(3999)), Ok(()));
    }
}
