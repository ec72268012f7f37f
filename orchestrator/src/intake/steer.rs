//! What an operator does to one receipt: judged, moved and put on record in one transaction.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::json;
use shared::store::audit::{self, By, Deed};
use shared::store::{StoreError, read};
use uuid::Uuid;

use super::auth::{Caller, Operator};
use super::why::{Restart, Why, optional, required};
use super::{Intake, Problem};
use crate::steering::{self, Action, Refusal};

type Id = Result<Path<Uuid>, PathRejection>;
type Body = Result<Bytes, BytesRejection>;

/// Makes the timer that a receipt waits for due now. What it counts, its back-off and its budget, goes on as it was.
#[utoipa::path(post, path = "/v1/receipts/{id}/retry", params(("id" = Uuid, Path)), request_body = Why, responses(
    (status = 204, description = "It is due now"), (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem),
    (status = 404, body = Problem), (status = 409, description = "It waits for no timer, or is due", body = Problem), (status = 422, body = Problem),
), security(("bearer" = [])))]
pub async fn retry(
    State(intake): State<Arc<Intake>>,
    operator: Operator,
    id: Id,
    body: Body,
) -> Result<StatusCode, Problem> {
    let id = seen(&intake, &operator, id).await?.id;
    let why: Why = required(body)?;
    act(&intake, id, &Action::Retry, operator.by(Some(why.reason()?))).await
}

/// Cancels a receipt that nobody works on.
#[utoipa::path(post, path = "/v1/receipts/{id}/cancel", params(("id" = Uuid, Path)), request_body = Option<Why>, responses(
    (status = 204, description = "Cancelled"), (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem),
    (status = 404, body = Problem), (status = 422, body = Problem),
    (status = 409, description = "In work, final, registered, or with a call whose outcome is unknown", body = Problem),
), security(("bearer" = [])))]
pub async fn cancel(
    State(intake): State<Arc<Intake>>,
    operator: Operator,
    id: Id,
    body: Body,
) -> Result<StatusCode, Problem> {
    let id = seen(&intake, &operator, id).await?.id;
    act(&intake, id, &Action::Cancel, operator.by(optional(body)?)).await
}

/// Gives a parked receipt another try, with a fresh budget.
#[utoipa::path(post, path = "/v1/receipts/{id}/release", params(("id" = Uuid, Path)), request_body = Option<Why>, responses(
    (status = 204, description = "It waits, due now"), (status = 400, body = Problem), (status = 401, body = Problem),
    (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, description = "It is not parked", body = Problem),
    (status = 422, body = Problem),
), security(("bearer" = [])))]
pub async fn release(
    State(intake): State<Arc<Intake>>,
    operator: Operator,
    id: Id,
    body: Body,
) -> Result<StatusCode, Problem> {
    let id = seen(&intake, &operator, id).await?.id;
    act(&intake, id, &Action::Release, operator.by(optional(body)?)).await
}

/// Opens a rejected receipt again, at the stage that rejected it, on the current pipeline and with other call ids.
#[utoipa::path(post, path = "/v1/receipts/{id}/reopen", params(("id" = Uuid, Path)), request_body = Why, responses(
    (status = 204, description = "It waits, due now"), (status = 400, body = Problem), (status = 401, body = Problem),
    (status = 403, body = Problem), (status = 404, body = Problem), (status = 422, body = Problem),
    (status = 409, description = "It was not rejected, or could be registered twice, or the current pipeline does not have its stage", body = Problem),
), security(("bearer" = [])))]
pub async fn reopen(
    State(intake): State<Arc<Intake>>,
    operator: Operator,
    id: Id,
    body: Body,
) -> Result<StatusCode, Problem> {
    let id = seen(&intake, &operator, id).await?.id;
    let why: Why = required(body)?;
    act(&intake, id, &Action::Reopen, operator.by(Some(why.reason()?))).await
}

/// Lets a receipt that waits or is parked go on with a stage that it has been through, or stands at. What that stage and
/// later ones came to counts no more.
#[utoipa::path(post, path = "/v1/receipts/{id}/restart", params(("id" = Uuid, Path)), request_body = Restart, responses(
    (status = 204, description = "It waits, due now"), (status = 400, body = Problem), (status = 401, body = Problem),
    (status = 403, body = Problem), (status = 404, body = Problem), (status = 422, body = Problem),
    (status = 409, description = "It is in work, or could be registered twice, or has not come as far", body = Problem),
), security(("bearer" = [])))]
pub async fn restart(
    State(intake): State<Arc<Intake>>,
    operator: Operator,
    id: Id,
    body: Body,
) -> Result<StatusCode, Problem> {
    let id = seen(&intake, &operator, id).await?.id;
    let restart: Restart = required(body)?;
    let (reason, stage) = restart.read()?;
    act(&intake, id, &Action::Restart { stage }, operator.by(Some(reason))).await
}

async fn act(intake: &Intake, id: Uuid, action: &Action, by: By) -> Result<StatusCode, Problem> {
    let mut plan = steering::plan(&intake.pool, &intake.versions, action, &[id]).await?;
    let mut transaction = intake.pool.begin().await.map_err(StoreError::from)?;
    if steering::carry_out(&mut transaction, action, &mut plan, &by.who).await? == 1 {
        let deed = Deed {
            action: action.name(),
            target: &id.to_string(),
            filter: None,
            count: 1,
            detail: action
                .stage()
                .map_or_else(|| json!({}), |stage| json!({"stage": stage})),
        };
        audit::record(&mut transaction, &by, deed).await?;
        transaction.commit().await.map_err(StoreError::from)?;
        intake.due.notify_one();
        intake.runner.look();
        tracing::info!(receipt.id = %id, by = by.who, action = action.name(), "steered");
        return Ok(StatusCode::NO_CONTENT);
    }
    let refusal = plan.refused.first().map_or(Refusal::Moved, |(_, refusal)| *refusal);
    Err(match refusal {
        Refusal::Unknown => Problem::not_found(),
        refusal => Problem::new(StatusCode::CONFLICT, refusal.to_string()),
    })
}

/// The receipt, if this caller may see it.
pub(super) async fn seen(intake: &Intake, caller: &Caller, id: Id) -> Result<read::View, Problem> {
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
