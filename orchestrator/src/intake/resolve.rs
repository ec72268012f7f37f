//! What a person found out about a call whose outcome nobody knew.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use shared::stage::attempt;
use shared::store::audit::{self, Deed};
use shared::store::operate::{self, Resolution, Resolved};
use shared::store::{StoreError, load};
use utoipa::ToSchema;
use uuid::Uuid;

use super::auth::Operator;
use super::steer::{conflict, seen};
use super::why::{faultless, reason_fault};
use super::{Intake, Problem};

/// What was found out.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// Whether the call was done there.
    there: bool,
    /// If so: what its success is saved as, such as `{"uuid": "…"}`.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    value: Option<Box<RawValue>>,
    /// How that is known: 1 to 500 characters; it is kept for good, so no personal data.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 500)]
    reason: Option<String>,
}

/// Resolves the call that a parked receipt stands at, or that was accepted before: it is adopted if it is there, and made again
/// if it is not.
#[utoipa::path(post, path = "/v1/receipts/{id}/resolve", params(("id" = Uuid, Path)), request_body = Finding, responses(
    (status = 204, description = "It waits, due now"), (status = 400, body = Problem), (status = 401, body = Problem),
    (status = 403, body = Problem), (status = 404, body = Problem),
    (status = 409, description = "It is not parked at a call whose outcome is unknown", body = Problem),
), security(("bearer" = [])))]
pub async fn resolve(
    State(intake): State<Arc<Intake>>,
    operator: Operator,
    id: Result<Path<Uuid>, PathRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, Problem> {
    let id = seen(&intake, &operator, id).await?.id;
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    let body = body.map_err(|error| bad(error.body_text()))?;
    let finding: Finding = serde_json::from_slice(&body).map_err(|error| bad(error.to_string()))?;
    if finding.reason.is_some() {
        faultless(reason_fault(finding.reason.as_deref()).into_iter().collect())?;
    }
    let nothing = "it is not parked at a call whose outcome is unknown";
    let work = {
        let mut connection = intake.pool.acquire().await.map_err(StoreError::from)?;
        load::works(&mut connection, &[id]).await?.pop()
    };
    let Some(work) = work else {
        return Err(conflict(&intake, id, nothing).await?);
    };
    let pipeline = intake
        .versions
        .get(&work.pipeline)
        .await
        .map_err(|error| Problem::new(StatusCode::CONFLICT, error.to_string()))?;
    // The request that registers, here or before: what it was accepted for may have been lost there.
    let mut upto = pipeline.stages.iter().enumerate().take(work.position + 1).rev();
    let found = upto.find_map(|(at, stage)| Some((at, stage, stage.registers()?)));
    let Some((at, stage, request)) = found else {
        return Err(conflict(&intake, id, nothing).await?);
    };
    let is_behind = at < work.position;
    let resolution = match (finding.there, &finding.value) {
        (true, _) if is_behind => {
            let detail = "it was accepted there: only that it is not there any more can be said of it";
            return Err(Problem::new(StatusCode::CONFLICT, detail));
        }
        (false, None) => Resolution::Absent,
        (true, Some(value)) => Resolution::There {
            value: value.get(),
            registered: request.success_registers(),
        },
        (true, None) => return Err(bad("value: what the call came to is needed".to_owned())),
        (false, Some(_)) => return Err(bad("value: there is none of what is not there".to_owned())),
    };
    let back = i16::try_from(at).unwrap_or(i16::MAX);
    let call_id = attempt::key(&work, stage, request, None);
    let resolved = Resolved {
        id,
        epoch: work.hold.epoch,
        call: (&stage.name, &request.name, &call_id),
        back: is_behind.then(|| (back, stage.destination().unwrap_or_default())),
        by: operator.name(),
    };
    let deed = Deed {
        action: "resolve",
        target: &id.to_string(),
        filter: None,
        count: 1,
        detail: json!({"there": finding.there, "stage": stage.name, "call_id": resolved.call.2}),
    };
    let mut transaction = intake.pool.begin().await.map_err(StoreError::from)?;
    if operate::resolve(&mut *transaction, resolved, resolution).await? {
        audit::record(&mut transaction, &operator.by(finding.reason.clone()), deed).await?;
        transaction.commit().await.map_err(StoreError::from)?;
        intake.due.notify_one();
        tracing::info!(receipt.id = %id, by = operator.name(), there = finding.there, "resolved");
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(conflict(&intake, id, nothing).await?)
}
