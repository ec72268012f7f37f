//! Destinations as operators see and steer them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use shared::destination::{self, Change, Destination, Mode, Settings};
use shared::store::audit::{self, Deed};
use shared::store::deadlines::{self, Deadlines};
use shared::store::tallies::Kind;
use shared::store::{StoreError, destinations};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::auth::{Caller, Operator};
use super::problem::Fault;
use super::why::{fault, reason_fault};
use super::{Intake, Problem};
use crate::backlogs::Backlog;

/// A destination as it stands.
#[derive(Serialize, ToSchema)]
pub struct DestinationView {
    name: String,
    /// `open`, `closed`, `paused` or `draining`.
    #[schema(value_type = String)]
    state: destination::State,
    /// Why it is not open.
    reason: Option<String>,
    /// Since when it has been closed.
    #[serde(with = "time::serde::rfc3339::option")]
    closed_since: Option<OffsetDateTime>,
    /// When the next canary may be sent.
    #[serde(with = "time::serde::rfc3339::option")]
    closed_until: Option<OffsetDateTime>,
    /// Canaries that failed since it was well, and openings that did not last; 0 while it is not closed.
    canaries_failed: i32,
    /// How far slow start has come, from 0.1 to 1.
    speed: f64,
    /// What is in force: the configuration's, and what was changed of it.
    #[schema(value_type = Object)]
    settings: Settings,
    /// Receipts that were handed off and not yet taken.
    queued: i64,
    backlog: BacklogView,
    deadlines: Deadlines,
    /// Whether this orchestrator's configuration has it.
    configured: bool,
    /// Rises with every change.
    version: i64,
}

/// What waits for a destination: kept counts, of receipts at its stages and of those on their way there.
#[derive(Serialize, ToSchema)]
pub struct BacklogView {
    /// For an orchestrator.
    internal: i64,
    /// For their turn: their first call to it.
    turn: i64,
    /// For a timer, after which they are called for again.
    timer: i64,
    /// For the end of their original.
    original: i64,
    /// For a person.
    parked: i64,
    /// Of these, those with a call whose outcome nobody knows.
    unresolved: i64,
    /// What could be handed off now and is not; timers are counted up to 10,000.
    due: i64,
    /// How long the longest has waited past the instant it was due or since it came to wait, in seconds, by kind.
    #[schema(value_type = std::collections::BTreeMap<String, f64>)]
    oldest_s: BTreeMap<&'static str, f64>,
    /// Receipts taken for calls a second, over the last minute.
    rate: f64,
    /// How many seconds it takes to drain (what is queued, turns and timers), at the limits, or without any at `rate`; null: nobody can say.
    drain_s: Option<f64>,
}

impl From<&Backlog> for BacklogView {
    fn from(backlog: &Backlog) -> Self {
        let of = |kind| backlog.kinds.get(&kind).copied().unwrap_or_default();
        let oldest = backlog.waiting.oldest.iter();
        Self {
            internal: of(Kind::Internal),
            turn: of(Kind::Turn),
            timer: of(Kind::Timer),
            original: of(Kind::Original),
            parked: of(Kind::Parked),
            unresolved: backlog.unresolved,
            due: backlog.waiting.due + of(Kind::Turn),
            oldest_s: oldest.map(|(kind, age)| (kind.name(), age.as_secs_f64())).collect(),
            rate: backlog.rate,
            drain_s: backlog.drain.map(|drain| drain.as_secs_f64()),
        }
    }
}

/// Every destination.
#[derive(Serialize, ToSchema)]
pub struct Destinations {
    destinations: Vec<DestinationView>,
}

/// A change of a destination.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Patch {
    /// `open`, `closed`, `paused` or `draining`.
    #[serde(default)]
    state: Option<Wanted>,
    /// With `closed`: when the first canary may be sent.
    #[serde(default, with = "time::serde::rfc3339::option")]
    until: Option<OffsetDateTime>,
    /// Why: shown with a state, and kept on record; 1 to 500 characters.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 500)]
    reason: Option<String>,
    /// Members of `settings`; null goes back to the configuration's.
    #[serde(default)]
    #[schema(value_type = Object)]
    settings: Change,
}

