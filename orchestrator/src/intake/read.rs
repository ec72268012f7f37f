//! Reading receipts.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::store::read;
use shared::telemetry::TraceContext;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::auth::Caller;
use super::reason::reason;
use super::{Intake, Problem};

/// A receipt as it stands.
#[derive(Serialize, ToSchema)]
pub struct ReceiptView {
    id: Uuid,
    merchant: String,
    external_id: String,
    #[serde(rename = "type")]
    kind: String,
    total: i64,
    state: String,
    stage: Option<String>,
    destination: Option<String>,
    reason: Option<String>,
    #[serde(with = "time::serde::rfc3339::option")]
    due_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    deadline: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339")]
    accepted_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    finished_at: Option<OffsetDateTime>,
    trace_id: String,
    pipeline: PipelineView,
    #[schema(value_type = Object)]
    results: BTreeMap<String, Box<RawValue>>,
    history: Vec<CallView>,
}

/// The pipeline a receipt runs through.
#[derive(Serialize, ToSchema)]
pub struct PipelineView {
    name: String,
    version: String,
}

/// One call of a receipt's history.
#[derive(Serialize, ToSchema)]
pub struct CallView {
    stage: String,
    request: String,
    attempt: i32,
    call_id: String,
    /// Of a call that was issued anew: the call id it was issued instead of, which is known to have failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    reissue_of: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    started_at: OffsetDateTime,
    duration_ms: i32,
    outcome: String,
    status: Option<i16>,
    error: Option<String>,
    retry_after_s: Option<i32>,
}

/// A page of receipts.
#[derive(Serialize, ToSchema)]
pub struct Page {
    receipts: Vec<ReceiptView>,
    next: Option<String>,
}

/// The key to look for.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Merchant id.
    merchant: String,
    /// The caller's id.
    external_id: String,
}

/// What is shown of the content.
#[derive(Deserialize)]
struct Head {
    #[serde(rename = "type")]
    kind: String,
    total: i64,
}

/// Reads one receipt.
#[utoipa::path(get, path = "/v1/receipts/{id}", params(("id" = Uuid, Path)), responses(
    (status = 200, body = ReceiptView), (status = 401, body = Problem), (status = 404, body = Problem),
    (status = 503, description = "Without a database: see Retry-After", body = Problem),
), security(("bearer" = [])))]
pub async fn by_id(
    State(intake): State<Arc<Intake>>,
    caller: Caller,
    id: Result<Path<Uuid>, PathRejection>,
) -> Result<Json<ReceiptView>, Problem> {
    let Path(id) = id.map_err(|_| Problem::not_found())?;
    Ok(Json(view(&intake, &caller, id).await?.ok_or_else(Problem::not_found)?))
}

/// Finds a receipt by its business key.
#[utoipa::path(get, path = "/v1/receipts", params(Key), responses(
    (status = 200, body = Page), (status = 400, body = Problem), (status = 401, body = Problem),
    (status = 503, description = "Without a database: see Retry-After", body = Problem),
), security(("bearer" = [])))]
pub async fn by_key(
    State(intake): State<Arc<Intake>>,
    caller: Caller,
    key: Result<Query<Key>, QueryRejection>,
) -> Result<Json<Page>, Problem> {
    let Query(key) = key.map_err(|_| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "merchant and external_id are needed, and nothing else",
        )
    })?;
    let found = match read::id_of(&intake.pool, &key.merchant, &key.external_id).await? {
        Some(id) => view(&intake, &caller, id).await?,
        None => None,
    };
    Ok(Json(Page {
        receipts: found.into_iter().collect(),
        next: None,
    }))
}

/// Why nothing goes to a destination now.
fn shut(intake: &Intake, destination: &str) -> Option<String> {
    if !intake.destinations.contains(destination) {
        return Some(format!("{destination} is not in the configuration"));
    }
    intake.following.get(destination)?.reason()
}

async fn view(intake: &Intake, caller: &Caller, id: Uuid) -> Result<Option<ReceiptView>, Problem> {
    let Some(receipt) = read::receipt(&intake.pool, id)
        .await?
        .filter(|receipt| caller.sees(&receipt.merchant))
    else {
        return Ok(None);
    };
    let unreadable = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the stored receipt cannot be read");
    let head: Head = serde_json::from_str(&receipt.content).map_err(unreadable)?;
    let mut results = BTreeMap::new();
    for (stage, value) in read::results(&intake.pool, id).await? {
        results.insert(stage, RawValue::from_string(value).map_err(unreadable)?);
    }
    let history = read::history(&intake.pool, id).await?;
    let mut issued = HashMap::new();
    let pipeline = intake.versions.get(&receipt.pipeline).await.ok();
    let position = receipt.position.and_then(|position| usize::try_from(position).ok());
    let stage = position.and_then(|position| pipeline.as_ref()?.stages.get(position).map(|stage| stage.name.clone()));
    let external = position.and_then(|position| pipeline.as_ref()?.stages.get(position)?.destination());
    let reason = reason(&receipt, external.and_then(|destination| shut(intake, destination)));
    let trace = TraceContext {
        traceparent: receipt.traceparent,
        tracestate: None,
    };
    Ok(Some(ReceiptView {
        id,
        merchant: receipt.merchant,
        external_id: receipt.external_id,
        kind: head.kind,
        total: head.total,
        state: receipt.state,
        stage: stage.or(receipt.last_stage),
        destination: receipt.destination.filter(|destination| !destination.is_empty()),
        reason,
        due_at: receipt.due_at,
        deadline: receipt.deadline,
        accepted_at: receipt.accepted_at,
        finished_at: receipt.finished_at,
        trace_id: trace.trace_id().to_owned(),
        pipeline: PipelineView {
            name: pipeline.map(|pipeline| pipeline.name.clone()).unwrap_or_default(),
            version: receipt.pipeline,
        },
        results,
        history: history.into_iter().map(|call| call_view(call, &mut issued)).collect(),
    }))
}

/// `issued`: the last call id of each request that registers, so far.
fn call_view(call: read::PastCall, issued: &mut HashMap<String, String>) -> CallView {
    let before = call
        .registers
        .then(|| issued.insert(call.stage.clone(), call.call_id.clone()));
    CallView {
        reissue_of: before.flatten().filter(|before| *before != call.call_id),
        stage: call.stage,
        request: call.request,
        attempt: call.attempt,
        call_id: call.call_id,
        started_at: call.started_at,
        duration_ms: call.duration_ms,
        outcome: call.outcome,
        status: call.status,
        error: call.error,
        retry_after_s: call.retry_after_s,
    }
}
