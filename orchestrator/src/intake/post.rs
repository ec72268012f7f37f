//! `POST /v1/receipts`: 202 only after the commit.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use serde::Serialize;
use shared::life::Holding;
use shared::pipeline::{Stage, Subject};
use shared::receipt::{self, Receipt, Refusal};
use shared::stage::{is_passed_over, next};
use shared::store::accept::{Accept, Accepted, Start};
use shared::store::load::Work;
use shared::store::step::{Counters, Standing};
use shared::store::{Hold, read};
use shared::telemetry::TraceContext;
use shared::telemetry::names::{
    ERROR_TYPE, HTTP_REQUEST_METHOD, HTTP_RESPONSE_STATUS_CODE, HTTP_ROUTE, RECEIPT_ID, STATUS,
};
use tracing::field::Empty;
use tracing::{Span, info_span};
use utoipa::ToSchema;
use uuid::Uuid;

use super::auth::Caller;
use super::problem::Fault;
use super::{Intake, Problem};
use crate::internal::Slot;

/// How long a post waits for its commit before the caller is told to come again.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a body may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(30);
/// The largest body of a post.
const BODY: usize = 256 * 1024;
/// How much of a larger one is read before the connection is given up.
const DISCARDED: usize = 8 * 1024 * 1024;

/// What a post is answered with.
#[derive(Debug, Serialize, ToSchema)]
pub struct Posted {
    /// Our id.
    pub id: Uuid,
    /// Its state.
    pub state: String,
}

/// Posts a receipt.
#[utoipa::path(post, path = "/v1/receipts", request_body(content = Receipt, content_type = "application/json"), responses(
    (status = 202, description = "Stored; it will be registered", body = Posted),
    (status = 200, description = "The same content was stored before", body = Posted),
    (status = 400, description = "Not JSON", body = Problem), (status = 401, body = Problem), (status = 403, body = Problem),
    (status = 409, description = "Other content has this external id", body = Problem), (status = 413, body = Problem), (status = 415, body = Problem),
    (status = 422, description = "Every fault with its pointer", body = Problem),
    (status = 503, description = "Overloaded or without a database: see Retry-After", body = Problem),
), security(("bearer" = [])))]
pub async fn receipt(
    State(intake): State<Arc<Intake>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let (span, trace) = begun(&intake, &headers);
    let answered = answer(intake, caller, headers, body, trace, &span).await;
    let status = match &answered {
        Ok(response) => response.status(),
        Err(problem) => problem.status(),
    };
    span.record(HTTP_RESPONSE_STATUS_CODE, status.as_u16());
    if status.is_server_error() {
        span.record(STATUS, "ERROR");
        span.record(ERROR_TYPE, status.as_str());
    }
    answered
}

/// The span of a post, and the context of its receipt: in the caller's trace, or in one of its own that is linked to it.
fn begun(intake: &Intake, headers: &HeaderMap) -> (Span, TraceContext) {
    let span = info_span!(
        target: "chekhov", "intake", otel.name = "POST /v1/receipts", otel.kind = "server", otel.status_code = Empty,
        { HTTP_REQUEST_METHOD } = "POST", { HTTP_ROUTE } = "/v1/receipts", { HTTP_RESPONSE_STATUS_CODE } = Empty,
        { RECEIPT_ID } = Empty, { ERROR_TYPE } = Empty,
    );
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let callers = header("traceparent").and_then(|parent| TraceContext::read(parent, header("tracestate")));
    let trace = match callers {
        Some(callers) if intake.continue_trace => {
            callers.adopt(&span);
            callers.of(&span)
        }
        callers => {
            if let Some(callers) = callers {
                callers.link(&span);
            }
            TraceContext::begun(&span, intake.sampling)
        }
    };
    (span, trace)
}

async fn answer(
    intake: Arc<Intake>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
    trace: TraceContext,
    span: &Span,
) -> Result<Response, Problem> {
    let media = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if !media
        .split(';')
        .next()
        .is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json"))
    {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "a receipt is application/json",
        ));
    }
    // They keep what was read of the connection: a post that waits for its commit needs neither.
    drop(headers);
    let body = read_body(body).await?;
    if intake.stop.is_cancelled() {
        // Longer than it goes on answering: whoever comes back then meets no listener that is just being closed.
        return Err(Problem::busy("this instance is stopping", 5));
    }
    if intake.runner.overloaded() {
        return Err(Problem::busy("too many receipts wait for their internal stages", 5));
    }
    let receipt = receipt::parse(&body, intake.heart.now()).map_err(refused)?;
    drop(body);
    caller.may_post(&receipt.merchant.id)?;
    // Held until it is stored, also by a post whose caller has gone: a database outage must not fill the memory.
    let Ok(room) = Arc::clone(&intake.room).try_acquire_owned() else {
        return Err(Problem::busy("too many posts wait for the database", 5));
    };

    let id = Uuid::now_v7();
    // A task of its own: whoever hangs up must not leave a stored receipt without its runner.
    let storing = store(Arc::clone(&intake), id, receipt, trace);
    let storing = intake.tracker.spawn(async move { (storing.await, room).0 });
    let accepted = match tokio::time::timeout(PATIENCE, storing).await {
        Ok(Ok(accepted)) => accepted?,
        Ok(Err(_)) => {
            return Err(Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the post failed; post it again",
            ));
        }
        Err(_) => {
            return Err(Problem::busy(
                "the database does not answer; the receipt may be stored: post it again",
                5,
            ));
        }
    };
    let (status, id, state) = match accepted {
        (Accepted::New, state) => (StatusCode::ACCEPTED, id, state.to_owned()),
        (Accepted::Same(known), _) => (
            StatusCode::OK,
            known,
            read::state(&intake.pool, known)
                .await?
                .unwrap_or_else(|| "waiting".to_owned()),
        ),
        (Accepted::Other(_), _) => {
            return Err(Problem::new(
                StatusCode::CONFLICT,
                "this merchant has a receipt with this external_id and other content",
            ));
        }
    };
    span.record(RECEIPT_ID, tracing::field::display(id));
    Ok((
        status,
        [(header::LOCATION, format!("/v1/receipts/{id}"))],
        Json(Posted { id, state }),
    )
        .into_response())
}

