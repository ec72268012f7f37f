//! Actions upon many receipts, as operators make, start, stop and watch them.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shared::store::audit::{self, By, Deed};
use shared::store::jobs::{self, Causes};
use shared::store::search::{self, Filter};
use shared::store::{StoreError, jobs::Job};
use sqlx::PgConnection;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::auth::{Caller, Operator};
use super::problem::Fault;
use super::why::{fault, faultless, reason_fault, required};
use super::{Intake, Problem};
use crate::steering::Action;

/// Jobs of a page: so many at most, and as long as nobody says how many.
const MOST: i64 = 1000;
const USUAL: i64 = 100;
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

/// Which page.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct Paging {
    /// `next` of the page before.
    after: Option<Uuid>,
    /// 1 to 1000; 100 if it is absent.
    limit: Option<i64>,
}

/// A job as it stands.
#[derive(Serialize, ToSchema)]
#[schema(as = Job)]
pub struct View {
    id: Uuid,
    action: String,
    stage: Option<String>,
    /// Which receipts; ages are times.
    #[schema(value_type = Object)]
    filter: Value,
    reason: String,
    /// The token that made it.
    by: String,
    /// Receipts a second.
    rate: i32,
    /// `counting` (nothing is moved), `counted` (to be started), `running`, `stopped` (to be started again) or `done`.
    state: jobs::State,
    /// Receipts that the filter meant when they were counted.
    matched: i64,
    /// Of them, those that could have been moved then.
    movable: i64,
    /// Entries that the walk has looked at: of the count, then of the run.
    examined: i64,
    /// Receipts that were moved.
    moved: i64,
    /// How many could not be, by cause: of the count, then of the run.
    #[schema(value_type = Object)]
    refused: Causes,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    counted_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    started_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    ended_at: Option<OffsetDateTime>,
}

/// Jobs, the newest first.
#[derive(Serialize, ToSchema)]
#[schema(as = Jobs)]
pub struct Page {
    jobs: Vec<View>,
    /// `after` of the next page; null: there is none.
    next: Option<Uuid>,
}

/// Makes a job, which counts what it would move: a dry run. Nothing is moved before it is started.
#[utoipa::path(post, path = "/v1/jobs", request_body = New, responses(
    (status = 202, description = "It counts", body = View), (status = 400, description = "Not JSON", body = Problem),
    (status = 401, body = Problem), (status = 403, body = Problem), (status = 422, description = "Every fault with its pointer", body = Problem),
    (status = 503, description = "Without a database: see Retry-After", body = Problem),
), security(("bearer" = [])))]
pub async fn create(
    State(intake): State<Arc<Intake>>,
    operator: Operator,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    operator.may_oversee()?;
    let new: New = required(body)?;
    let now = intake.heart.now();
    let asked = read(new, now)?;
    let filter = serde_json::to_value(&asked.filter)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    let id = Uuid::now_v7();
    let mut transaction = intake.pool.begin().await.map_err(StoreError::from)?;
    jobs::create(
        &mut transaction,
        jobs::New {
            id,
            action: asked.action.name(),
            stage: asked.action.stage(),
            filter: &filter.to_string(),
            reason: &asked.reason,
            who: operator.name(),
            rate: asked.rate,
        },
    )
    .await?;
    let deed = Deed {
        action: "job.create",
        target: &id.to_string(),
        filter: Some(&filter),
        count: 0,
        detail: json!({"action": asked.action.name(), "stage": asked.action.stage(), "rate": asked.rate}),
    };
    audit::record(&mut transaction, &operator.by(Some(asked.reason)), deed).await?;
    transaction.commit().await.map_err(StoreError::from)?;
    intake.jobs.notify_one();
    tracing::info!(job.id = %id, by = operator.name(), action = asked.action.name(), "a job was made");
    let job = find(&intake, id).await?;
    let location = [(header::LOCATION, format!("/v1/jobs/{id}"))];
    Ok((StatusCode::ACCEPTED, location, Json(view(job)?)).into_response())
}

