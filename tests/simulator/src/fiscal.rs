//! The fiscal API: tokens, registrations, reports, documents and look-ups.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::format_description;
use uuid::Uuid;

use crate::accepted::{Accepted, Outcome};
use crate::answer::Answer;
use crate::check::{self, OPERATIONS};
use crate::faults::{Fault, Mode};
use crate::progress::{Progress, Verdict};
use crate::settings::Settings;
use crate::ways::Milestone;

/// What the API remembers.
#[derive(Debug, Default)]
pub(crate) struct Fiscal {
    by_uuid: HashMap<Uuid, Registered>,
    /// The latest registration of each external id, by group.
    by_id: HashMap<String, HashMap<String, Uuid>>,
    tokens: HashMap<String, Instant>,
}

/// One accepted registration.
#[derive(Debug)]
struct Registered {
    reference: String,
    external_id: String,
    group: String,
    operation: String,
    total: u64,
    content: [u8; 32],
    number: usize,
    at_ms: i64,
    progress: Progress,
}

impl Fiscal {
    /// Forgets the registrations, not the tokens.
    pub(crate) fn forget(&mut self) {
        self.by_uuid.clear();
        self.by_id.clear();
    }

    /// A new token.
    pub(crate) fn token(&mut self, settings: &Settings, at_ms: i64) -> Answer {
        let token = Uuid::new_v4().simple().to_string();
        let answer = json!({
            "token": token,
            "expires_in": settings.token_ttl_s,
            "timestamp": timestamp(at_ms),
            "error": null,
        });
        self.tokens.insert(token, Instant::now());
        Answer::ok(&answer)
    }

    /// Every token that was given and not revoked.
    pub(crate) fn tokens(&self) -> Vec<&str> {
        self.tokens.keys().map(String::as_str).collect()
    }

    /// Makes every token unknown.
    pub(crate) fn revoke(&mut self) {
        self.tokens.clear();
    }

    /// Is the token one that was given and is still good?
    pub(crate) fn knows(&self, token: Option<&str>, settings: &Settings) -> bool {
        let given = token.and_then(|token| self.tokens.get(token));
        given.is_some_and(|at| at.elapsed() < Duration::from_secs(settings.token_ttl_s))
    }

    /// `POST /fiscal/v4/{group}/{operation}`
    pub(crate) fn register(
        &mut self,
        group: &str,
        operation: &str,
        body: &[u8],
        settings: &Settings,
        at_ms: i64,
    ) -> Outcome {
        let refused = |code, text: &str| Outcome::refused(Answer::error(StatusCode::BAD_REQUEST, code, "data", text));
        if !OPERATIONS.contains(&operation) {
            return refused(31, &format!("no such operation: {operation}"));
        }
        let Ok(value) = serde_json::from_slice::<Value>(body) else {
            return refused(32, "not JSON");
        };
        let check::Body {
            external_id,
            reference,
            receipt,
            ..
        } = match check::check(&value) {
            Ok(body) => body,
            Err(text) => return refused(32, &text),
        };
        let content = check::canonical_hash(&value);
        if settings.idempotent
            && let Some(uuid) = self.by_id.get(group).and_then(|ids| ids.get(&external_id))
            && let Some(known) = self.by_uuid.get(uuid)
        {
            if known.content != content || known.operation != operation {
                return refused(35, &format!("external_id {external_id} exists with other content"));
            }
            let text = format!("a receipt with external_id {external_id} exists");
            let error = json!({"code": 33, "text": text, "type": "system"});
            return Outcome::refused(waiting(uuid, &error, at_ms));
        }
        let uuid = Uuid::new_v4();
        let registered = Registered {
            reference: reference.clone(),
            external_id: external_id.clone(),
            group: group.to_owned(),
            operation: operation.to_owned(),
            total: receipt.total,
            content,
            number: self.by_uuid.len() + 1,
            at_ms,
            progress: Progress::begin(),
        };
        self.by_uuid.insert(uuid, registered);
        self.by_id
            .entry(group.to_owned())
            .or_default()
            .insert(external_id.clone(), uuid);
        let accepted = Accepted {
            uuid,
            reference,
            external_id,
            group: group.to_owned(),
            operation: operation.to_owned(),
            total: receipt.total,
        };
        Outcome {
            answer: waiting(&uuid, &Value::Null, at_ms),
            accepted: Some(accepted),
        }
    }

