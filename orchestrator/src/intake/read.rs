//! Reading receipts.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::pipeline::Pipeline;
use shared::store::read;
use shared::telemetry::TraceContext;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::auth::Caller;
use super::reason::reason;
use super::wait::{Causes, Original, Shut, Wait, wait};
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
    /// Its trace in the tracing system, where the configuration says what that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_url: Option<String>,
    /// Why it waits, until when, and what would unblock it; null once it is final.
    wait: Option<Wait>,
    /// The answer that holds it: its last call, unless that was a success.
    held_by: Option<CallView>,
    pipeline: PipelineView,
    #[schema(value_type = Object)]
    results: BTreeMap<String, Box<RawValue>>,
    /// The latest thousand calls, oldest first.
    history: Vec<CallView>,
}

/// The pipeline a receipt runs through.
#[derive(Serialize, ToSchema)]
pub struct PipelineView {
    name: String,
    version: String,
}

/// One call of a receipt's history.
#[derive(Clone, Serialize, ToSchema)]
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

/// The receipt of a business key, whole, on a page of its own.
pub(super) async fn by_key(
    intake: &Intake,
    caller: &Caller,
    merchant: &str,
    external_id: &str,
) -> Result<Page, Problem> {
    let found = match read::id_of(&intake.pool, merchant, external_id).await? {
        Some(id) => view(intake, caller, id).await?,
        None => None,
    };
    Ok(Page {
        receipts: found.into_iter().collect(),
        next: None,
    })
}

/// Where a receipt stands in its pipeline, while it is open.
pub(super) struct Stand {
    pipeline: Option<Arc<Pipeline>>,
    /// The stage.
    pub stage: Option<String>,
    /// Where that stage calls, if it is a destination.
    destination: Option<String>,
    /// That destination, if it takes nothing.
    shut: Option<Shut>,
}

impl Stand {
    /// Why nothing goes to its destination now.
    pub fn shut(&self) -> Option<String> {
        self.shut.as_ref().map(|shut| shut.reason.clone())
    }
}

/// Finds out where a receipt stands.
pub(super) async fn stand(intake: &Intake, receipt: &read::View) -> Stand {
    let pipeline = intake.versions.get(&receipt.pipeline).await.ok();
    let position = receipt.position.and_then(|position| usize::try_from(position).ok());
    let stage = position.and_then(|position| pipeline.as_ref()?.stages.get(position));
    let destination = stage.and_then(|stage| stage.destination()).map(str::to_owned);
    let shut = destination.as_deref().and_then(|name| {
        if intake.destinations.contains(name) {
            let known = intake.following.get(name)?;
            Shut::of(&known)
        } else {
            Some(Shut::unknown(name))
        }
    });
    let stage = stage.map(|stage| stage.name.clone());
    Stand {
        pipeline,
        stage,
        destination,
        shut,
    }
}

/// What may hold a receipt: beside its destination, its limit key's turn or its original.
async fn causes(intake: &Intake, receipt: &read::View, stand: &Stand) -> Result<Causes, Problem> {
    let waits = receipt.state == "waiting";
    let turn = match (&stand.destination, receipt.limit_key.as_deref()) {
        (Some(destination), Some(key)) if waits && !key.is_empty() => {
            read::turn(&intake.pool, destination, key).await?
        }
        _ => None,
    };
    let original = match receipt.waits_for {
        Some(id) => read::several(&intake.pool, &[id]).await?.pop(),
        None => None,
    };
    Ok(Causes {
        destination: stand.destination.clone(),
        shut: stand.shut.clone(),
        turn,
        original: original.map(|original| Original {
            id: original.id,
            external_id: original.external_id,
            state: original.state,
        }),
    })
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
    let history: Vec<CallView> = history.into_iter().map(|call| call_view(call, &mut issued)).collect();
    let stand = stand(intake, &receipt).await;
    let reason = reason(&receipt, stand.shut());
    let causes = causes(intake, &receipt, &stand).await?;
    let wait = wait(&receipt, causes, OffsetDateTime::now_utc());
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
        stage: stand.stage.or(receipt.last_stage),
        destination: receipt.destination.filter(|destination| !destination.is_empty()),
        reason,
        due_at: receipt.due_at,
        deadline: receipt.deadline,
        accepted_at: receipt.accepted_at,
        finished_at: receipt.finished_at,
        trace_url: intake.trace_url(trace.trace_id()),
        trace_id: trace.trace_id().to_owned(),
        wait,
        held_by: history.last().filter(|call| call.outcome != "success").cloned(),
        pipeline: PipelineView {
            name: stand.pipeline.map(|pipeline| pipeline.name.clone()).unwrap_or_default(),
            version: receipt.pipeline,
        },
        results,
        history,
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
