//! What an operator does to one receipt.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use shared::store::{operate, read};
use uuid::Uuid;

use super::auth::Caller;
use super::{Intake, Problem};

/// Cancels a receipt that nobody works on.
#[utoipa::path(post, path = "/v1/receipts/{id}/cancel", params(("id" = Uuid, Path)), responses(
    (status = 204, description = "Cancelled"), (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem),
    (status = 409, description = "In work, final, registered, or with a call whose outcome is unknown", body = Problem),
), security(("bearer" = [])))]
pub async fn cancel(
    State(intake): State<Arc<Intake>>,
    caller: Caller,
    id: Result<Path<Uuid>, PathRejection>,
) -> Result<StatusCode, Problem> {
    caller.may_steer()?;
    let id = seen(&intake, &caller, id).await?.id;
    if operate::cancel(&intake.pool, id, &format!("cancelled by {}", caller.name())).await? {
        tracing::info!(receipt.id = %id, by = caller.name(), "cancelled");
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(conflict(
        &intake,
        id,
        "it is in work, or final, or a call for it is unresolved or was registered",
    )
    .await?)
}

/// Gives a parked receipt another try.
#[utoipa::path(post, path = "/v1/receipts/{id}/release", params(("id" = Uuid, Path)), responses(
    (status = 204, description = "It waits, due now"), (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem),
    (status = 409, description = "It is not parked", body = Problem),
), security(("bearer" = [])))]
pub async fn release(
    State(intake): State<Arc<Intake>>,
    caller: Caller,
    id: Result<Path<Uuid>, PathRejection>,
) -> Result<StatusCode, Problem> {
    caller.may_steer()?;
    let receipt = seen(&intake, &caller, id).await?;
    let id = receipt.id;
    let pipeline = intake
        .versions
        .get(&receipt.pipeline)
        .await
        .map_err(|error| Problem::new(StatusCode::CONFLICT, error.to_string()))?;
    let position = usize::try_from(receipt.position.unwrap_or_default()).unwrap_or_default();
    let external = pipeline
        .stages
        .get(position)
        .is_some_and(|stage| stage.destination().is_some());
    if operate::release(&intake.pool, id, external).await? {
        tracing::info!(receipt.id = %id, by = caller.name(), "released");
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(conflict(&intake, id, "it is not parked").await?)
}

/// The receipt, if this caller may see it.
pub(super) async fn seen(
    intake: &Intake,
    caller: &Caller,
    id: Result<Path<Uuid>, PathRejection>,
) -> Result<read::View, Problem> {
    let Path(id) = id.map_err(|_| Problem::not_found())?;
    read::receipt(&intake.pool, id)
        .await?
        .filter(|receipt| caller.sees(&receipt.merchant))
        .ok_or_else(Problem::not_found)
}

/// Why nothing was done to a receipt.
pub(super) async fn conflict(intake: &Intake, id: Uuid, detail: &str) -> Result<Problem, Problem> {
    Ok(match read::state(&intake.pool, id).await? {
        Some(_) => Problem::new(StatusCode::CONFLICT, detail),
        None => Problem::not_found(),
    })
}
