//! What fails at present, grouped by what it failed of: the first look of whoever is called at night.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use shared::store::failures::{self, Failed, Kind};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::auth::Caller;
use super::search::storable;
use super::{Intake, Problem};

/// So many of each sort are looked at: the latest.
const MOST: i64 = 5_000;
/// So many groups are shown.
const SHOWN: usize = 200;

/// Receipts that failed alike.
#[derive(Debug, Serialize, ToSchema)]
pub struct FailureGroup {
    /// `parked`, `waiting` for the next attempt, or `rejected`.
    state: String,
    stage: Option<String>,
    /// Why: ids, times and long numbers of it are left out.
    error: Option<String>,
    /// How many of those that were looked at.
    count: i64,
    /// Since when the first of them has stood so.
    #[serde(with = "time::serde::rfc3339")]
    oldest: OffsetDateTime,
    /// And the last.
    #[serde(with = "time::serde::rfc3339")]
    latest: OffsetDateTime,
    /// The id of one of them.
    example: Uuid,
}

/// What fails.
#[derive(Debug, Serialize, ToSchema)]
pub struct Failures {
    /// The most frequent first, 200 at most.
    groups: Vec<FailureGroup>,
    /// How many receipts were looked at.
    examined: i64,
    /// Whether there are more than were looked at, or shown: the latest 5,000 of each sort are.
    more: bool,
}

/// Of which failures.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Of {
    /// Those of a destination; of what was rejected, those at one of its stages in the current pipeline.
    destination: Option<String>,
    /// Those of a stage.
    stage: Option<String>,
}

/// Groups the latest failures by state, stage and error: what is parked, what failed and is tried again, what was rejected.
#[utoipa::path(get, path = "/v1/failures", params(Of), responses(
    (status = 200, body = Failures), (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem),
    (status = 503, description = "Without a database: see Retry-After", body = Problem),
), security(("bearer" = [])))]
pub async fn failures(
    State(intake): State<Arc<Intake>>,
    caller: Caller,
    of: Result<Query<Of>, QueryRejection>,
) -> Result<Json<Failures>, Problem> {
    caller.may_oversee()?;
    let Query(of) = of.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    storable("destination", of.destination.as_deref().unwrap_or_default())?;
    let mut groups = BTreeMap::new();
    let (mut examined, mut more) = (0, false);
    for sample in failures::sample(&intake.pool, of.destination.as_deref(), MOST).await? {
        examined += sample.examined;
        more |= sample.more;
        for kind in sample.kinds {
            let stage = stage(&intake, &kind).await;
            let is_elsewhere =
                sample.failed == Failed::Rejected && !is_at(&intake, stage.as_deref(), of.destination.as_deref());
            if !is_elsewhere && (of.stage.is_none() || of.stage == stage) {
                add(&mut groups, sample.failed, stage, &kind);
            }
        }
    }
    let mut groups: Vec<FailureGroup> = groups.into_values().collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.count));
    more |= groups.len() > SHOWN;
    groups.truncate(SHOWN);
    Ok(Json(Failures { groups, examined, more }))
}

/// The name of the stage it failed at.
async fn stage(intake: &Intake, kind: &Kind) -> Option<String> {
    let Some((version, position)) = &kind.place else {
        return kind.stage.clone();
    };
    let pipeline = intake.versions.get(version).await.ok()?;
    let stage = pipeline.stages.get(usize::try_from(*position).ok()?)?;
    Some(stage.name.clone())
}

/// Whether the current pipeline's stage of that name calls that destination.
fn is_at(intake: &Intake, stage: Option<&str>, destination: Option<&str>) -> bool {
    let mut stages = intake.versions.current().stages.iter();
    destination.is_none()
        || stages.any(|known| Some(known.name.as_str()) == stage && known.destination() == destination)
}

type Groups = BTreeMap<(&'static str, Option<String>, Option<String>), FailureGroup>;

fn add(groups: &mut Groups, failed: Failed, stage: Option<String>, kind: &Kind) {
    let word = match failed {
        Failed::Parked => "parked",
        Failed::Retried => "waiting",
        Failed::Rejected => "rejected",
    };
    let error = kind.reason.as_deref().map(gist);
    groups
        .entry((word, stage.clone(), error.clone()))
        .and_modify(|group| {
            group.count += kind.count;
            group.oldest = group.oldest.min(kind.oldest);
            group.latest = group.latest.max(kind.latest);
        })
        .or_insert(FailureGroup {
            state: word.to_owned(),
            stage,
            error,
            count: kind.count,
            oldest: kind.oldest,
            latest: kind.latest,
            example: kind.example,
        });
}

/// An error without what differs from receipt to receipt: words of four digits or more. A status stays.
fn gist(reason: &str) -> String {
    let is_of_word = |letter: char| letter.is_alphanumeric() || matches!(letter, '-' | '_' | '/' | '.' | ':' | '+');
    let mut gist = String::with_capacity(reason.len());
    let mut rest = reason;
    while let Some(letter) = rest.chars().next() {
        let end = rest
            .find(|next: char| is_of_word(next) != is_of_word(letter))
            .unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let digits = word.bytes().filter(u8::is_ascii_digit).count();
        gist.push_str(if digits < 4 { word } else { "…" });
        rest = after;
    }
    gist
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_receipt_to_receipt_is_left_out() {
        for (reason, expected) in [
            ("fiscal answered 503", "fiscal answered 503"),
            (
                "answered 429 at 2026-11-25T12:00:00Z; later",
                "answered 429 at …; later",
            ),
            ("unknown order 0199-aa11/7 (\"№ 12345\")", "unknown order … (\"№ …\")"),
            ("код 33: чек 1234567 уже есть", "код 33: чек … уже есть"),
            ("", ""),
        ] {
            assert_eq!(gist(reason), expected);
        }
        let ids = [
            "018f3c1a-77aa-7bbb-8ccc-1234567890ab",
            "018f3c1a-77aa-7bbb-8ccc-000000000001",
        ];
        assert_eq!(gist(ids[0]), gist(ids[1]));
    }

    #[test]
    fn groups_take_in_what_differs_only_in_that() {
        let kind = |reason: &str, count, at| Kind {
            place: None,
            stage: None,
            reason: Some(reason.to_owned()),
            count,
            oldest: at,
            latest: at,
            example: Uuid::nil(),
        };
        let (first, last) = (
            OffsetDateTime::UNIX_EPOCH,
            OffsetDateTime::UNIX_EPOCH + time::Duration::HOUR,
        );
        let mut groups = Groups::new();
        add(&mut groups, Failed::Parked, None, &kind("receipt 10001", 2, last));
        add(&mut groups, Failed::Parked, None, &kind("receipt 10002", 3, first));
        add(&mut groups, Failed::Rejected, None, &kind("receipt 10003", 4, first));
        let counts: Vec<_> = groups
            .values()
            .map(|group| (group.count, group.oldest, group.latest))
            .collect();
        assert_eq!(counts, [(5, first, last), (4, first, first)]);
    }
}
