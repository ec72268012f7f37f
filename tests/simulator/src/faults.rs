//! The table of faults: what goes wrong, at which target, for which share of the requests and for how long.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::answer::Answer;
use crate::orange;
use crate::route::{Api, Target};

/// Faults by the name of their target; `fiscal` and `orange` stand for a whole API behind the faults of its parts. Several at one
/// target share its requests out among them.
#[derive(Debug, Default)]
pub(crate) struct Faults(BTreeMap<String, Vec<Struck>>);

/// A fault, the shares before it at its target, and when it ends.
#[derive(Clone, Debug)]
struct Struck {
    fault: Arc<Fault>,
    before: f64,
    until: Option<Instant>,
}

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
    share: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    for_s: Option<f64>,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// Waits `latency_ms`, then does the work and answers.
    Slow,
    /// Answers `status` and `body` without doing the work.
    Error,
    /// Closes the connection without reading the body.
    Refuse,
    /// Never answers; nothing is done.
    Hang,
    /// Does the work, then closes the connection.
    CommitThenDrop,
    /// Reads the request, does nothing, closes the connection.
    DropBeforeCommit,
    /// Does the work `latency_ms` later, whether or not the client still waits, and answers then.
    CommitLate,
    /// Reports stay `wait`.
    Stuck,
    /// What was registered is found only `latency_ms` later.
    Lag,
    /// Does the work and answers 200 with what is not JSON.
    Garbage,
    /// A report that would say `done` says `fail` with `error_type`, for good: it was not registered after all.
    Fail,
    /// A status that would be 200 is 524, for good: it was not registered after all.
    Expire,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(untagged)]
enum RetryAfter {
    Seconds(u64),
    Text(String),
}

impl Faults {
    /// Reads a whole table. The error is the status and the sentence to answer.
    pub(crate) fn parse(body: &[u8], now: Instant) -> Result<Self, (StatusCode, String)> {
        let table: BTreeMap<String, Value> = serde_json::from_slice(body).map_err(|error| {
            (
                StatusCode::BAD_REQUEST,
                format!("a table of faults by target is wanted: {error}"),
            )
        })?;
        let mut faults = BTreeMap::new();
        for (name, entry) in table {
            let unusable = |detail: String| (StatusCode::UNPROCESSABLE_ENTITY, format!("{name}: {detail}"));
            let entries = match entry {
                Value::Array(entries) => entries,
                entry => vec![entry],
            };
            let mut struck: Vec<Struck> = Vec::with_capacity(entries.len());
            let mut before = 0.0;
            for entry in entries {
                let fault = Fault::deserialize(entry).map_err(|error| unusable(error.to_string()))?;
                fault.check(&name).map_err(unusable)?;
                let until = fault
                    .for_s
                    .and_then(|seconds| now.checked_add(Duration::from_secs_f64(seconds)));
                let share = fault.share;
                struck.push(Struck {
                    fault: Arc::new(fault),
                    before,
                    until,
                });
                before += share;
            }
            if before > 1.0 {
                return Err(unusable("the shares of one target: 1 at most together".to_owned()));
            }
            faults.insert(name, struck);
        }
        Ok(Self(faults))
    }

    /// The fault that strikes a request, if any. `id` decides about shares, the same way each time.
    pub(crate) fn pick(&self, target: Target, id: &str, now: Instant) -> Option<Arc<Fault>> {
        if self.0.is_empty() {
            return None;
        }
        let whole_api = target.api().map(Api::name);
        let names = std::iter::once(target.name()).chain(whole_api);
        names
            .filter_map(|name| self.0.get_key_value(name))
            .flat_map(|(name, all)| all.iter().map(move |struck| (name, struck)))
            .find_map(|(name, Struck { fault, before, until })| {
                let running = until.is_none_or(|until| now < until);
                (running && fault.mode.suits(name, target) && fault.strikes(target, id, *before))
                    .then(|| Arc::clone(fault))
            })
    }

    /// The table as it was set, without what has run out; a target with one fault stands for it.
    pub(crate) fn table(&self, now: Instant) -> BTreeMap<&str, Value> {
        let running = |struck: &&Struck| struck.until.is_none_or(|until| now < until);
        let shown = |all: &Vec<Struck>| {
            let mut shown: Vec<Value> = all.iter().filter(running).map(|struck| json!(*struck.fault)).collect();
            if shown.len() > 1 {
                Some(Value::Array(shown))
            } else {
                shown.pop()
            }
        };
        self.0
            .iter()
            .filter_map(|(name, all)| Some((name.as_str(), shown(all)?)))
            .collect()
    }
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

