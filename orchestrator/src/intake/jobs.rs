//! Actions upon many receipts, as operators make, start, stop and watch them.

mod asked;

pub use asked::New;

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
use shared::store::{StoreError, jobs::Job};
use sqlx::PgConnection;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::auth::{Caller, Operator};
use super::why::required;
use super::{Intake, Problem, paging};

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
    let asked = asked::read(new, now)?;
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
    let limit = paging::limit(paging.limit)?;
    let found = jobs::page(&intake.pool, paging.after, limit).await?;
    let next = paging::next(&found, limit, |last| last.id);
    let jobs = found.into_iter().map(view).collect::<Result<_, _>>()?;
    Ok(Json(Page { jobs, next }))
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