/// What an operator may want of a destination.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// Calls are made, and it is no longer closed.
    Open,
    /// No call but a canary, from `until` on.
    Closed,
    /// No call at all.
    Paused,
    /// Only calls about what was sent.
    Draining,
}

/// Reads every destination.
#[utoipa::path(get, path = "/v1/destinations", responses(
    (status = 200, body = Destinations), (status = 401, body = Problem),
    (status = 503, description = "Without a database: see Retry-After", body = Problem),
), security(("bearer" = [])))]
pub async fn all(State(intake): State<Arc<Intake>>, _caller: Caller) -> Result<Json<Destinations>, Problem> {
    let mut views = Vec::new();
    for known in destinations::read(&intake.pool).await? {
        views.push(view(&intake, &known).await?);
    }
    Ok(Json(Destinations { destinations: views }))
}

/// Reads one destination.
#[utoipa::path(get, path = "/v1/destinations/{name}", params(("name" = String, Path)), responses(
    (status = 200, body = DestinationView), (status = 401, body = Problem), (status = 404, body = Problem),
    (status = 503, description = "Without a database: see Retry-After", body = Problem),
), security(("bearer" = [])))]
pub async fn one(
    State(intake): State<Arc<Intake>>,
    _caller: Caller,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<DestinationView>, Problem> {
    let Path(name) = name.map_err(|_| no_such())?;
    let known = read(&intake, &name).await?.ok_or_else(no_such)?;
    Ok(Json(view(&intake, &known).await?))
}

/// Changes a destination for every instance, within a second; the change survives restarts.
#[utoipa::path(patch, path = "/v1/destinations/{name}", params(("name" = String, Path)), request_body = Patch, responses(
    (status = 200, body = DestinationView), (status = 400, description = "Not JSON", body = Problem),
    (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem),
    (status = 422, description = "Every fault with its pointer", body = Problem),
    (status = 503, description = "Without a database: see Retry-After", body = Problem),
), security(("bearer" = [])))]
pub async fn change(
    State(intake): State<Arc<Intake>>,
    operator: Operator,
    name: Result<Path<String>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<DestinationView>, Problem> {
    let Path(name) = name.map_err(|_| no_such())?;
    let body = body.map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "the body could not be read"))?;
    let body: Value = serde_json::from_slice(&body)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, format!("not JSON: {error}")))?;
    let mut asked = body.clone();
    let patch = patch(body)?;
    let mode = match patch.state {
        Some(Wanted::Open) => Some(Mode::Open),
        Some(Wanted::Paused) => Some(Mode::Paused),
        Some(Wanted::Draining) => Some(Mode::Draining),
        Some(Wanted::Closed) | None => None,
    };
    let said = match &patch.reason {
        Some(reason) => format!("{reason} (by {})", operator.name()),
        None => format!("by {}", operator.name()),
    };
    // What was asked for, and why apart from it.
    if let Some(members) = asked.as_object_mut() {
        members.remove("reason");
    }
    let deed = Deed {
        action: "destination.change",
        target: &name,
        filter: None,
        count: 0,
        detail: asked,
    };
    let mut transaction = intake.pool.begin().await.map_err(StoreError::from)?;
    if !destinations::change(&mut *transaction, &name, &patch.settings, mode, patch.until, &said).await? {
        return Err(no_such());
    }
    audit::record(&mut transaction, &operator.by(patch.reason), deed).await?;
    transaction.commit().await.map_err(StoreError::from)?;
    let known = read(&intake, &name).await?.ok_or_else(no_such)?;
    tracing::info!(destination = %name, state = ?known.state(), version = known.version, by = operator.name(), "changed");
    let view = view(&intake, &known).await?;
    intake.following.learn(vec![known]);
    Ok(Json(view))
}

async fn read(intake: &Intake, name: &str) -> Result<Option<Destination>, StoreError> {
    let known = destinations::read(&intake.pool).await?;
    Ok(known.into_iter().find(|known| known.name == name))
}

