//! Finding receipts: by their key, or by anything else that is known of them.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use shared::store::read::{self as stored, View};
use shared::store::search::{self, Bounds, Cursor, Filter, Order};
use shared::telemetry::TraceContext;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::auth::Caller;
use super::read::{self, Page};
use super::reason::reason;
use super::{Intake, Problem};

/// Receipts of a page, if nothing else is said, and at most.
const LIMIT: (usize, usize) = (50, 200);
/// Entries of an index that are looked at for a page.
const EXAMINE: usize = 1000;

/// A receipt as a list shows it.
#[derive(Serialize, ToSchema)]
pub struct Summary {
    id: Uuid,
    merchant: String,
    external_id: String,
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
    /// Since when it has stood as it stands, while it is open.
    #[serde(with = "time::serde::rfc3339::option")]
    moved_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    finished_at: Option<OffsetDateTime>,
    trace_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_url: Option<String>,
}

/// A page of what was searched for. It may be short, or empty, and have a next one: so many were looked at.
#[derive(Serialize, ToSchema)]
pub struct Summaries {
    receipts: Vec<Summary>,
    /// `after` of the next page; null: this was the last.
    next: Option<String>,
}

/// A receipt by its key, whole; or a page.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub enum Found {
    /// By merchant and external id alone.
    Whole(Page),
    /// By anything else.
    Page(Summaries),
}

/// Which page.
#[derive(Debug, Default, PartialEq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Paging {
    /// Receipts of a page: 1 to 200, 50 if it is absent.
    limit: Option<usize>,
    /// `next` of the page before.
    after: Option<String>,
}

