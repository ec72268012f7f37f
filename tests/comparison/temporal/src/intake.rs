//! The intake: a receipt that is posted becomes a workflow.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use comparison::stages::Receipt;
use serde_json::json;
use shared::receipt::Refusal;
use temporalio_client::errors::WorkflowStartError;
use temporalio_client::{Client, WorkflowIdReusePolicy, WorkflowStartOptions};

use crate::arm::RECEIPTS;
use crate::order::Order;
use crate::plan::Plan;
use crate::workflow::Registration;

/// How long Temporal may take to accept a start; what it accepts later is the same workflow when it is posted again.
const START_LIMIT: Duration = Duration::from_secs(10);

/// What the intake works with.
pub struct Intake {
    /// Temporal.
    pub client: Client,
    /// The steps of every receipt.
    pub plan: Plan,
    /// Whether the first workflow task comes with the answer to a start.
    pub eager: bool,
}

/// Temporal did not accept a start.
struct NotStarted(String);

/// The paths.
pub fn router(intake: Intake) -> Router {
    Router::new()
        .route("/v1/receipts", post(accept))
        .route("/readyz", get(async || "ready"))
        .with_state(Arc::new(intake))
}

async fn accept(State(intake): State<Arc<Intake>>, body: Bytes) -> Response {
    let receipt = match Receipt::read(&body) {
        Ok(receipt) => receipt,
        Err(refusal) => return refused(&refusal),
    };
    let order = intake.plan.order(receipt);
    let id = order.id();
    match start(&intake, order).await {
        Ok(()) => (StatusCode::ACCEPTED, Json(json!({"id": id}))).into_response(),
        Err(NotStarted(reason)) => {
            tracing::warn!(reason, "Temporal did not accept a workflow");
            let retry = [(header::RETRY_AFTER, "1")];
            let detail = json!({"detail": "Temporal does not accept it"});
            (StatusCode::SERVICE_UNAVAILABLE, retry, Json(detail)).into_response()
        }
    }
}

async fn start(intake: &Intake, order: Order) -> Result<(), NotStarted> {
    let options = WorkflowStartOptions::new(RECEIPTS, order.id())
        // For as long as the namespace keeps what has ended.
        .id_reuse_policy(WorkflowIdReusePolicy::RejectDuplicate)
        .enable_eager_workflow_start(intake.eager)
        .build();
    let starting = intake.client.start_workflow(Registration::run, order, options);
    match tokio::time::timeout(START_LIMIT, starting).await {
        Ok(Ok(_) | Err(WorkflowStartError::AlreadyStarted { .. })) => Ok(()),
        Ok(Err(error)) => Err(NotStarted(error.to_string())),
        Err(_) => Err(NotStarted("no answer in time".to_owned())),
    }
}

fn refused(refusal: &Refusal) -> Response {
    let status = match refusal {
        Refusal::NotJson { .. } => StatusCode::BAD_REQUEST,
        Refusal::Faults(_) => StatusCode::UNPROCESSABLE_ENTITY,
    };
    (status, Json(json!({"detail": refusal.to_string()}))).into_response()
}
