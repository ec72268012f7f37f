//! One call: rendered, admitted, sent, judged, and put on record.

use std::time::{Duration, Instant};

use time::OffsetDateTime;
use tracing::{Instrument, info_span};
use uuid::Uuid;

use super::attempt::{Attempt, key};
use super::credentials::Token;
use super::endpoint::Endpoint;
use super::repeats::{Asked, Sent, repeated};
use super::sends::{Prepared, prepare};
use crate::pipeline::{Effect, Exchange, Rendered, Request, Stage, Subject, To, Verdict, constrain};
use crate::store::StoreError;
use crate::store::load::Work;
use crate::store::step::{Call, Standing};

/// Why a call was not made.
#[derive(Debug, thiserror::Error)]
pub enum Unmade {
    /// The send deadline has passed, or somebody else has the receipt.
    #[error("somebody else may have the receipt")]
    Fenced,
    /// No call to the destination may be made for now.
    #[error("the destination takes no calls now")]
    Shut,
    /// What has to be stored before the call could not be.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a call came to.
pub(super) struct Made {
    pub verdict: Verdict,
    /// Its row, and those of its repeats; none when no call was needed, or possible.
    pub calls: Vec<Call>,
    pub standing: Standing,
}

/// Makes the call of a request, for one item of it where it has items.
pub(super) async fn call(
    attempt: &Attempt<'_>,
    work: &Work,
    stage: &Stage,
    request: &Request,
    subject: &Subject,
    item: Option<(usize, &str)>,
    standing: Standing,
) -> Result<Made, Unmade> {
    let unsent = |verdict: Verdict| Made {
        verdict,
        calls: Vec::new(),
        standing,
    };
    let call_id = key(work, stage, request, item.map(|(n, _)| n));
    let item = item.map(|(_, item)| item);
    let Some(endpoint) = attempt.endpoints.get(&request.to) else {
        let reason = format!("{} is not in the configuration", target(request));
        return Ok(unsent(Verdict::Retry { reason, after: None }));
    };
    let rendered = if request.effect == Effect::Registers {
        match prepare(attempt, work, &call_id, || request.render(subject, &call_id, None)).await? {
            Prepared::Known { value, registered } => {
                let verdict = Verdict::Success { value, registered };
                let standing = after(&verdict, request.effect, standing);
                return Ok(Made {
                    verdict,
                    calls: Vec::new(),
                    standing,
                });
            }
            Prepared::Bytes(rendered) => Ok(rendered),
            Prepared::Unrenderable(reason) => Err(reason),
        }
    } else {
        request
            .render(subject, &call_id, item)
            .map_err(|error| error.to_string())
    };
    let rendered = match rendered {
        Ok(rendered) => rendered,
        Err(reason) => {
            let reason = format!("{}.{}: {reason}", stage.name, request.name);
            return Ok(unsent(Verdict::Park { reason }));
        }
    };

    let asked = Asked {
        attempt,
        work,
        stage,
        request,
        subject,
        item,
        endpoint,
        call_id: &call_id,
        rendered: &rendered,
    };
    let Sent { verdict, calls } = repeated(&asked).await?;
    let undeclared = u32::try_from(work.counters.undeclared).unwrap_or_default();
    let verdict = constrain(
        verdict,
        request.effect,
        standing.unresolved,
        standing.registered,
        undeclared,
    );
    Ok(Made {
        standing: after(&verdict, request.effect, standing),
        verdict,
        calls,
    })
}

/// What is known about the call that registers, after one more answer. Whatever this one came to, an earlier call that
/// nobody knows about stays unresolved until the receipt is known to be registered, or known to have failed there. That it
/// was accepted (`wait`) is neither.
fn after(verdict: &Verdict, effect: Effect, standing: Standing) -> Standing {
    match verdict {
        Verdict::Success { registered: true, .. } => Standing {
            unresolved: false,
            registered: true,
        },
        Verdict::Success { .. } | Verdict::Unknown { .. } if effect == Effect::Registers => Standing {
            unresolved: true,
            ..standing
        },
        Verdict::Reissue { .. } => Standing {
            unresolved: false,
            ..standing
        },
        _ => standing,
    }
}

/// The row of a call that is about to be made.
pub(super) fn row(work: &Work, stage: &Stage, request: &Request, call_id: String) -> Call {
    Call {
        id: Uuid::now_v7(),
        stage: stage.name.clone(),
        request: request.name.clone(),
        attempt: work.counters.attempt + 1,
        call_id,
        started_at: OffsetDateTime::now_utc(),
        duration: Duration::ZERO,
        outcome: "",
        status: None,
        error: None,
        retry_after_s: None,
        registers: request.effect == Effect::Registers,
        registered: false,
        value: None,
    }
}

pub(super) async fn send(
    attempt: &Attempt<'_>,
    endpoint: &Endpoint,
    rendered: &Rendered,
    token: Option<&Token>,
    request: &Request,
    row: &mut Call,
) -> Exchange {
    let span = info_span!(
        target: "chekhov", "call",
        otel.name = %rendered.method, otel.kind = "client", otel.status_code = tracing::field::Empty,
        http.request.method = %rendered.method, http.response.status_code = tracing::field::Empty,
        http.request.resend_count = row.attempt - 1, server.address = %endpoint.name,
        chekhov.stage = %row.stage, chekhov.request = %row.request,
    );
    attempt.trace.adopt(&span);
    let trace = attempt.trace.of(&span);
    let begun = Instant::now();
    let exchange = attempt
        .endpoints
        .call(endpoint, rendered, token, &row.call_id, &trace, request.timeout)
        .instrument(span.clone())
        .await;
    row.duration = begun.elapsed();
    let failed = match &exchange {
        Exchange::Answered { status, .. } => {
            span.record("http.response.status_code", status);
            *status >= 400
        }
        Exchange::NotSent { .. } | Exchange::Lost { .. } => true,
    };
    if failed {
        span.record("otel.status_code", "ERROR");
    }
    exchange
}

/// The rest of the row, and the metrics.
pub(super) fn complete(row: &mut Call, endpoint: &Endpoint, exchange: &Exchange, verdict: &Verdict) {
    let (status, error) = match exchange {
        Exchange::Answered { status, complete, .. } => {
            (Some(*status), (!complete).then(|| "the body broke off".to_owned()))
        }
        Exchange::NotSent { error } | Exchange::Lost { error } => (None, Some(error.clone())),
    };
    row.outcome = verdict.name();
    row.status = status.and_then(|status| i16::try_from(status).ok());
    row.error = error.or_else(|| verdict.reason().map(str::to_owned));
    match verdict {
        Verdict::Retry { after: Some(after), .. } => row.retry_after_s = i32::try_from(after.as_secs()).ok(),
        Verdict::Success { value, registered } if row.registers => {
            row.value = Some(value.clone());
            row.registered = *registered;
        }
        _ => {}
    }
    metrics::histogram!("chekhov_call_seconds", "endpoint" => endpoint.name.clone(), "outcome" => row.outcome)
        .record(row.duration);
}

fn target(request: &Request) -> String {
    match &request.to {
        To::Service(name) => format!("service {name}"),
        To::Destination(name) => format!("destination {name}"),
    }
}
