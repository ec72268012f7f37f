//! Whether the process lives, and whether it can do its work.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};
use shared::store;

use super::Intake;

/// `GET /healthz`
pub async fn alive() -> StatusCode {
    StatusCode::OK
}

/// `GET /readyz`: what is not ready, if anything.
pub async fn ready(State(intake): State<Arc<Intake>>) -> (StatusCode, Json<Value>) {
    let mut not_ready = Vec::new();
    match tokio::time::timeout(Duration::from_secs(2), store::ping(&intake.pool)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => not_ready.push(format!("postgresql: {error}")),
        Err(_) => not_ready.push("postgresql: no answer in 2 s".to_owned()),
    }
    if !intake.broker.connected() {
        not_ready.push(format!("rabbitmq: {}", intake.broker.error()));
    }
    if intake.stop.is_cancelled() {
        not_ready.push("stopping".to_owned());
    }
    let status = if not_ready.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(json!({ "not_ready": not_ready })))
}
