//! The spans of attempts and calls, named and described as OpenTelemetry's conventions say. Of a URL a span has the
//! template alone: what is filled in may be anybody's.

use http::Method;
use tracing::field::Empty;
use tracing::{Span, info_span};

use super::attempt::{Abandoned, Ended};
use super::call::Unmade;
use super::endpoint::Endpoint;
use crate::pipeline::{Exchange, Stage, Verdict};
use crate::store::load::Work;
use crate::store::step::Call;
use crate::telemetry::TraceContext;
use crate::telemetry::names::{
    ATTEMPT, ERROR_TYPE, HTTP_REQUEST_METHOD, HTTP_REQUEST_RESEND_COUNT, HTTP_RESPONSE_STATUS_CODE, OUTCOME,
    RECEIPT_ID, REQUEST, SERVER_ADDRESS, SERVER_PORT, SERVICE_PEER_NAME, STAGE, STATUS, URL_FULL, URL_TEMPLATE,
};

/// The span of an attempt, a child of `parent`.
#[must_use]
pub fn attempt(parent: &TraceContext, work: &Work, stage: &Stage) -> Span {
    let span = info_span!(
        target: "chekhov", "attempt",
        otel.name = %format_args!("stage {}", stage.name), otel.status_code = Empty,
        { RECEIPT_ID } = %work.hold.id, { STAGE } = %stage.name, { ATTEMPT } = work.counters.attempt + 1,
        { OUTCOME } = Empty, { ERROR_TYPE } = Empty,
    );
    parent.adopt(&span);
    span
}

/// Records what an attempt came to. That something is not there yet is no failure.
pub fn ended(span: &Span, ended: &Ended) {
    let outcome = ended.verdict.name();
    span.record(OUTCOME, outcome);
    if !matches!(
        ended.verdict,
        Verdict::Success { .. } | Verdict::Poll { .. } | Verdict::Absent { .. }
    ) {
        failed(span, outcome);
    }
}

/// Records that an attempt was given up, because a call could not be made.
pub fn abandoned(span: &Span, abandoned: &Abandoned) {
    span.record(OUTCOME, "abandoned");
    match abandoned.cause {
        // Its turn is later.
        Unmade::Shut | Unmade::Limited(_) => {}
        Unmade::Fenced => failed(span, "fenced"),
        Unmade::Store(_) => failed(span, "store"),
    }
}

/// The span of a call, a child of `parent`; the call was sent so many times before.
pub(super) fn call(
    parent: &TraceContext,
    endpoint: &Endpoint,
    (method, template): (&Method, &str),
    row: &Call,
    resends: usize,
) -> Span {
    let span = info_span!(
        target: "chekhov", "call",
        otel.name = %format_args!("{method} {}{template}", endpoint.base.path()), otel.kind = "client", otel.status_code = Empty,
        { HTTP_REQUEST_METHOD } = %method, { URL_TEMPLATE } = %format_args!("{}{template}", endpoint.base.path()),
        { URL_FULL } = %endpoint.base.url(template), { SERVER_ADDRESS } = endpoint.base.host(), { SERVER_PORT } = endpoint.base.port(),
        { SERVICE_PEER_NAME } = %endpoint.name, { STAGE } = %row.stage, { REQUEST } = %row.request,
        { HTTP_REQUEST_RESEND_COUNT } = Empty, { HTTP_RESPONSE_STATUS_CODE } = Empty, { ERROR_TYPE } = Empty,
    );
    if resends > 0 {
        span.record(HTTP_REQUEST_RESEND_COUNT, resends);
    }
    parent.adopt(&span);
    span
}

/// The span of fetching a token, a child of `parent`.
pub(super) fn token(parent: &TraceContext, endpoint: &Endpoint, path: &str) -> Span {
    let template = path.split('?').next().unwrap_or_default();
    let span = info_span!(
        target: "chekhov", "token",
        otel.name = %format_args!("POST {}{template}", endpoint.base.path()), otel.kind = "client", otel.status_code = Empty,
        { HTTP_REQUEST_METHOD } = "POST", { URL_TEMPLATE } = %format_args!("{}{template}", endpoint.base.path()),
        { URL_FULL } = %endpoint.base.url(template), { SERVER_ADDRESS } = endpoint.base.host(), { SERVER_PORT } = endpoint.base.port(),
        { SERVICE_PEER_NAME } = %endpoint.name, { HTTP_RESPONSE_STATUS_CODE } = Empty, { ERROR_TYPE } = Empty,
    );
    parent.adopt(&span);
    span
}

/// Records what came of a call or a fetch.
pub(super) fn exchanged(span: &Span, exchange: &Exchange) {
    match exchange {
        Exchange::Answered { status, complete, .. } => {
            span.record(HTTP_RESPONSE_STATUS_CODE, status);
            if *status >= 400 {
                span.record(STATUS, "ERROR");
                span.record(ERROR_TYPE, tracing::field::display(status));
            } else if !complete {
                failed(span, "body_broke_off");
            }
        }
        Exchange::NotSent { .. } => failed(span, "not_sent"),
        Exchange::Lost { .. } => failed(span, "no_answer"),
    }
}

fn failed(span: &Span, error: &'static str) {
    span.record(STATUS, "ERROR");
    span.record(ERROR_TYPE, error);
}
