//! What a job is asked to do: which action, upon which receipts, how fast, and why. Every fault is named with its place.

use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use shared::store::search::{self, Filter};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::intake::Problem;
use crate::intake::problem::Fault;
use crate::intake::why::{fault, faultless, reason_fault};
use crate::steering::Action;

/// Receipts a second, as long as nobody says how many, and at most.
const RATE: i32 = 100;
const FASTEST: i32 = 5000;

/// An action upon many receipts that is to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewJob)]
pub struct New {
    /// `retry`, `cancel`, `release`, `reopen` or `restart`.
    #[serde(default)]
    action: String,
    /// Of a restart: from which stage.
    #[serde(default)]
    stage: Option<String>,
    /// Which receipts. Those that were accepted later than the job was made are never meant.
    #[serde(default)]
    filter: Value,
    /// 1 to 500 characters; it is kept for good, so no personal data.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 500)]
    reason: Option<String>,
    /// Receipts a second, 1 to 5000; 100 if it is absent.
    #[serde(default)]
    rate: Option<i32>,
}

/// What is asked for, once it has no faults.
pub(super) struct Asked {
    pub action: Action,
    pub filter: Filter,
    pub reason: String,
    pub rate: i32,
}

/// Reads it.
///
/// # Errors
/// 422: every fault.
pub(super) fn read(new: New, now: OffsetDateTime) -> Result<Asked, Problem> {
    let mut faults: Vec<Fault> = reason_fault(new.reason.as_deref()).into_iter().collect();
    let rate = new.rate.unwrap_or(RATE);
    if !(1..=FASTEST).contains(&rate) {
        faults.push(fault("/rate", "1 to 5000 receipts a second"));
    }
    let action = Action::read(&new.action, new.stage.as_deref());
    if action.is_none() {
        let detail = "retry, cancel, release, reopen, or restart with a stage";
        faults.push(fault("/action", detail));
    }
    let filter = match serde_json::from_value::<Filter>(new.filter) {
        Ok(filter) => Some(filter),
        Err(error) => {
            faults.push(fault("/filter", &error.to_string()));
            None
        }
    };
    let asked = action.zip(filter);
    if let Some((action, filter)) = &asked {
        faults.extend(filter_fault(action, filter));
    }
    faultless(faults)?;
    let Some((action, filter)) = asked else {
        return Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "what is asked for has faults",
        ));
    };
    Ok(Asked {
        filter: fixed(&action, filter, now),
        action,
        reason: new.reason.unwrap_or_default(),
        rate,
    })
}

/// The states that an action is for; the first is meant where none is said, if it has but one.
fn states(action: &Action) -> &'static [search::State] {
    use search::State::{Parked, Queued, Rejected, Waiting};
    match action {
        Action::Retry => &[Waiting],
        Action::Release => &[Parked],
        Action::Reopen => &[Rejected],
        Action::Restart { .. } => &[Waiting, Parked],
        Action::Cancel => &[Waiting, Parked, Queued],
    }
}

fn filter_fault(action: &Action, filter: &Filter) -> Option<Fault> {
    if let Some((member, detail)) = filter.mistake() {
        return Some(fault(&format!("/filter/{member}"), detail));
    }
    let states = states(action);
    match filter.state {
        Some(state) if states.contains(&state) => {}
        None if states.len() == 1 => {}
        _ => {
            let names: Vec<&str> = states.iter().map(|state| state.name()).collect();
            return Some(fault("/filter/state", &format!("one of {}", names.join(", "))));
        }
    }
    filter
        .is_empty()
        .then(|| fault("/filter", "which receipts are meant has to be said"))
}

/// The same filter with its state and with an end: what comes later than now is not meant, nor what is rejected again.
fn fixed(action: &Action, filter: Filter, now: OffsetDateTime) -> Filter {
    let mut filter = filter.fixed(now);
    filter.state = filter.state.or_else(|| states(action).first().copied());
    filter.accepted_before = Some(filter.accepted_before.map_or(now, |before| before.min(now)));
    if *action == Action::Reopen {
        filter.moved_before = Some(filter.moved_before.map_or(now, |before| before.min(now)));
    }
    filter
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn places(body: Value) -> Value {
        let new: New = serde_json::from_value(body).unwrap();
        let problem = read(new, OffsetDateTime::UNIX_EPOCH)
            .err()
            .map(|problem| serde_json::to_value(problem).unwrap());
        let errors = problem.map_or(json!([]), |problem| problem["errors"].clone());
        errors
            .as_array()
            .unwrap()
            .iter()
            .map(|error| error["pointer"].clone())
            .collect()
    }

    #[test]
    fn every_fault_of_a_job_is_named_with_its_place() {
        for (body, found) in [
            (json!({}), json!(["/reason", "/action", "/filter"])),
            (
                json!({"action": "restart", "filter": {"state": "lost"}, "reason": "r", "rate": 0}),
                json!(["/rate", "/action", "/filter"]),
            ),
            (
                json!({"action": "retry", "stage": "s", "filter": {"merchant": "m"}, "reason": "r"}),
                json!(["/action"]),
            ),
            (
                json!({"action": "retry", "filter": {}, "reason": "r"}),
                json!(["/filter"]),
            ),
            (
                json!({"action": "retry", "filter": {"state": "waiting"}, "reason": "r"}),
                json!([]),
            ),
            (
                json!({"action": "retry", "filter": {"state": "parked", "merchant": "m"}, "reason": "r"}),
                json!(["/filter/state"]),
            ),
            (
                json!({"action": "cancel", "filter": {"merchant": "m"}, "reason": "r"}),
                json!(["/filter/state"]),
            ),
            (
                json!({"action": "retry", "filter": {"external_id": "e"}, "reason": "r"}),
                json!(["/filter/external_id"]),
            ),
            (
                json!({"action": "retry", "filter": {"merchant": "m"}, "reason": "r"}),
                json!([]),
            ),
            (
                json!({"action": "restart", "stage": "s", "filter": {"merchant": "m", "state": "parked"}, "reason": "r", "rate": 5000}),
                json!([]),
            ),
        ] {
            assert_eq!(places(body.clone()), found, "{body}");
        }
    }

    #[test]
    fn a_filter_has_an_end() {
        let now = OffsetDateTime::UNIX_EPOCH + time::Duration::days(1);
        let given = Filter {
            merchant: Some("m".to_owned()),
            ..Filter::default()
        };
        let retry = fixed(&Action::Retry, given.clone(), now);
        assert_eq!((retry.accepted_before, retry.moved_before), (Some(now), None));
        assert_eq!(retry.state, Some(search::State::Waiting));
        let reopen = fixed(&Action::Reopen, given, now);
        assert_eq!(
            (reopen.moved_before, reopen.state),
            (Some(now), Some(search::State::Rejected))
        );
    }
}
