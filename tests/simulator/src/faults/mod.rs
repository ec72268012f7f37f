//! The table of faults: what goes wrong, at which target, for which share of the requests and for how long.

mod fault;
mod mode;

pub(crate) use fault::Fault;
pub(crate) use mode::Mode;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::ledger::CallId;
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

    /// The fault that strikes a request, if any. `id` decides about shares, the same way each time, but where each call is
    /// drawn anew.
    pub(crate) fn pick(&self, target: Target, id: &str, call: CallId, now: Instant) -> Option<Arc<Fault>> {
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
                (running && fault.mode.suits(name, target) && fault.strikes(target, id, call, *before))
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
        let struck = || {
            (0..4000).filter(|n| {
                faults
                    .pick(Target::Register, &format!("id-{n}"), CallId(0), now)
                    .is_some()
            })
        };
        let first: Vec<_> = struck().collect();
        assert!((900..1100).contains(&first.len()), "{}", first.len());
        assert_eq!(first, struck().collect::<Vec<_>>());
        assert!(
            faults
                .pick(Target::Tax, &format!("id-{}", first[0]), CallId(0), now)
                .is_none()
        );
    }

    #[test]
    fn drawn_anew_a_share_is_of_the_calls() {
        let faults = parse(&json!({"fiscal": {"mode": "refuse", "share": 0.25, "anew": true}})).unwrap();
        let struck = |n| {
            faults
                .pick(Target::Register, "always the same", CallId(n), Instant::now())
                .is_some()
        };
        let many = (0..4000).filter(|n| struck(*n)).count();
        assert!((900..1100).contains(&many), "{many}");
    }

    #[test]
    fn several_at_one_target_share_it_out() {
        let table = json!({"fiscal.register": [{"mode": "refuse", "share": 0.25}, {"mode": "hang", "share": 0.25}]});
        let (faults, now) = (parse(&table).unwrap(), Instant::now());
        let mode = |n: u32| {
            faults
                .pick(Target::Register, &format!("id-{n}"), CallId(0), now)
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
        let mode = |target, at| faults.pick(target, "", CallId(0), at).map(|fault| fault.mode);
        assert_eq!(mode(Target::Token, now), Some(Mode::Hang));
        assert_eq!(mode(Target::Lookup, now), Some(Mode::Error));
        assert_eq!(mode(Target::Lookup, now + Duration::from_secs(6)), None);
        assert_eq!(faults.table(now + Duration::from_secs(6)).len(), 1);
    }
}
