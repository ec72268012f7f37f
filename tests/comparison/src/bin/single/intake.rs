//! `POST /v1/receipts`: read, stored and answered as Chekhov does it. Whoever reaches the port may post: tokens are not part of
//! this arm.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use serde_json::{Value, json};
use shared::receipt::{self, Receipt, Refusal};
use shared::stage::next;
use shared::store::accept::{Accept, AcceptBatch, Accepted, Start};
use shared::store::group::Group;
use shared::store::load::Work;
use shared::store::step::{Counters, Standing};
use shared::store::{self, Hold, StoreError};
use shared::telemetry::TraceContext;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::engine::Engine;

/// Posts that may wait for their commit at once.
const ROOM: usize = 1024;
/// How long a post waits for its commit before the caller is told to come again.
const PATIENCE: Duration = Duration::from_secs(5);
/// The largest body of a post.
const BODY: usize = 256 * 1024;

/// What the handlers need.
pub struct Intake {
    engine: Arc<Engine>,
    accept: Group<AcceptBatch>,
    room: Arc<Semaphore>,
}

/// Both endpoints.
pub fn router(engine: Arc<Engine>) -> Router {
    let intake = Intake {
        accept: Group::start(engine.pool.clone()),
        room: Arc::new(Semaphore::new(ROOM)),
        engine,
    };
    Router::new()
        .route("/v1/receipts", post(receipt))
        .route("/readyz", get(ready))
        .layer(DefaultBodyLimit::max(BODY))
        .with_state(Arc::new(intake))
}

async fn receipt(State(intake): State<Arc<Intake>>, body: Bytes) -> Response {
    if intake.engine.stop.is_cancelled() {
        return busy("this engine is stopping");
    }
    if intake.engine.queue.is_overloaded() {
        return busy("too many receipts wait for a slot");
    }
    let receipt = match receipt::parse(&body, intake.engine.heart.now()) {
        Ok(receipt) => receipt,
        Err(Refusal::NotJson { detail }) => return answer(StatusCode::BAD_REQUEST, &json!({ "detail": detail })),
        Err(Refusal::Faults(faults)) => {
            let faults: Vec<Value> = faults
                .into_iter()
                .map(|fault| json!({"pointer": fault.pointer, "detail": fault.detail}))
                .collect();
            return answer(StatusCode::UNPROCESSABLE_ENTITY, &json!({ "errors": faults }));
        }
    };
    // Held until it is stored, also by a post whose caller has gone: a database outage must not fill the memory.
    let Ok(room) = Arc::clone(&intake.room).try_acquire_owned() else {
        return busy("too many posts wait for the database");
    };
    let id = Uuid::now_v7();
    // A task of its own: whoever hangs up must not leave a stored receipt without its slot.
    let storing = store(Arc::clone(&intake), id, receipt);
    let storing = intake.engine.tracker.spawn(async move { (storing.await, room).0 });
    match tokio::time::timeout(PATIENCE, storing).await {
        Ok(Ok(Ok(Accepted::New))) => answer(StatusCode::ACCEPTED, &json!({ "id": id })),
        Ok(Ok(Ok(Accepted::Same(known)))) => answer(StatusCode::OK, &json!({ "id": known })),
        Ok(Ok(Ok(Accepted::Other(_)))) => {
            let detail = "this merchant has a receipt with this external_id and other content";
            answer(StatusCode::CONFLICT, &json!({ "detail": detail }))
        }
        Ok(Ok(Err(StoreError::Refused { .. })) | Err(_)) => answer(
            StatusCode::INTERNAL_SERVER_ERROR,
            &json!({ "detail": "the receipt could not be stored" }),
        ),
        Ok(Ok(Err(_))) | Err(_) => busy("the database does not answer; the receipt may be stored: post it again"),
    }
}

async fn store(intake: Arc<Intake>, id: Uuid, receipt: Receipt) -> Result<Accepted, StoreError> {
    let engine = &intake.engine;
    let pipeline = engine.versions.current();
    let content: Arc<str> = receipt.to_json().into();
    let slot = engine.slot_for_new().map(|slot| (slot, engine.hold(id)));
    let owner = engine.heart.id();
    let destination = next::bound_for(pipeline, 0).to_owned();
    let TraceContext {
        traceparent,
        tracestate,
    } = TraceContext::root(false);
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
            traceparent: traceparent.clone(),
            tracestate: tracestate.clone(),
            deadline: receipt.deadline,
            start: if slot.is_some() {
                Start::Owned(owner)
            } else {
                Start::Waiting
            },
        })
        .await?;
    match slot {
        Some((slot, holding)) if accepted == Accepted::New => {
            let work = Work {
                hold: Hold { id, epoch: 1, owner },
                pipeline: pipeline.version.clone(),
                position: 0,
                destination,
                limit_key: None,
                merchant: receipt.merchant.id,
                external_id: receipt.external_id,
                content,
                results: Vec::new(),
                deadline: receipt.deadline,
                traceparent,
                tracestate,
                counters: Counters::default(),
                standing: Standing::default(),
                moved_at: time::OffsetDateTime::now_utc(),
                wait: None,
            };
            engine.start(work, slot, holding);
        }
        Some((slot, _)) => {
            drop(slot);
            engine.queue.freed();
        }
        None => engine.queue.left_waiting(),
    }
    Ok(accepted)
}

/// `GET /readyz`: what is not ready, if anything.
async fn ready(State(intake): State<Arc<Intake>>) -> Response {
    let mut not_ready = Vec::new();
    match tokio::time::timeout(Duration::from_secs(2), store::ping(&intake.engine.pool)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => not_ready.push(format!("postgresql: {error}")),
        Err(_) => not_ready.push("postgresql: no answer in 2 s".to_owned()),
    }
    if intake.engine.stop.is_cancelled() {
        not_ready.push("stopping".to_owned());
    }
    let status = if not_ready.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    answer(status, &json!({ "not_ready": not_ready }))
}

fn answer(status: StatusCode, body: &Value) -> Response {
    (status, Json(body)).into_response()
}

fn busy(detail: &str) -> Response {
    let mut response = answer(StatusCode::SERVICE_UNAVAILABLE, &json!({ "detail": detail }));
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    response
}