    /// `GET …/report/{uuid}`. The second part is the registration that has just turned out to have failed.
    pub(crate) fn report(
        &mut self,
        (group, uuid): (&str, &str),
        settings: &Settings,
        fault: Option<&Fault>,
    ) -> (Answer, Option<(String, Uuid)>) {
        let found = Uuid::try_parse(uuid)
            .ok()
            .and_then(|uuid| Some((uuid, self.by_uuid.get_mut(&uuid)?)));
        let Some((uuid, registered)) = found.filter(|(_, known)| known.is_visible(group, fault)) else {
            return (not_found(), None);
        };
        let failed = registered
            .progress
            .ask(settings.done_after(), fault)
            .then(|| (registered.reference.clone(), uuid));
        let stuck = fault.is_some_and(|fault| fault.mode == Mode::Stuck);
        let is_done = !stuck && *registered.progress.verdict() == Verdict::Done;
        let answer = Answer::ok(&registered.report(&uuid, stuck));
        (answer.reaching(is_done.then_some(Milestone::Done)), failed)
    }

    /// `GET …/document/{uuid}`, which is there once the registration is done.
    pub(crate) fn document(&self, group: &str, uuid: &str, settings: &Settings, fault: Option<&Fault>) -> Answer {
        let found = Uuid::try_parse(uuid).ok().and_then(|uuid| self.by_uuid.get(&uuid));
        match found.filter(|known| known.is_visible(group, fault) && known.progress.is_done(settings.done_after())) {
            Some(known) => Answer::ok(&json!({
                "uuid": uuid,
                "external_id": known.external_id,
                "url": format!("https://receipts.example/{uuid}"),
                "document": known.payload(),
                "error": null,
            })),
            None => not_found(),
        }
    }

    /// `GET …/by-id/{external_id}`
    pub(crate) fn look_up(&self, group: &str, external_id: &str, settings: &Settings, fault: Option<&Fault>) -> Answer {
        let uuid = self.by_id.get(group).and_then(|ids| ids.get(external_id));
        let found = uuid.and_then(|uuid| Some((uuid, self.by_uuid.get(uuid)?)));
        match found.filter(|(_, known)| known.is_visible(group, fault)) {
            Some((uuid, known)) => {
                let status = match known.progress.verdict() {
                    Verdict::Failed(_) => "fail",
                    _ if known.progress.is_done(settings.done_after()) => "done",
                    _ => "wait",
                };
                Answer::ok(&json!({
                    "uuid": uuid,
                    "external_id": known.external_id,
                    "reference": known.reference,
                    "operation": known.operation,
                    "total": known.total,
                    "status": status,
                    "timestamp": timestamp(known.at_ms),
                    "error": null,
                }))
            }
            None => not_found(),
        }
    }

    /// The receipt behind a uuid.
    pub(crate) fn reference_of_uuid(&self, uuid: &str) -> Option<&str> {
        let registered = self.by_uuid.get(&Uuid::try_parse(uuid).ok()?)?;
        Some(&registered.reference)
    }

    /// The receipt behind an external id.
    pub(crate) fn reference_of_id(&self, group: &str, external_id: &str) -> Option<&str> {
        let uuid = self.by_id.get(group)?.get(external_id)?;
        Some(&self.by_uuid.get(uuid)?.reference)
    }
}

impl Registered {
    fn is_visible(&self, group: &str, fault: Option<&Fault>) -> bool {
        self.group == group && self.progress.is_visible(fault)
    }

    fn report(&self, uuid: &Uuid, stuck: bool) -> Value {
        let (status, error, payload) = match self.progress.verdict() {
            Verdict::Failed(kind) => {
                let error = json!({"code": 1, "text": "the cash register could not process it", "type": kind});
                ("fail", error, Value::Null)
            }
            Verdict::Done if !stuck => ("done", Value::Null, self.payload()),
            _ => ("wait", Value::Null, Value::Null),
        };
        json!({
            "uuid": uuid,
            "status": status,
            "error": error,
            "payload": payload,
            "timestamp": timestamp(self.at_ms),
        })
    }

    fn payload(&self) -> Value {
        json!({
            "ecr_registration_number": "0000000001002292",
            "fn_number": "9999078900004792",
            "fiscal_document_number": self.number,
            "fiscal_document_attribute": 1_000_000_000 + self.number,
            "fiscal_receipt_number": self.number % 1000 + 1,
            "shift_number": self.number / 1000 + 1,
            "receipt_datetime": timestamp(self.at_ms),
            "total": self.total,
        })
    }
}

fn waiting(uuid: &Uuid, error: &Value, at_ms: i64) -> Answer {
    Answer::ok(&json!({"uuid": uuid, "status": "wait", "error": error, "timestamp": timestamp(at_ms)}))
}

fn not_found() -> Answer {
    Answer::error(StatusCode::NOT_FOUND, 34, "system", "no such receipt, or not yet")
}

fn timestamp(at_ms: i64) -> String {
    let at = OffsetDateTime::from_unix_timestamp(at_ms / 1000).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    at.format(format_description!("[day].[month].[year] [hour]:[minute]:[second]"))
        .unwrap_or_default()
}