async fn view(intake: &Intake, known: &Destination) -> Result<DestinationView, StoreError> {
    let closing = known.closing.as_ref();
    let deadlines = deadlines::count(&intake.pool, &[known]).await?.pop();
    let backlog = intake.backlogs.of(known).await?;
    Ok(DestinationView {
        name: known.name.clone(),
        state: known.state(),
        reason: known.reason(),
        closed_since: closing.map(|closing| closing.since),
        closed_until: closing.map(|closing| closing.until),
        canaries_failed: closing.map_or(0, |_| known.probes),
        speed: known.speed(),
        settings: known.settings.clone(),
        queued: backlog.waiting.queued,
        backlog: BacklogView::from(&backlog),
        deadlines: deadlines.unwrap_or_default(),
        configured: intake.destinations.contains(&known.name),
        version: known.version,
    })
}

fn no_such() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is no such destination")
}

/// Reads a change; every member alone first, since serde stops at the first that is wrong.
fn patch(body: Value) -> Result<Patch, Problem> {
    let Value::Object(members) = body else {
        return Err(faults(vec![fault("", "an object is needed")]));
    };
    let mut wrong = Vec::new();
    for (key, value) in &members {
        match value {
            Value::Object(settings) if key == "settings" => {
                for (key, value) in settings {
                    let alone = serde_json::from_value::<Change>(alone(key, value));
                    match alone.map(|change| change.mistake()) {
                        Err(error) => wrong.push(fault(&format!("/settings/{key}"), &error.to_string())),
                        Ok(Some((_, mistake))) => wrong.push(fault(&format!("/settings/{key}"), mistake)),
                        Ok(None) => {}
                    }
                }
            }
            _ => {
                if let Err(error) = serde_json::from_value::<Patch>(alone(key, value)) {
                    wrong.push(fault(&format!("/{key}"), &error.to_string()));
                }
            }
        }
    }
    let patch = if wrong.is_empty() {
        serde_json::from_value(Value::Object(members)).map_err(|error| faults(vec![fault("", &error.to_string())]))?
    } else {
        Patch::default()
    };
    let closes = patch.state == Some(Wanted::Closed);
    if closes && patch.until.is_none() {
        wrong.push(fault("/until", "to close a destination, say until when"));
    }
    if patch.until.is_some() && !closes {
        wrong.push(fault("/until", "only with the state closed"));
    }
    if patch.reason.is_some() {
        wrong.extend(reason_fault(patch.reason.as_deref()));
    }
    if wrong.is_empty() {
        Ok(patch)
    } else {
        Err(faults(wrong))
    }
}

fn alone(key: &str, value: &Value) -> Value {
    Value::Object(Map::from_iter([(key.to_owned(), value.clone())]))
}

fn faults(wrong: Vec<Fault>) -> Problem {
    Problem::faults("the change has faults", wrong)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_fault_of_a_change_is_named_with_its_place() {
        for (body, places) in [
            (json!([]), vec![""]),
            (json!({"state": "shut", "colour": 1}), vec!["/colour", "/state"]),
            (
                json!({"settings": {"limits": ["fast"], "concurrency": 0, "rate": 1}}),
                vec!["/settings/concurrency", "/settings/limits", "/settings/rate"],
            ),
            (json!({"state": "closed"}), vec!["/until"]),
            (
                json!({"state": "open", "until": "2999-01-01T00:00:00Z"}),
                vec!["/until"],
            ),
        ] {
            let problem = serde_json::to_value(patch(body.clone()).err().expect("a fault")).unwrap();
            let mut found: Vec<_> = problem["errors"]
                .as_array()
                .unwrap()
                .iter()
                .map(|fault| fault["pointer"].clone())
                .collect();
            found.sort_by_key(ToString::to_string);
            assert_eq!(json!(found), json!(places), "{body}");
        }
        assert!(patch(json!({"settings": {"limits": ["50/s", "180/h"], "slow_start": null}})).is_ok());
        assert!(patch(json!({"state": "closed", "until": "2999-01-01T00:00:00Z", "reason": "maintenance"})).is_ok());
    }
}