/// The body, at most 256 KiB. What is larger is read on for a while and thrown away: a client that is still sending would see
/// its connection reset instead of the answer.
async fn read_body(body: Body) -> Result<Vec<u8>, Problem> {
    let mut chunks = body.into_data_stream();
    let reading = async {
        let (mut read, mut length) = (Vec::new(), 0);
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "the body broke off"))?;
            length += chunk.len();
            if length <= BODY {
                read.extend_from_slice(&chunk);
            } else if length > DISCARDED {
                break;
            }
        }
        if length > BODY {
            let detail = "the body is larger than 256 KiB";
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
        }
        Ok(read)
    };
    let late = || Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time");
    tokio::time::timeout(ARRIVAL, reading).await.map_err(|_| late())?
}

fn refused(refusal: Refusal) -> Problem {
    match refusal {
        Refusal::NotJson { detail } => Problem::new(StatusCode::BAD_REQUEST, detail),
        Refusal::Faults(faults) => Problem::faults(
            "the receipt has faults",
            faults
                .into_iter()
                .map(|fault| Fault {
                    pointer: fault.pointer,
                    detail: fault.detail,
                })
                .collect(),
        ),
    }
}

async fn store(
    intake: Arc<Intake>,
    id: Uuid,
    receipt: Receipt,
    trace: TraceContext,
) -> Result<(Accepted, &'static str), Problem> {
    let pipeline = intake.versions.current();
    let content: Arc<str> = receipt.to_json().into();
    let is_internal = |stage: &Stage| {
        stage.destination().is_none() || is_passed_over(stage, &Subject::new(Arc::clone(&content), Vec::new()))
    };
    let internal = pipeline.stages.first().is_some_and(is_internal);
    let slot = if internal { intake.runner.slot() } else { None };
    let slot = slot.map(|slot| (slot, intake.runner.hold(id)));
    let owner = intake.runner.owner();
    let destination = next::bound_for(pipeline, 0).to_owned();
    let start = match (&slot, internal) {
        (Some(_), _) => Start::Owned(owner),
        (None, true) => Start::Waiting,
        // An orchestrator sees to its original or its key first.
        (None, false) if receipt.original_external_id.is_some() || intake.has_keys(&destination) => Start::Waiting,
        (None, false) => Start::FirstCall,
    };
    let accepted = intake
        .accept
        .commit(Accept {
            id,
            merchant: receipt.merchant.id.clone(),
            external_id: receipt.external_id.clone(),
            content_hash: receipt.content_hash(),
            content: content.to_string(),
            pipeline: pipeline.version.clone(),
            destination: destination.clone(),
            traceparent: trace.traceparent.clone(),
            tracestate: trace.tracestate.clone(),
            deadline: receipt.deadline,
            start,
        })
        .await?;
    let result = match accepted {
        Accepted::New => "new",
        Accepted::Same(_) => "same",
        Accepted::Other(_) => "other",
    };
    metrics::counter!("chekhov_receipts_accepted_total", "result" => result).increment(1);
    if accepted == Accepted::New {
        match slot {
            Some(slot) => run(
                &intake,
                Hold { id, epoch: 1, owner },
                &receipt,
                content,
                destination,
                trace,
                slot,
            ),
            None if start == Start::Waiting => intake.runner.look(),
            None => intake.due.notify_one(),
        }
    }
    Ok((
        accepted,
        if matches!(start, Start::Owned(_)) {
            "running"
        } else {
            "waiting"
        },
    ))
}

fn run(
    intake: &Intake,
    hold: Hold,
    receipt: &Receipt,
    content: Arc<str>,
    destination: String,
    trace: TraceContext,
    (slot, holding): (Slot, Holding),
) {
    let work = Work {
        hold,
        pipeline: intake.versions.current().version.clone(),
        position: 0,
        destination,
        limit_key: None,
        merchant: receipt.merchant.id.clone(),
        external_id: receipt.external_id.clone(),
        content,
        results: Vec::new(),
        deadline: receipt.deadline,
        traceparent: trace.traceparent,
        tracestate: trace.tracestate,
        counters: Counters::default(),
        standing: Standing::default(),
        moved_at: time::OffsetDateTime::now_utc(),
        wait: None,
    };
    intake.runner.start(work, slot, holding);
}
