//! One call: rendered, admitted, sent, judged, and put on record.

use std::time::{Duration, Instant};

use time::OffsetDateTime;
use tracing::Instrument;
use uuid::Uuid;

use super::attempt::{Attempt, key};
use super::credentials::Token;
use super::endpoint::{Endpoint, Purpose, Unadmitted};
use super::registering::register;
use super::repeats::{Asked, Sent, repeated};
use super::spans;
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
    /// None of its key may be made for so long.
    #[error("the limits of its key are used up for now")]
    Limited(Duration),
    /// What has to be stored before the call could not be.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Unadmitted> for Unmade {
    fn from(unadmitted: Unadmitted) -> Self {
        match unadmitted {
            Unadmitted::Shut => Self::Shut,
            Unadmitted::Limited(wait) => Self::Limited(wait),
        }
    }
}

/// What a request came to.
pub(super) struct Made {
    pub verdict: Verdict,
    /// The calls that it took: none when none was needed, or possible.
    pub calls: Vec<Call>,
    pub standing: Standing,
}

impl Made {
    /// Nothing was sent.
    pub(super) fn unsent(verdict: Verdict, standing: Standing) -> Self {
        Self {
            verdict,
            calls: Vec::new(),
            standing,
        }
    }
}

/// What one call is for.
pub(super) struct Aim<'a> {
    pub work: &'a Work,
    pub stage: &'a Stage,
    pub request: &'a Request,
    pub subject: &'a Subject,
    pub call_id: &'a str,
    pub item: Option<&'a str>,
    /// For whom it is made.
    pub purpose: Purpose<'a>,
    /// Whether its success is what the call that registers came to.
    pub registers: bool,
}

/// Makes the call of a request, for one item of it where it has items. What it takes to know whether that is to be made at all
/// is added to `calls`.
#[expect(clippy::too_many_arguments, reason = "one call's arguments, and what it adds to")]
pub(super) async fn call(
    attempt: &Attempt<'_>,
    work: &Work,
    stage: &Stage,
    request: &Request,
    subject: &Subject,
    item: Option<(usize, &str)>,
    standing: Standing,
    calls: &mut Vec<Call>,
) -> Result<Made, Unmade> {
    let aim = Aim {
        work,
        stage,
        request,
        subject,
        call_id: &key(work, stage, request, item.map(|(n, _)| n)),
        item: item.map(|(_, item)| item),
        registers: request.effect == Effect::Registers,
        purpose: Purpose::Receipt(work.limit_key.as_deref()),
    };
    if aim.registers {
        // Apart, like whatever is large or rare in here: a future is moved as often as it is nested, whole.
        Box::pin(register(attempt, &aim, standing, calls)).await
    } else {
        rendered(attempt, &aim, standing).await
    }
}

/// Makes a call as it is rendered now.
pub(super) async fn rendered(attempt: &Attempt<'_>, aim: &Aim<'_>, standing: Standing) -> Result<Made, Unmade> {
    match aim.request.render(aim.subject, aim.call_id, aim.item) {
        Ok(rendered) => make(attempt, aim, rendered, standing).await,
        Err(error) => Ok(Made::unsent(unrenderable(aim, &error), standing)),
    }
}

/// What a request comes to that cannot be rendered.
pub(super) fn unrenderable(aim: &Aim<'_>, reason: &dyn std::fmt::Display) -> Verdict {
    Verdict::Park {
        reason: format!("{}.{}: {reason}", aim.stage.name, aim.request.name),
    }
}

/// Makes a call: admitted, sent, judged.
pub(super) async fn make(
    attempt: &Attempt<'_>,
    aim: &Aim<'_>,
    rendered: Rendered,
    standing: Standing,
) -> Result<Made, Unmade> {
    let Aim { work, request, .. } = *aim;
    let Some(endpoint) = attempt.endpoints.get(&request.to) else {
        let reason = format!("{} is not in the configuration", target(request));
        return Ok(Made::unsent(Verdict::Retry { reason, after: None }, standing));
    };
    // Before its turn comes: from then on it is to be sent at once.
    let rendered = match endpoint.signed(rendered).await {
        Ok(rendered) => rendered,
        Err(error) => {
            let reason = format!("{} {error}", endpoint.name);
            return Ok(Made::unsent(Verdict::Retry { reason, after: None }, standing));
        }
    };
    let asked = Asked {
        attempt,
        aim,
        endpoint,
        rendered: &rendered,
    };
    let Sent { verdict, calls } = repeated(&asked).await?;
    let undeclared = u32::try_from(work.counters.undeclared).unwrap_or_default();
    let apart = matches!(verdict, Verdict::Reissue { .. }) && request.reissues_apart();
    let verdict = constrain(
        verdict,
        request.effect,
        standing.unresolved,
        standing.registered && !apart,
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
pub(super) fn after(verdict: &Verdict, effect: Effect, standing: Standing) -> Standing {
    match verdict {
        Verdict::Success { registered: true, .. } => Standing {
            unresolved: false,
            registered: true,
            sent: true,
            absents: 0,
        },
        // Accepted, and not registered yet.
        Verdict::Success { .. } | Verdict::Poll { .. } | Verdict::Unknown { .. } if effect == Effect::Registers => {
            Standing {
                unresolved: true,
                sent: true,
                absents: 0,
                ..standing
            }
        }
        Verdict::Absent { .. } => Standing {
            absents: standing.absents + 1,
            ..standing
        },
        Verdict::Reissue { .. } => Standing {
            unresolved: false,
            sent: false,
            absents: 0,
            ..standing
        },
        _ => standing,
    }
}

/// The row of a call that is about to be made.
pub(super) fn row(aim: &Aim<'_>) -> Call {
    Call {
        id: Uuid::now_v7(),
        stage: aim.stage.name.clone(),
        request: aim.request.name.clone(),
        attempt: aim.work.counters.attempt + 1,
        call_id: aim.call_id.to_owned(),
        started_at: OffsetDateTime::now_utc(),
        duration: Duration::ZERO,
        outcome: "",
        status: None,
        error: None,
        retry_after_s: None,
        registers: aim.registers,
        registered: false,
        value: None,
        result: None,
    }
}

/// Sends a call that was sent so many times before.
pub(super) async fn send(
    attempt: &Attempt<'_>,
    endpoint: &Endpoint,
    rendered: &Rendered,
    token: Option<&Token>,
    request: &Request,
    row: &mut Call,
    resends: usize,
) -> Exchange {
    let sent = (&rendered.method, request.template());
    let span = spans::call(&attempt.trace, endpoint, sent, row, resends);
    let trace = attempt.trace.of(&span);
    let begun = Instant::now();
    let calling = attempt
        .endpoints
        .call(endpoint, rendered, token, &row.call_id, &trace, request.timeout);
    let exchange = Box::pin(calling).instrument(span.clone()).await;
    row.duration = begun.elapsed();
    spans::exchanged(&span, &exchange);
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
    metrics::histogram!(
        "http_client_request_duration_seconds", "server_address" => endpoint.name.clone(), "stage" => row.stage.clone(),
        "outcome" => row.outcome, "http_response_status_code" => status.map(|status| status.to_string()).unwrap_or_default(),
    )
    .record(row.duration);
}

fn target(request: &Request) -> String {
    match &request.to {
        To::Service(name) => format!("service {name}"),
        To::Destination(name) => format!("destination {name}"),
    }
}
