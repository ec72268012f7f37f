//! One attempt: the requests of a stage in order, each rendered, admitted, sent and judged.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use sqlx::PgPool;
use time::OffsetDateTime;
use tracing::{Instrument, info_span};
use uuid::Uuid;

use super::endpoint::{Admission, Endpoint, Endpoints};
use super::sends::{Prepared, prepare};
use crate::life::Heart;
use crate::pipeline::{Effect, Exchange, Pipeline, Request, Stage, Subject, Target, To, Verdict, call_id, constrain};
use crate::store::StoreError;
use crate::store::load::{Send, Work};
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
    /// How long it took.
    pub duration: Duration,
}

/// The receipt may not be ours any more: nothing was sent. Give it back; the guard decides whose it is.
#[derive(Debug, thiserror::Error)]
pub enum Abandoned {
    /// The send deadline has passed, or somebody else has the receipt.
    #[error("somebody else may have the receipt")]
    Fenced,
    /// What has to be stored before the call could not be.
    #[error(transparent)]
    Store(#[from] StoreError),
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
/// [`Abandoned`] when nothing was sent, because the receipt may not be ours any more: give it back.
pub async fn run(attempt: &Attempt<'_>, work: &Work, stage: &Stage, subject: &mut Subject) -> Result<Ended, Abandoned> {
    let begun = Instant::now();
    let mut calls = Vec::new();
    let mut standing = work.standing;
    let verdict = requests(attempt, work, stage, subject, &mut calls, &mut standing).await?;
    let result = matches!(verdict, Verdict::Success { .. }).then(|| subject.close_stage(&stage.name));
    Ok(Ended {
        verdict,
        result,
        standing,
        calls,
        duration: begun.elapsed(),
    })
}

async fn requests(
    attempt: &Attempt<'_>,
    work: &Work,
    stage: &Stage,
    subject: &mut Subject,
    calls: &mut Vec<Call>,
    standing: &mut Standing,
) -> Result<Verdict, Abandoned> {
    let park = |error: &dyn std::fmt::Display| Verdict::Park {
        reason: format!("{}: {error}", stage.name),
    };
    let mut registered = false;
    match stage.runs(subject) {
        Ok(true) => {}
        Ok(false) => {
            return Ok(Verdict::Success {
                value: "{}".to_owned(),
                registered: false,
            });
        }
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
            let (shared, before): (&Subject, Standing) = (subject, *standing);
            let made: Vec<_> = stream::iter(0..items.len())
                .map(|n| {
                    one(
                        attempt,
                        work,
                        stage,
                        request,
                        shared,
                        Some((n, items[n].as_str())),
                        before,
                    )
                })
                .buffered(request.parallel.max(1))
                .collect()
                .await;
            let mut values = Vec::with_capacity(made.len());
            let mut worst = None;
            for made in made {
                let (verdict, call, _) = made?;
                calls.extend(call);
                match verdict {
                    Verdict::Success { value, .. } => values.push(value),
                    other => worst = worst.or(Some(other)),
                }
            }
            if let Some(worst) = worst {
                return Ok(worst);
            }
            format!("[{}]", values.join(","))
        } else {
            let (verdict, call, after) = one(attempt, work, stage, request, subject, None, *standing).await?;
            calls.extend(call);
            *standing = after;
            match verdict {
                Verdict::Success { value, registered: now } => {
                    registered |= now;
                    value
                }
                other => return Ok(other),
            }
        };
        subject.set_request_result(&request.name, &value);
    }
    standing.registered |= registered;
    Ok(Verdict::Success {
        value: "{}".to_owned(),
        registered,
    })
}

type Made = (Verdict, Option<Call>, Standing);

async fn one(
    attempt: &Attempt<'_>,
    work: &Work,
    stage: &Stage,
    request: &Request,
    subject: &Subject,
    item: Option<(usize, &str)>,
    standing: Standing,
) -> Result<Made, Abandoned> {
    let park = |reason: String| Ok((Verdict::Park { reason }, None, standing));
    let call_id = key(work, stage, request, item.map(|(n, _)| n));
    let Some(endpoint) = attempt.endpoints.get(&request.to) else {
        let reason = format!("{} is not in the configuration", target(request));
        return Ok((Verdict::Retry { reason, after: None }, None, standing));
    };
    let registers = request.effect == Effect::Registers;
    let prepared = if registers {
        match prepare(attempt, work, &call_id, || request.render(subject, &call_id, None)).await? {
            Prepared::Known(value) => {
                let verdict = Verdict::Success {
                    value,
                    registered: request.success_registers(),
                };
                return Ok((
                    verdict,
                    None,
                    Standing {
                        unresolved: false,
                        ..standing
                    },
                ));
            }
            Prepared::Bytes(rendered) => Ok(rendered),
            Prepared::Unrenderable(reason) => Err(reason),
        }
    } else {
        request
            .render(subject, &call_id, item.map(|(_, item)| item))
            .map_err(|error| error.to_string())
    };
    let rendered = match prepared {
        Ok(rendered) => rendered,
        Err(reason) => return park(format!("{}.{}: {reason}", stage.name, request.name)),
    };

    let permit = attempt.admission.admit(endpoint).await;
    if !attempt.heart.may_send(work.hold.owner) {
        return Err(Abandoned::Fenced);
    }
    let span = info_span!(
        target: "chekhov", "call",
        otel.name = %rendered.method, otel.kind = "client", otel.status_code = tracing::field::Empty,
        http.request.method = %rendered.method, http.response.status_code = tracing::field::Empty,
        http.request.resend_count = work.counters.attempt, server.address = %endpoint.name,
        chekhov.stage = %stage.name, chekhov.request = %request.name, chekhov.outcome = tracing::field::Empty,
    );
    attempt.trace.adopt(&span);
    let trace = attempt.trace.of(&span);
    let started_at = OffsetDateTime::now_utc();
    let begun = Instant::now();
    let exchange = attempt
        .endpoints
        .call(endpoint, &rendered, &call_id, &trace, request.timeout)
        .instrument(span.clone())
        .await;
    drop(permit);

    let verdict = request.judge(subject, &call_id, item.map(|(_, item)| item), &exchange);
    let undeclared = u32::try_from(work.counters.undeclared).unwrap_or_default();
    // Whatever this call came to, an earlier one that nobody knows about stays unresolved until one succeeds.
    let after = match (&verdict, registers) {
        (Verdict::Success { .. } | Verdict::Reissue { .. }, true) => Standing {
            unresolved: false,
            ..standing
        },
        (Verdict::Unknown { .. }, true) => Standing {
            unresolved: true,
            ..standing
        },
        _ => standing,
    };
    let call = on_record(
        &span,
        work,
        stage,
        request,
        endpoint,
        call_id,
        &exchange,
        &verdict,
        started_at,
        begun.elapsed(),
    );
    let nobody_declared = matches!(verdict, Verdict::Undeclared { .. });
    let verdict = match constrain(
        verdict,
        request.effect,
        standing.unresolved,
        standing.registered,
        undeclared,
    ) {
        Verdict::Retry { reason, .. } if nobody_declared => Verdict::Undeclared { reason },
        verdict => verdict,
    };
    Ok((verdict, Some(call), after))
}

/// Tells the span and the metrics what came of a call, and makes its row.
#[expect(clippy::too_many_arguments, reason = "a row has that many sources")]
fn on_record(
    span: &tracing::Span,
    work: &Work,
    stage: &Stage,
    request: &Request,
    endpoint: &Endpoint,
    call_id: String,
    exchange: &Exchange,
    verdict: &Verdict,
    started_at: OffsetDateTime,
    duration: Duration,
) -> Call {
    let outcome = name(verdict);
    let registers = request.effect == Effect::Registers;
    let (status, error) = match exchange {
        Exchange::Answered {
            status, complete: true, ..
        } => (Some(*status), None),
        Exchange::Answered {
            status,
            complete: false,
            ..
        } => (Some(*status), Some("the body broke off".to_owned())),
        Exchange::NotSent { error } | Exchange::Lost { error } => (None, Some(error.clone())),
    };
    span.record("chekhov.outcome", outcome);
    if let Some(status) = status {
        span.record("http.response.status_code", status);
    }
    if outcome != "success" && outcome != "poll" {
        span.record("otel.status_code", "ERROR");
    }
    metrics::histogram!("chekhov_call_seconds", "endpoint" => endpoint.name.clone(), "outcome" => outcome)
        .record(duration);
    Call {
        id: Uuid::now_v7(),
        stage: stage.name.clone(),
        request: request.name.clone(),
        attempt: work.counters.attempt + 1,
        call_id,
        started_at,
        duration,
        outcome,
        status: status.and_then(|status| i16::try_from(status).ok()),
        error: error.or_else(|| reason(verdict)),
        retry_after_s: match verdict {
            Verdict::Retry { after: Some(after), .. } => i32::try_from(after.as_secs()).ok(),
            _ => None,
        },
        registers,
        value: match verdict {
            Verdict::Success { value, .. } if registers => Some(value.clone()),
            _ => None,
        },
    }
}

fn target(request: &Request) -> String {
    match &request.to {
        To::Service(name) => format!("service {name}"),
        To::Destination(name) => format!("destination {name}"),
    }
}

/// The outcome's word, as it stands in `calls` and metrics.
#[must_use]
pub fn name(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Success { .. } => "success",
        Verdict::Retry { .. } | Verdict::Undeclared { .. } | Verdict::Credentials { .. } => "retry",
        Verdict::Poll { .. } => "poll",
        Verdict::Reject { .. } => "reject",
        Verdict::Unknown { .. } => "unknown",
        Verdict::Reissue { .. } => "reissue",
        Verdict::Park { .. } => "park",
    }
}

/// The reason a verdict gives.
#[must_use]
pub fn reason(verdict: &Verdict) -> Option<String> {
    match verdict {
        Verdict::Success { .. } => None,
        Verdict::Retry { reason, .. }
        | Verdict::Undeclared { reason }
        | Verdict::Credentials { reason }
        | Verdict::Poll { reason }
        | Verdict::Reject { reason }
        | Verdict::Unknown { reason }
        | Verdict::Reissue { reason, .. }
        | Verdict::Park { reason } => Some(reason.clone()),
    }
}

/// Whether a stage is external.
#[must_use]
pub fn destination(stage: &Stage) -> Option<&str> {
    match &stage.target {
        Target::Internal => None,
        Target::External { destination } => Some(destination),
    }
}
