//! Requests that register: their bytes are stored before the first send, and the record is read before any repeat.

use sqlx::PgPool;

use super::Unmade;
use super::attempt::{Attempt, key};
use crate::pipeline::{Pipeline, Rendered, Subject};
use crate::store::load::{self, Record, Send, Work};
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
    if repeats(work) {
        let record = load::record(pool, work.hold.id, &call_id).await?;
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
pub(super) enum Prepared {
    /// It succeeded before: the answer is on record.
    Known { value: String, registered: bool },
    /// Stored, and to be sent as it is.
    Bytes(Rendered),
    /// It cannot be rendered.
    Unrenderable(String),
}

/// Reads the record before any repeat, and stores the bytes before the first send.
pub(super) async fn prepare<E: std::fmt::Display>(
    attempt: &Attempt<'_>,
    work: &Work,
    call_id: &str,
    render: impl FnOnce() -> Result<Rendered, E>,
) -> Result<Prepared, Unmade> {
    if let Some(send) = attempt.opened.as_ref().filter(|send| send.call_id == call_id) {
        return Ok(rendered(send).map_or_else(
            || Prepared::Unrenderable("the stored request cannot be read".to_owned()),
            Prepared::Bytes,
        ));
    }
    let record = if repeats(work) {
        load::record(attempt.pool, work.hold.id, call_id).await?
    } else {
        Record::default()
    };
    if let Some(value) = record.value {
        return Ok(Prepared::Known {
            value,
            registered: record.registered,
        });
    }
    let send = match record.send {
        Some(send) => send,
        None => match render() {
            Ok(rendered) => bytes(call_id, &rendered),
            Err(error) => return Ok(Prepared::Unrenderable(error.to_string())),
        },
    };
    if !claim::open_call(attempt.pool, work.hold, &send).await? {
        return Err(Unmade::Fenced);
    }
    Ok(rendered(&send).map_or_else(
        || Prepared::Unrenderable("the stored request cannot be read".to_owned()),
        Prepared::Bytes,
    ))
}
