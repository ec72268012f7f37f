//! What became of a merchant's receipts of a day: for each external id exactly one line, with the document that was
//! registered, or with what stands in the way of one. Written as it is read.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::store::StoreError;
use shared::store::export::{self, Line, Stretch};
use time::format_description::well_known::Rfc3339;
use time::{Date, OffsetDateTime};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::auth::Caller;
use super::search::storable;
use super::{Intake, Problem};

/// Receipts that are looked at for one piece of the answer.
const WINDOW: i64 = 1000;

/// Of whom, of when, and how.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Wanted {
    /// Merchant id.
    merchant: String,
    /// The day in UTC that they were accepted on, such as `2026-11-25`.
    day: String,
    /// `jsonl` if it is absent.
    #[serde(default)]
    format: Format,
}

/// How lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One JSON object a line.
    #[default]
    Jsonl,
    /// With a line of names.
    Csv,
}

/// One line.
#[derive(Debug, Serialize, ToSchema)]
pub struct Exported {
    merchant: String,
    external_id: String,
    id: Uuid,
    #[serde(rename = "type")]
    kind: String,
    total: i64,
    #[serde(with = "time::serde::rfc3339")]
    accepted_at: OffsetDateTime,
    state: String,
    #[serde(with = "time::serde::rfc3339::option")]
    finished_at: Option<OffsetDateTime>,
    /// What was registered: the results of the stage that registers and of those behind it. Null: it is an exception.
    #[schema(value_type = Option<Object>)]
    document: Option<BTreeMap<String, Box<RawValue>>>,
    /// Why it has no document. Null: it is registered.
    exception: Option<String>,
}

/// Exports a merchant's receipts of a day, as they stand now: wait until the day is over. An answer that breaks off is not whole.
#[utoipa::path(get, path = "/v1/export", params(Wanted), responses(
    (status = 200, description = "One line a receipt", content((Exported = "application/jsonl"), (String = "text/csv"))),
    (status = 400, body = Problem), (status = 401, body = Problem), (status = 403, body = Problem),
    (status = 503, description = "Without a database: see Retry-After", body = Problem),
), security(("bearer" = [])))]
pub async fn export(
    State(intake): State<Arc<Intake>>,
    caller: Caller,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Problem> {
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    let Query(wanted) = wanted.map_err(|error| bad(error.body_text()))?;
    if !caller.sees(&wanted.merchant) {
        return Err(Problem::forbidden("this token may not see this merchant"));
    }
    storable("merchant", &wanted.merchant)?;
    let day = day(&wanted.day).ok_or_else(|| bad("day: a day such as 2026-11-25 is needed".to_owned()))?;
    let next = day.next_day().unwrap_or(Date::MAX);
    let stretch = export::stretch(day.midnight().assume_utc(), next.midnight().assume_utc());
    let format = wanted.format;
    let mut pieces = Pieces {
        intake,
        merchant: wanted.merchant,
        format,
        rest: Some(stretch),
    };
    // The first piece before the status: a database that does not answer is said as everywhere.
    let mut first = format.head()?;
    if let Some(piece) = pieces.next().await? {
        first.extend_from_slice(&piece);
    }
    let rest = stream::try_unfold(pieces, async |mut pieces| {
        let piece = pieces
            .next()
            .await
            .inspect_err(|error| tracing::warn!(%error, "an export broke off"))?;
        Ok::<_, Broken>(piece.map(|piece| (Bytes::from(piece), pieces)))
    });
    let body = stream::StreamExt::chain(stream::once(async { Ok::<_, Broken>(Bytes::from(first)) }), rest);
    let (media, ending) = match format {
        Format::Jsonl => ("application/jsonl", "jsonl"),
        Format::Csv => ("text/csv; charset=utf-8; header=present", "csv"),
    };
    let name = format!("attachment; filename=\"receipts-{day}.{ending}\"");
    let headers = [
        (header::CONTENT_TYPE, media.to_owned()),
        (header::CONTENT_DISPOSITION, name),
    ];
    Ok((headers, Body::from_stream(body)).into_response())
}

/// Why an export broke off.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a line could not be written: {0}")]
    Json(#[from] serde_json::Error),
    #[error("a line could not be written: {0}")]
    Csv(#[from] csv::Error),
    #[error("a line could not be written: {0}")]
    Written(#[from] std::io::Error),
}

impl From<Broken> for Problem {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Store(error) => error.into(),
            other => Self::new(StatusCode::INTERNAL_SERVER_ERROR, other.to_string()),
        }
    }
}

/// What is yet to be written.
struct Pieces {
    intake: Arc<Intake>,
    merchant: String,
    format: Format,
    rest: Option<Stretch>,
}

impl Pieces {
    /// The lines of the next window; `None` at the end.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, Broken> {
        let Some(stretch) = self.rest else { return Ok(None) };
        let (lines, rest) = export::window(&self.intake.pool, &self.merchant, stretch, WINDOW).await?;
        self.rest = rest;
        let mut written = Vec::with_capacity(lines.len());
        for line in lines {
            written.push(self.exported(line).await?);
        }
        self.format.write(&written).map(Some)
    }

    async fn exported(&self, line: Line) -> Result<Exported, Broken> {
        let is_registered = line.state == "registered";
        let document = if is_registered {
            Some(document(&self.documented(&line.pipeline).await, line.results)?)
        } else {
            None
        };
        let exception = (!is_registered).then(|| match line.reason {
            Some(reason) => format!("{}: {reason}", line.state),
            None => line.state.clone(),
        });
        Ok(Exported {
            merchant: self.merchant.clone(),
            external_id: line.external_id,
            id: line.id,
            kind: line.kind,
            total: line.total,
            accepted_at: line.accepted_at,
            state: line.state,
            finished_at: line.finished_at,
            document,
            exception,
        })
    }

    /// The stages whose results are the document: from the one that registers on. None where the pipeline cannot be read any
    /// more: then all are.
    async fn documented(&self, version: &str) -> Vec<String> {
        let Ok(pipeline) = self.intake.versions.get(version).await else {
            return Vec::new();
        };
        let stages = pipeline.stages.iter().skip_while(|stage| stage.registers().is_none());
        stages.map(|stage| stage.name.clone()).collect()
    }
}

