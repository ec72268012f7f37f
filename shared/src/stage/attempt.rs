//! One attempt: the requests of a stage in order, until one does not succeed.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use sqlx::PgPool;

use super::call::{Made, Unmade, call};
use super::endpoint::{Admission, Endpoints};
use super::limit_keys::LimitKeys;
use super::lookup::Proofs;
use crate::life::Heart;
use crate::pipeline::{Pipeline, Request, Stage, Subject, To, Verdict, call_id};
use crate::store::load::Work;
use crate::store::record::Send;
use crate::store::step::{Call, Standing};
use crate::telemetry::TraceContext;

/// What an attempt needs beside the receipt.
pub struct Attempt<'a> {
    /// Where calls go.
    pub endpoints: &'a Endpoints,
    /// When they may.
    pub admission: &'a dyn Admission,
    /// Whether this process may still send.
    pub heart: &'a Heart,
    /// For the record of calls that register.
    pub pool: &'a PgPool,
    /// What look-ups have proved to work.
    pub proofs: &'a Proofs,
    /// By what destinations count calls.
    pub limit_keys: &'a LimitKeys,
    /// The bytes stored with the claim, if the claim stored them.
    pub opened: Option<Send>,
    /// The context of the attempt's span.
    pub trace: TraceContext,
}

/// How an attempt ended.
#[derive(Debug)]
pub struct Ended {
    /// What it came to, after the rules of the receipt's standing.
    pub verdict: Verdict,
    /// The result of the stage, `{request: value}`, if it succeeded.
    pub result: Option<String>,
    /// What is known about the call that registers, after it.
    pub standing: Standing,
    /// The calls that were made.
    pub calls: Vec<Call>,
}

/// The receipt may not be ours any more: a call was not made. Give it back; the guard decides whose it is.
#[derive(Debug)]
pub struct Abandoned {
    /// Why.
    pub cause: Unmade,
    /// The calls that were made before: their answers are never dropped.
    pub calls: Vec<Call>,
    /// What is known about the call that registers, after them.
    pub standing: Standing,
}

/// What filters see of a receipt at a stage: the results of the stages before it, the newest of each.
#[must_use]
pub fn subject(work: &Work, pipeline: &Pipeline) -> Subject {
    let before = &pipeline.stages[..work.position.min(pipeline.stages.len())];
    let results = work
        .results
        .iter()
        .filter(|(stage, _)| before.iter().any(|known| known.name == *stage))
        .cloned()
        .collect();
    Subject::new(Arc::clone(&work.content), results)
}

/// The idempotency key of a request's call.
#[must_use]
pub fn key(work: &Work, stage: &Stage, request: &Request, item: Option<usize>) -> String {
    let target = match &request.to {
        To::Service(name) | To::Destination(name) => name,
    };
    let n = u32::try_from(work.counters.reissues).unwrap_or_default();
    call_id(
        target,
        &stage.name,
        &request.name,
        &work.merchant,
        &work.external_id,
        item,
        n,
    )
}

/// Runs one attempt of the stage that `work` is at.
///
/// # Errors
/// [`Abandoned`] when a call was not made, because the receipt may not be ours any more: give it back.
pub async fn run(attempt: &Attempt<'_>, work: &Work, stage: &Stage, subject: &mut Subject) -> Result<Ended, Abandoned> {
    let mut calls = Vec::new();
    let mut standing = work.standing;
    match requests(attempt, work, stage, subject, &mut calls, &mut standing).await {
        Ok(verdict) => Ok(Ended {
            result: matches!(verdict, Verdict::Success { .. }).then(|| subject.close_stage(&stage.name)),
            verdict,
            standing,
            calls,
        }),
        Err(cause) => Err(Abandoned { cause, calls, standing }),
    }
}

async fn requests(
    attempt: &Attempt<'_>,
    work: &Work,
    stage: &Stage,
    subject: &mut Subject,
    calls: &mut Vec<Call>,
    standing: &mut Standing,
) -> Result<Verdict, Unmade> {
    let park = |error: &dyn std::fmt::Display| Verdict::Park {
        reason: format!("{}: {error}", stage.name),
    };
    let success = || Verdict::Success {
        value: "{}".to_owned(),
        registered: false,
    };
    match stage.runs(subject) {
        Ok(true) => {}
        Ok(false) => return Ok(success()),
        Err(error) => return Ok(park(&error)),
    }
    for request in &stage.requests {
        match request.runs(subject) {
            Ok(true) => {}
            Ok(false) => continue,
            Err(error) => return Ok(park(&error)),
        }
        let items = match request.items(subject) {
            Ok(items) => items,
            Err(error) => return Ok(park(&error)),
        };
        let value = if let Some(items) = items {
            match each(attempt, work, stage, request, subject, &items, calls, standing).await? {
                Ok(value) => value,
                Err(verdict) => return Ok(verdict),
            }
        } else {
            let made = call(attempt, work, stage, request, subject, None, *standing, calls).await?;
            calls.extend(made.calls);
            *standing = made.standing;
            match made.verdict {
                Verdict::Success { value, .. } => value,
                other => return Ok(other),
            }
        };
        subject.set_request_result(&request.name, &value);
    }
    Ok(success())
}

/// The calls of `for_each`, so many at once: an array of what they came to, in the order of the items, or the first
/// verdict that is no success.
#[expect(
    clippy::too_many_arguments,
    reason = "one call's arguments, its items, and what it adds to"
)]
async fn each(
    attempt: &Attempt<'_>,
    work: &Work,
    stage: &Stage,
    request: &Request,
    subject: &Subject,
    items: &[String],
    calls: &mut Vec<Call>,
    standing: &mut Standing,
) -> Result<Result<String, Verdict>, Unmade> {
    let before = *standing;
    let made: Vec<Result<Made, Unmade>> = stream::iter(0..items.len())
        .map(|n| async move {
            // What registers has no items, so nothing else is made for one.
            let item = Some((n, items[n].as_str()));
            call(attempt, work, stage, request, subject, item, before, &mut Vec::new()).await
        })
        .buffered(request.parallel)
        .collect()
        .await;
    let mut values = Vec::with_capacity(made.len());
    let (mut failed, mut unmade) = (None, None);
    for made in made {
        match made {
            Ok(made) => {
                calls.extend(made.calls);
                standing.registered |= made.standing.registered;
                standing.sent |= made.standing.sent;
                match made.verdict {
                    Verdict::Success { value, .. } => values.push(value),
                    other => failed = failed.or(Some(other)),
                }
            }
            Err(cause) => unmade = Some(cause),
        }
    }
    match (unmade, failed) {
        (Some(cause), _) => Err(cause),
        (None, Some(verdict)) => Ok(Err(verdict)),
        (None, None) => Ok(Ok(format!("[{}]", values.join(",")))),
    }
}