    fn strikes(&self, target: Target, id: &str, before: f64) -> bool {
        if self.share >= 1.0 {
            return true;
        }
        let hash = Sha256::new()
            .chain_update(target.name())
            .chain_update([0])
            .chain_update(id)
            .finalize();
        let draw = u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]);
        (before..before + self.share).contains(&(f64::from(draw) / (f64::from(u32::MAX) + 1.0)))
    }

    fn check(&self, name: &str) -> Result<(), String> {
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

impl Mode {
    /// The name in the table and in the ledger.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Slow => "slow",
            Self::Error => "error",
            Self::Refuse => "refuse",
            Self::Hang => "hang",
            Self::CommitThenDrop => "commit_then_drop",
            Self::DropBeforeCommit => "drop_before_commit",
            Self::CommitLate => "commit_late",
            Self::Stuck => "stuck",
            Self::Lag => "lag",
            Self::Garbage => "garbage",
            Self::Fail => "fail",
            Self::Expire => "expire",
        }
    }

    /// Can it strike this target under this name of the table?
    fn suits(self, name: &str, target: Target) -> bool {
        match self {
            Self::Stuck => matches!(target, Target::Report | Target::OrangeStatus),
            Self::Fail => target == Target::Report,
            Self::Expire => target == Target::OrangeStatus,
            Self::Lag if name == "fiscal" => target == Target::Lookup,
            Self::Lag => matches!(
                target,
                Target::Lookup | Target::Report | Target::Document | Target::OrangeStatus
            ),
            _ => true,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(table: &Value) -> Result<Faults, (StatusCode, String)> {
        Faults::parse(table.to_string().as_bytes(), Instant::now())
    }

    #[test]
    fn mistakes_are_named() {
        for (table, wanted) in [
            (
                json!({"fiscal.sell": {"mode": "error"}}),
                "fiscal.sell: no such target; there are fiscal, orange, validation",
            ),
            (json!({"tax": {"mode": "explode"}}), "tax: unknown variant `explode`"),
            (
                json!({"tax": {"mode": "error", "statsu": 500}}),
                "tax: unknown field `statsu`",
            ),
            (json!({"tax": {"mode": "slow"}}), "tax: this mode needs latency_ms"),
            (json!({"tax": {"mode": "stuck"}}), "tax: this mode has no meaning"),
            (json!({"tax": {"mode": "error", "status": 99}}), "tax: status"),
            (json!({"tax": {"mode": "error", "share": 2}}), "tax: share"),
            (json!({"tax": {"mode": "error", "for_s": 0}}), "tax: for_s"),
            (
                json!({"tax": {"mode": "error", "retry_after": "a\nb"}}),
                "tax: retry_after",
            ),
        ] {
            let (status, text) = parse(&table).expect_err("refused");
            assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
            assert!(text.starts_with(wanted), "{text}");
        }
        assert_eq!(parse(&json!([])).expect_err("refused").0, StatusCode::BAD_REQUEST);
    }

    #[test]
    fn a_share_is_chosen_by_the_id_and_stays_chosen() {
        let faults = parse(&json!({"fiscal": {"mode": "refuse", "share": 0.25}})).unwrap();
        let now = Instant::now();
        let struck = || (0..4000).filter(|n| faults.pick(Target::Register, &format!("id-{n}"), now).is_some());
        let first: Vec<_> = struck().collect();
        assert!((900..1100).contains(&first.len()), "{}", first.len());
        assert_eq!(first, struck().collect::<Vec<_>>());
        assert!(faults.pick(Target::Tax, &format!("id-{}", first[0]), now).is_none());
    }

    #[test]
    fn several_at_one_target_share_it_out() {
        let table = json!({"fiscal.register": [{"mode": "refuse", "share": 0.25}, {"mode": "hang", "share": 0.25}]});
        let (faults, now) = (parse(&table).unwrap(), Instant::now());
        let mode = |n: u32| {
            faults
                .pick(Target::Register, &format!("id-{n}"), now)
                .map(|fault| fault.mode)
        };
        for wanted in [Mode::Refuse, Mode::Hang] {
            let struck = (0..4000).filter(|n| mode(*n) == Some(wanted)).count();
            assert!((900..1100).contains(&struck), "{wanted:?}: {struck}");
        }
        assert_eq!(json!(faults.table(now)), table);
        let (_, text) = parse(&json!({"tax": [{"mode": "hang"}, {"mode": "refuse"}]})).expect_err("refused");
        assert!(text.starts_with("tax: the shares"), "{text}");
    }

    #[test]
    fn parts_go_before_the_whole_and_faults_run_out() {
        let now = Instant::now();
        let faults =
            parse(&json!({"fiscal": {"mode": "error", "for_s": 5}, "fiscal.token": {"mode": "hang"}})).unwrap();
        let mode = |target, at| faults.pick(target, "", at).map(|fault| fault.mode);
        assert_eq!(mode(Target::Token, now), Some(Mode::Hang));
        assert_eq!(mode(Target::Lookup, now), Some(Mode::Error));
        assert_eq!(mode(Target::Lookup, now + Duration::from_secs(6)), None);
        assert_eq!(faults.table(now + Duration::from_secs(6)).len(), 1);
    }
}