fn document(stages: &[String], results: Vec<(String, String)>) -> Result<BTreeMap<String, Box<RawValue>>, Broken> {
    let results = results
        .into_iter()
        .filter(|(stage, _)| stages.is_empty() || stages.contains(stage));
    results
        .map(|(stage, value)| Ok((stage, RawValue::from_string(value)?)))
        .collect()
}

/// The names of the columns.
const COLUMNS: [&str; 10] = [
    "merchant",
    "external_id",
    "id",
    "type",
    "total",
    "accepted_at",
    "state",
    "finished_at",
    "document",
    "exception",
];

impl Format {
    /// What stands before the first line.
    fn head(self) -> Result<Vec<u8>, Broken> {
        match self {
            Self::Jsonl => Ok(Vec::new()),
            Self::Csv => {
                let mut writer = csv::Writer::from_writer(Vec::new());
                writer.write_record(COLUMNS)?;
                finished(writer)
            }
        }
    }

    fn write(self, lines: &[Exported]) -> Result<Vec<u8>, Broken> {
        if self == Self::Jsonl {
            let mut text = Vec::new();
            for line in lines {
                serde_json::to_writer(&mut text, line)?;
                text.push(b'\n');
            }
            return Ok(text);
        }
        let mut writer = csv::Writer::from_writer(Vec::new());
        for line in lines {
            let at = |at: OffsetDateTime| at.format(&Rfc3339).unwrap_or_default();
            let document = line.document.as_ref().map(serde_json::to_string).transpose()?;
            writer.write_record([
                &line.merchant,
                &line.external_id,
                &line.id.to_string(),
                &line.kind,
                &line.total.to_string(),
                &at(line.accepted_at),
                &line.state,
                &line.finished_at.map(at).unwrap_or_default(),
                &document.unwrap_or_default(),
                line.exception.as_deref().unwrap_or_default(),
            ])?;
        }
        finished(writer)
    }
}

fn finished(writer: csv::Writer<Vec<u8>>) -> Result<Vec<u8>, Broken> {
    writer.into_inner().map_err(|error| Broken::Written(error.into_error()))
}

fn day(text: &str) -> Option<Date> {
    Date::parse(text, time::macros::format_description!("[year]-[month]-[day]")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(external_id: &str, document: Option<&str>) -> Exported {
        let results = document.map(|value| {
            vec![
                ("tax".to_owned(), "{}".to_owned()),
                ("register".to_owned(), value.to_owned()),
            ]
        });
        Exported {
            merchant: "m-1".to_owned(),
            external_id: external_id.to_owned(),
            id: Uuid::nil(),
            kind: "income".to_owned(),
            total: 7,
            accepted_at: OffsetDateTime::UNIX_EPOCH,
            state: if document.is_some() { "registered" } else { "parked" }.to_owned(),
            finished_at: None,
            document: results.map(|results| super::document(&["register".to_owned()], results).unwrap()),
            exception: document.is_none().then(|| "parked: \"why\", and\nmore".to_owned()),
        }
    }

    #[test]
    fn lines_are_read_back_as_they_were() {
        let lines = [line("a,\"б\"", Some(r#"{"send": {"uuid": "u"}}"#)), line("b", None)];
        let text = String::from_utf8(Format::Jsonl.write(&lines).unwrap()).unwrap();
        let read: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(
            read[0]["document"],
            serde_json::json!({"register": {"send": {"uuid": "u"}}})
        );
        assert_eq!(
            (&read[1]["document"], read[1]["exception"].is_string()),
            (&serde_json::Value::Null, true)
        );

        let text = [Format::Csv.head().unwrap(), Format::Csv.write(&lines).unwrap()].concat();
        let mut reader = csv::Reader::from_reader(text.as_slice());
        assert_eq!(reader.headers().unwrap(), COLUMNS.to_vec());
        let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        assert_eq!(
            (&rows[0][1], &rows[0][8]),
            ("a,\"б\"", r#"{"register":{"send": {"uuid": "u"}}}"#)
        );
        assert_eq!((&rows[1][6], &rows[1][9]), ("parked", "parked: \"why\", and\nmore"));
    }

    #[test]
    fn a_day_is_a_day() {
        assert_eq!(day("2026-11-25"), Some(time::macros::date!(2026 - 11 - 25)));
        for wrong in ["", "2026-11-31", "25.11.2026", "2026-11-25T00:00:00Z"] {
            assert_eq!(day(wrong), None, "{wrong}");
        }
    }
}
