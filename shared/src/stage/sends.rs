//! Requests that register: their bytes are stored before the first send, and the record is read before any repeat.

use sqlx::PgPool;

use super::Unmade;
use super::attempt::{Attempt, key};
use super::call::Aim;
use crate::pipeline::{Lookup, Pipeline, Rendered, Subject, Unknown};
use crate::store::load::Work;
use crate::store::record::{self, Record, Send};
use crate::store::{StoreError, claim};

/// The bytes of the stage's request that registers, rendered or as they were stored, if it is the stage's only request:
/// then they can be stored with the claim.
///
/// # Errors
/// When the record cannot be read. A request that cannot be rendered is none: the attempt finds it out again.
pub async fn opening(
    pool: &PgPool,
    work: &Work,
    pipeline: &Pipeline,
    subject: &Subject,
) -> Result<Option<Send>, StoreError> {
    let Some(stage) = pipeline.stages.get(work.position) else {
        return Ok(None);
    };
    let (Some(request), 1) = (stage.registers(), stage.requests.len()) else {
        return Ok(None);
    };
    let call_id = key(work, stage, request, None);
    if work.standing.unresolved && !request.unknown.always_resends() {
        return Ok(None);
    }
    if repeats(work) {
        let record = record::read(pool, work.hold.id, &call_id).await?;
        // A recorded success is adopted by the attempt, without a call.
        if record.value.is_some() || record.send.is_some() {
            return Ok(record.send.filter(|_| record.value.is_none()));
        }
    }
    if !(stage.runs(subject).unwrap_or(false) && request.runs(subject).unwrap_or(false)) {
        return Ok(None);
    }
    Ok(request
        .render(subject, &call_id, None)
        .ok()
        .map(|rendered| bytes(&call_id, &rendered)))
}

fn repeats(work: &Work) -> bool {
    work.counters.attempt > 0 || work.standing.unresolved || work.counters.reissues > 0
}

fn bytes(call_id: &str, rendered: &Rendered) -> Send {
    Send {
        call_id: call_id.to_owned(),
        method: rendered.method.to_string(),
        path: rendered.path_and_query.clone(),
        headers: serde_json::to_string(&rendered.headers).unwrap_or_else(|_| "[]".to_owned()),
        body: rendered.body.clone(),
    }
}

fn rendered(send: &Send) -> Option<Rendered> {
    Some(Rendered {
        method: send.method.parse().ok()?,
        path_and_query: send.path.clone(),
        headers: serde_json::from_str(&send.headers).ok()?,
        body: send.body.clone(),
    })
}

/// How a request that registers is to be made.
pub(super) enum Prepared<'a> {
    /// It succeeded before: the answer is on record.
    Known { value: String, registered: bool },
    /// Stored and open, to be sent as it is; `None`: it cannot be read.
    Opened(Option<Rendered>),
    /// It was sent before, or may have been: to be looked up, and sent as it was if it is not there.
    LookUp(&'a Lookup, Send),
    /// It was sent before, or may have been: only a person can find out what came of it.
    Manual(String),
    /// It cannot be rendered.
    Unrenderable(String),
}

/// Reads the record before any repeat, and stores the bytes before the first send. `unresolved`: a call that registers was
/// sent, or may have been.
pub(super) async fn prepare<'a>(
    attempt: &Attempt<'_>,
    aim: &Aim<'a>,
    unresolved: bool,
) -> Result<Prepared<'a>, Unmade> {
    if let Some(send) = attempt.opened.as_ref().filter(|send| send.call_id == aim.call_id) {
        return Ok(Prepared::Opened(rendered(send)));
    }
    let record = if repeats(aim.work) {
        record::read(attempt.pool, aim.work.hold.id, aim.call_id).await?
    } else {
        Record::default()
    };
    if let Some(value) = record.value {
        return Ok(Prepared::Known {
            value,
            registered: record.registered,
        });
    }
    let send = match (record.send, &aim.request.unknown) {
        (Some(send), Unknown::Lookup(lookup)) if unresolved => return Ok(Prepared::LookUp(lookup, send)),
        (Some(_), Unknown::Manual) if unresolved => {
            return Ok(Prepared::Manual("nobody knows what came of an earlier call".to_owned()));
        }
        (Some(_), Unknown::Resend { window: Some(window) }) if unresolved && record.age > *window => {
            let window = humantime::format_duration(*window);
            let reason =
                format!("nobody knows what came of an earlier call, and its id is known there for {window} only");
            return Ok(Prepared::Manual(reason));
        }
        (Some(send), _) => send,
        (None, _) => match aim.request.render(aim.subject, aim.call_id, None) {
            Ok(rendered) => bytes(aim.call_id, &rendered),
            Err(error) => return Ok(Prepared::Unrenderable(error.to_string())),
        },
    };
    open(attempt, aim.work, &send).await.map(Prepared::Opened)
}

/// Opens the call, which is unresolved from here on; `None`: what was stored cannot be read.
pub(super) async fn open(attempt: &Attempt<'_>, work: &Work, send: &Send) -> Result<Option<Rendered>, Unmade> {
    if !claim::open_call(attempt.pool, work.hold, send).await? {
        return Err(Unmade::Fenced);
    }
    Ok(rendered(send))
}
