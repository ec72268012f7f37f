//! Reading what operators did.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::store::audit;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use super::auth::Caller;
use super::{Intake, Problem, paging};

/// What is looked for.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct Sought {
    /// A receipt's or a job's id, or a destination's name.
    target: Option<String>,
    /// The token's name.
    by: Option<String>,
    /// `next` of the page before.
    after: Option<i64>,
    /// 1 to 1000; 100 if it is absent.
    limit: Option<i64>,
}

/// A page of the record, the newest first.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditPage)]
pub struct Page {
    entries: Vec<Entry>,
    /// `after` of the next page; null: there is none.
    next: Option<i64>,
}

/// An action of an operator.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditEntry)]
pub struct Entry {
    id: i64,
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    /// The token's name.
    by: String,
    role: String,
    /// Such as `retry`, `job.start` or `destination.change`.
    action: String,
    /// A receipt's or a job's id, or a destination's name.
    target: String,
    /// Of a job: what it is for.
    #[schema(value_type = Option<Object>)]
    filter: Option<Box<RawValue>>,
    /// How many receipts were moved; of a job that was counted: would be.
    count: i64,
    reason: Option<String>,
    #[schema(value_type = Object)]
    detail: Box<RawValue>,
    /// The trace id of the request, if it had one.
    trace_id: Option<String>,
}

/// Reads the record, the newest first.
#[utoipa::path(get, path = "/v1/audit", params(Sought), responses(
    (status = 200, body = Page), (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem),
    (status = 503, description = "Without a database: see Retry-After", body = Problem),
), security(("bearer" = [])))]
pub async fn page(
    State(intake): State<Arc<Intake>>,
    caller: Caller,
    sought: Result<Query<Sought>, QueryRejection>,
) -> Result<Json<Page>, Problem> {
    caller.may_oversee()?;
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    let Query(sought) = sought.map_err(|error| bad(error.body_text()))?;
    let limit = paging::limit(sought.limit)?;
    if [&sought.target, &sought.by]
        .into_iter()
        .flatten()
        .any(|text| text.contains('\0'))
    {
        return Err(bad("U+0000 stands in no name".to_owned()));
    }
    let found = audit::read(
        &intake.pool,
        audit::Sought {
            target: sought.target.as_deref(),
            who: sought.by.as_deref(),
            before: sought.after,
            limit,
        },
    )
    .await?;
    let next = paging::next(&found, limit, |last| last.id);
    let entries = found.into_iter().map(entry).collect::<Result<_, _>>();
    let unreadable = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the record cannot be read");
    Ok(Json(Page {
        entries: entries.map_err(unreadable)?,
        next,
    }))
}

fn entry(entry: audit::Entry) -> Result<Entry, serde_json::Error> {
    Ok(Entry {
        id: entry.id,
        at: entry.at,
        by: entry.who,
        role: entry.role,
        action: entry.action,
        target: entry.target,
        filter: entry.filter.map(RawValue::from_string).transpose()?,
        count: entry.count,
        reason: entry.reason,
        detail: RawValue::from_string(entry.detail)?,
        trace_id: entry.trace_id,
    })
}