/// Finds receipts. `merchant` and `external_id` alone answer that receipt whole; anything else answers a page of summaries,
/// along one index, of a bounded number of entries that were looked at: a page may be short, or empty, while `next` is
/// there. How many there are in all is never counted.
#[utoipa::path(get, path = "/v1/receipts", params(Filter, Paging), responses(
    (status = 200, body = Found), (status = 400, description = "Every mistake of the query", body = Problem), (status = 401, body = Problem),
    (status = 503, description = "Without a database: see Retry-After", body = Problem),
), security(("bearer" = [])))]
pub async fn receipts(
    State(intake): State<Arc<Intake>>,
    caller: Caller,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Result<Json<Found>, Problem> {
    let Query(pairs) = query.map_err(|_| bad("the query cannot be read"))?;
    let (mut filter, paging) = asked(pairs)?;
    narrow(&mut filter, &caller)?;
    if let Filter {
        merchant: Some(merchant),
        external_id: Some(external_id),
        ..
    } = &filter
    {
        let key = Filter {
            merchant: Some(merchant.clone()),
            external_id: Some(external_id.clone()),
            ..Filter::default()
        };
        if filter == key && paging == Paging::default() {
            return Ok(Json(Found::Whole(
                read::by_key(&intake, &caller, merchant, external_id).await?,
            )));
        }
    }
    if filter.merchant.as_ref().is_some_and(|merchant| !caller.sees(merchant)) {
        let (receipts, next) = (Vec::new(), None);
        return Ok(Json(Found::Page(Summaries { receipts, next })));
    }
    let after = match &paging.after {
        Some(word) => Some(cursor(word, &filter)?),
        None => None,
    };
    let filter = filter.fixed(OffsetDateTime::now_utc());
    let bounds = Bounds {
        examine: EXAMINE,
        most: paging.limit.unwrap_or(LIMIT.0),
    };
    let window = search::window(&intake.pool, &intake.versions, &filter, Order::Nearest, after, bounds).await?;
    let mut receipts = Vec::with_capacity(window.ids.len());
    for receipt in stored::several(&intake.pool, &window.ids).await? {
        receipts.push(summary(&intake, receipt).await);
    }
    Ok(Json(Found::Page(Summaries {
        receipts,
        next: window.next.map(|next| next.word()),
    })))
}

async fn summary(intake: &Intake, receipt: View) -> Summary {
    let stand = read::stand(intake, &receipt).await;
    let trace = TraceContext {
        traceparent: receipt.traceparent.clone(),
        tracestate: None,
    };
    Summary {
        id: receipt.id,
        reason: reason(&receipt, stand.shut()),
        state: receipt.state,
        stage: stand.stage.or(receipt.last_stage),
        merchant: receipt.merchant,
        external_id: receipt.external_id,
        destination: receipt.destination.filter(|destination| !destination.is_empty()),
        due_at: receipt.due_at,
        deadline: receipt.deadline,
        accepted_at: receipt.accepted_at,
        moved_at: receipt.moved_at,
        finished_at: receipt.finished_at,
        trace_url: intake.trace_url(trace.trace_id()),
        trace_id: trace.trace_id().to_owned(),
    }
}

/// Reads a query: every member alone first, since serde stops at the first that is wrong.
fn asked(pairs: Vec<(String, String)>) -> Result<(Filter, Paging), Problem> {
    let (mut members, mut paging, mut wrong) = (Map::new(), Paging::default(), Vec::new());
    for (name, value) in pairs {
        match name.as_str() {
            "limit" => match value.parse() {
                Ok(limit) if (1..=LIMIT.1).contains(&limit) => paging.limit = Some(limit),
                _ => wrong.push(format!("limit: 1 to {}", LIMIT.1)),
            },
            _ if value.contains('\0') => wrong.push(format!("{name}: {NUL}")),
            "after" => paging.after = Some(value),
            _ if members.contains_key(&name) => wrong.push(format!("{name}: is there twice")),
            _ => {
                let alone = Map::from_iter([(name.clone(), Value::String(value.clone()))]);
                if let Err(error) = serde_json::from_value::<Filter>(Value::Object(alone)) {
                    wrong.push(format!("{name}: {error}"));
                }
                members.insert(name, Value::String(value));
            }
        }
    }
    if wrong.is_empty() {
        let filter: Filter = serde_json::from_value(Value::Object(members)).map_err(|error| bad(&error.to_string()))?;
        if let Some((name, mistake)) = filter.mistake() {
            wrong.push(format!("{name}: {mistake}"));
        } else {
            return Ok((filter, paging));
        }
    }
    Err(bad(&wrong.join("; ")))
}

/// What PostgreSQL holds in no text.
const NUL: &str = "U+0000 is in it";

/// Refuses text that can be in no column.
pub(super) fn storable(name: &str, value: &str) -> Result<(), Problem> {
    if value.contains('\0') {
        Err(bad(&format!("{name}: {NUL}")))
    } else {
        Ok(())
    }
}

/// Leaves no more than the caller may see.
fn narrow(filter: &mut Filter, caller: &Caller) -> Result<(), Problem> {
    if filter.merchant.is_none() {
        match caller.only() {
            None => {}
            Some([one]) => filter.merchant = Some(one.clone()),
            Some(_) => return Err(bad("merchant: is needed, since this token is for some alone")),
        }
    }
    Ok(())
}

fn cursor(word: &str, filter: &Filter) -> Result<Cursor, Problem> {
    let cursor = Cursor::read(word).filter(|cursor| cursor.fits(filter, Order::Nearest));
    cursor.ok_or_else(|| bad("after: is not the next of a page of this search"))
}

fn bad(detail: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(given: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        given.iter().map(owned).collect()
    }

    #[test]
    fn a_query_is_a_filter_and_a_page() {
        let (filter, paging) = asked(pairs(&[
            ("state", "waiting"),
            ("limit", "200"),
            ("older_than", "1h 30m"),
            ("after", "x"),
        ]))
        .unwrap();
        assert_eq!(filter.state, Some(search::State::Waiting));
        assert_eq!(filter.older_than, Some(std::time::Duration::from_mins(90)));
        assert_eq!((paging.limit, paging.after.as_deref()), (Some(200), Some("x")));
        assert!(cursor("x", &filter).is_err());
        assert_eq!(asked(Vec::new()).unwrap(), (Filter::default(), Paging::default()));
    }

    #[test]
    fn every_mistake_of_a_query_is_named() {
        for (query, named) in [
            (
                vec![("state", "lost"), ("limit", "0"), ("colour", "red")],
                vec!["state: ", "limit: ", "colour: "],
            ),
            (
                vec![("limit", "201"), ("older_than", "long")],
                vec!["limit: ", "older_than: "],
            ),
            (vec![("stage", "a"), ("stage", "b")], vec!["stage: is there twice"]),
            (vec![("external_id", "e")], vec!["external_id: only with a merchant"]),
            (vec![("merchant", "m\0")], vec!["merchant: U+0000"]),
        ] {
            let problem = serde_json::to_value(asked(pairs(&query)).unwrap_err()).unwrap();
            for name in named {
                assert!(problem["detail"].as_str().unwrap().contains(name), "{problem}");
            }
            assert_eq!(problem["status"], 400);
        }
    }
}