/// Starts a job that was counted, or goes on with one that was stopped.
#[utoipa::path(post, path = "/v1/jobs/{id}/start", params(("id" = Uuid, Path)), request_body = Option<super::why::Why>, responses(
    (status = 200, body = View), (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem),
    (status = 404, body = Problem), (status = 409, description = "It is being counted, or runs, or is done", body = Problem),
    (status = 422, body = Problem), (status = 503, description = "Without a database: see Retry-After", body = Problem),
), security(("bearer" = [])))]
pub async fn start(
    State(intake): State<Arc<Intake>>,
    operator: Operator,
    id: Result<Path<Uuid>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<View>, Problem> {
    operator.may_oversee()?;
    let (by, id) = (operator.by(super::why::optional(body)?), path(id)?);
    let mut transaction = intake.pool.begin().await.map_err(StoreError::from)?;
    let started = jobs::start(&mut transaction, id).await?.is_some();
    changed(&intake, transaction, id, started, "job.start", by).await
}

/// Stops a job: nothing more is moved until it is started again.
#[utoipa::path(post, path = "/v1/jobs/{id}/stop", params(("id" = Uuid, Path)), request_body = Option<super::why::Why>, responses(
    (status = 200, body = View), (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem),
    (status = 404, body = Problem), (status = 409, description = "It is not under way", body = Problem),
    (status = 422, body = Problem), (status = 503, description = "Without a database: see Retry-After", body = Problem),
), security(("bearer" = [])))]
pub async fn stop(
    State(intake): State<Arc<Intake>>,
    operator: Operator,
    id: Result<Path<Uuid>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<View>, Problem> {
    operator.may_oversee()?;
    let (by, id) = (operator.by(super::why::optional(body)?), path(id)?);
    let mut transaction = intake.pool.begin().await.map_err(StoreError::from)?;
    let stopped = jobs::stop(&mut transaction, id).await?;
    changed(&intake, transaction, id, stopped, "job.stop", by).await
}

/// Reads one job.
#[utoipa::path(get, path = "/v1/jobs/{id}", params(("id" = Uuid, Path)), responses(
    (status = 200, body = View), (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem),
    (status = 503, description = "Without a database: see Retry-After", body = Problem),
), security(("bearer" = [])))]
pub async fn one(
    State(intake): State<Arc<Intake>>,
    caller: Caller,
    id: Result<Path<Uuid>, PathRejection>,
) -> Result<Json<View>, Problem> {
    caller.may_oversee()?;
    Ok(Json(view(find(&intake, path(id)?).await?)?))
}

/// Reads jobs, the newest first.
#[utoipa::path(get, path = "/v1/jobs", params(Paging), responses(
    (status = 200, body = Page), (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem),
    (status = 503, description = "Without a database: see Retry-After", body = Problem),
), security(("bearer" = [])))]
pub async fn page(
    State(intake): State<Arc<Intake>>,
    caller: Caller,
    paging: Result<Query<Paging>, QueryRejection>,
) -> Result<Json<Page>, Problem> {
    caller.may_oversee()?;
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    let Query(paging) = paging.map_err(|error| bad(error.body_text()))?;
    let limit = paging.limit.unwrap_or(USUAL);
    if !(1..=MOST).contains(&limit) {
        return Err(bad(format!("limit: 1 to {MOST}")));
    }
    let found = jobs::page(&intake.pool, paging.after, limit).await?;
    let is_full = i64::try_from(found.len()).is_ok_and(|count| count == limit);
    let next = found.last().map(|last| last.id).filter(|_| is_full);
    let jobs = found.into_iter().map(view).collect::<Result<_, _>>()?;
    Ok(Json(Page { jobs, next }))
}

/// What is asked for, once it has no faults.
struct Asked {
    action: Action,
    filter: Filter,
    reason: String,
    rate: i32,
}

fn read(new: New, now: OffsetDateTime) -> Result<Asked, Problem> {
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

/// Commits a job's change with its record, and shows the job.
async fn changed(
    intake: &Intake,
    mut transaction: sqlx::Transaction<'_, sqlx::Postgres>,
    id: Uuid,
    is_changed: bool,
    action: &str,
    by: By,
) -> Result<Json<View>, Problem> {
    if !is_changed {
        let job = find(intake, id).await?;
        return Err(Problem::new(StatusCode::CONFLICT, refusal(job.state)));
    }
    record(&mut transaction, id, action, &by).await?;
    transaction.commit().await.map_err(StoreError::from)?;
    intake.jobs.notify_one();
    tracing::info!(job.id = %id, by = by.who, action, "a job was changed");
    Ok(Json(view(find(intake, id).await?)?))
}

/// Puts on record that a job was started or stopped, and how many it had moved then.
async fn record(connection: &mut PgConnection, id: Uuid, action: &str, by: &By) -> Result<(), StoreError> {
    let totals = jobs::totals(connection, id).await?;
    let deed = Deed {
        action,
        target: &id.to_string(),
        filter: None,
        count: totals.moved,
        detail: json!({"matched": totals.matched, "movable": totals.movable}),
    };
    audit::record(connection, by, deed).await
}

fn refusal(state: jobs::State) -> &'static str {
    match state {
        jobs::State::Counting => "it is being counted",
        jobs::State::Counted => "it was not started",
        jobs::State::Running => "it runs",
        jobs::State::Stopped => "it is stopped",
        jobs::State::Done => "it is done",
    }
}

fn path(id: Result<Path<Uuid>, PathRejection>) -> Result<Uuid, Problem> {
    id.map(|Path(id)| id).map_err(|_| no_such())
}

async fn find(intake: &Intake, id: Uuid) -> Result<Job, Problem> {
    jobs::read(&intake.pool, id).await?.ok_or_else(no_such)
}

fn no_such() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is no such job")
}

fn view(job: Job) -> Result<View, Problem> {
    let unreadable = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the job cannot be read");
    Ok(View {
        id: job.id,
        action: job.action,
        stage: job.stage,
        filter: serde_json::from_str(&job.filter).map_err(unreadable)?,
        reason: job.reason,
        by: job.who,
        rate: job.rate,
        state: job.state,
        matched: job.matched,
        movable: job.movable,
        examined: job.examined,
        moved: job.moved,
        refused: serde_json::from_str(&job.refused).map_err(unreadable)?,
        created_at: job.created_at,
        counted_at: job.counted_at,
        started_at: job.started_at,
        ended_at: job.ended_at,
    })
}

#[cfg(test)]
mod tests {
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
