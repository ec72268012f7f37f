//! A second external API, whose contract has nothing in common with the fiscal one's.
//!
//! `POST /orange/api/v2/documents/` -> 201 with an empty body (queued), 400 `{"errors": […]}` (the body, or its signature, is
//! bad), 401 (no client certificate), 409 (the id is known, whatever the content), 503 with `Retry-After` (the queue is full).
//! `GET /orange/api/v2/documents/{inn}/status/{id}` -> 202 (in work), 200 (the document), 400 (unknown), 524 (expired before it
//! was processed: to be sent again with another id). Amounts are decimals in roubles, kinds are numbers, the id is the caller's.

mod body;
mod key;

use std::collections::HashMap;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::accepted::{Accepted, Outcome};
use crate::answer::Answer;
use crate::check::OPERATIONS;
use crate::faults::{Fault, Mode};
use crate::money;
use crate::progress::{Progress, Verdict};
pub(crate) use key::PublicKey;

/// What a request to register has beside its body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proof<'a> {
    /// `X-Signature`.
    pub(crate) signature: Option<&'a str>,
    /// The key to check it with, if it is to be checked.
    pub(crate) key: Option<&'a PublicKey>,
}

/// What the API remembers: documents by taxpayer and id.
#[derive(Debug, Default)]
pub(crate) struct Orange(HashMap<(String, String), Document>);

#[derive(Debug)]
struct Document {
    uuid: Uuid,
    reference: String,
    total: u64,
    number: usize,
    at_ms: i64,
    progress: Progress,
}

/// What is told of a document once it is registered.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Registered<'a> {
    id: &'a str,
    #[serde(rename = "deviceSN")]
    device_sn: &'static str,
    fs_number: &'static str,
    document_number: usize,
    shift_number: usize,
    fp: String,
    processed_at: String,
    amount: Option<Box<RawValue>>,
}

impl Orange {
    /// `POST /orange/api/v2/documents/`
    pub(crate) fn register(&mut self, body: &[u8], proof: Proof<'_>, at_ms: i64) -> Outcome {
        let refused = |status, text: &str| Outcome::refused(errors(status, text));
        if proof.key.is_some_and(|key| !key.signed(body, proof.signature)) {
            return refused(
                StatusCode::BAD_REQUEST,
                "the signature is missing or not of these bytes",
            );
        }
        let body::Checked {
            id,
            inn,
            group,
            reference,
            operation,
            total,
        } = match body::check(body) {
            Ok(checked) => checked,
            Err(text) => return refused(StatusCode::BAD_REQUEST, &text),
        };
        let number = self.0.len() + 1;
        let key = (inn, id.clone());
        if self.0.contains_key(&key) {
            return refused(StatusCode::CONFLICT, "a document with this id exists");
        }
        let document = Document {
            uuid: Uuid::new_v4(),
            reference: reference.clone(),
            total,
            number,
            at_ms,
            progress: Progress::begin(),
        };
        let accepted = Accepted {
            uuid: document.uuid,
            reference,
            external_id: id,
            group,
            operation: OPERATIONS[operation].to_owned(),
            total,
        };
        self.0.insert(key, document);
        Outcome {
            answer: Answer::raw(StatusCode::CREATED, "text/plain", ""),
            accepted: Some(accepted),
        }
    }

    /// `GET …/{inn}/status/{id}`. The second part is the registration that has just turned out to have expired.
    pub(crate) fn status(
        &mut self,
        (inn, id): (&str, &str),
        done_after: Duration,
        fault: Option<&Fault>,
    ) -> (Answer, Option<(String, Uuid)>) {
        let found = self.0.get_mut(&(inn.to_owned(), id.to_owned()));
        let Some(document) = found.filter(|known| known.progress.is_visible(fault)) else {
            return (errors(StatusCode::BAD_REQUEST, "no such document"), None);
        };
        let failed = document
            .progress
            .ask(done_after, fault)
            .then(|| (document.reference.clone(), document.uuid));
        let stuck = fault.is_some_and(|fault| fault.mode == Mode::Stuck);
        let answer = match document.progress.verdict() {
            Verdict::Failed(_) => errors(
                expired(),
                "expired before it was processed: send it again with another id",
            ),
            Verdict::Done if !stuck => Answer::ok(&document.registered(id)),
            _ => Answer::raw(StatusCode::ACCEPTED, "text/plain", ""),
        };
        (answer, failed)
    }

    /// The receipt behind a taxpayer's id.
    pub(crate) fn reference(&self, inn: &str, id: &str) -> Option<&str> {
        let document = self.0.get(&(inn.to_owned(), id.to_owned()))?;
        Some(&document.reference)
    }
}

impl Document {
    fn registered<'a>(&self, id: &'a str) -> Registered<'a> {
        let at = OffsetDateTime::from_unix_timestamp(self.at_ms / 1000).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        Registered {
            id,
            device_sn: "1400000000001033",
            fs_number: "9999078900004792",
            document_number: self.number,
            shift_number: self.number / 1000 + 1,
            fp: (1_000_000_000 + self.number).to_string(),
            processed_at: at.format(&Rfc3339).unwrap_or_default(),
            amount: RawValue::from_string(money::decimal(self.total)).ok(),
        }
    }
}

/// There is no room in the queue for so many seconds.
pub(crate) fn full(seconds: u64) -> Answer {
    errors(StatusCode::SERVICE_UNAVAILABLE, "the queue is full").retry_after(Some(HeaderValue::from(seconds)))
}

/// The client showed no certificate.
pub(crate) fn stranger() -> Answer {
    errors(StatusCode::UNAUTHORIZED, "a client certificate is needed")
}

/// The API's shape of an error.
pub(crate) fn errors(status: StatusCode, text: &str) -> Answer {
    Answer::json(status, &json!({"errors": [text]}))
}

fn expired() -> StatusCode {
    StatusCode::from_u16(524).unwrap_or(StatusCode::GATEWAY_TIMEOUT)
}
