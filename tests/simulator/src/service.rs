//! One handler for every simulated service: records the request, lets the fault strike, does the work.

use std::borrow::Cow;
use std::future::pending;
use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;

use crate::accepted::Outcome;
use crate::answer::Answer;
use crate::app::{Simulator, State as Shared, lock, unix_ms, unix_us};
use crate::connection::Connection;
use crate::faults::{Fault, Mode};
use crate::internal;
use crate::ledger::{Call, CallId};
use crate::orange::{self, Proof};
use crate::route::{Api, Route};
use crate::settings::Settings;

/// The longest body that is read.
const MAX_BODY: usize = 1 << 20;

/// A request that has been read and recorded.
struct Job {
    route: Route,
    query: String,
    body: Bytes,
    token: Option<String>,
    /// `X-Signature`.
    signature: Option<String>,
    /// The client showed a certificate.
    certified: bool,
    /// Seconds until there is room again, if the limit is exceeded.
    over_limit: Option<u64>,
    call: Call,
    fault: Option<Arc<Fault>>,
}

/// A fiscal call that has not been answered, whose client waits.
struct UnderWay<'a>(&'a Shared);

impl<'a> UnderWay<'a> {
    fn begun(shared: &'a Shared) -> Self {
        let mut ledger = lock(&shared.ledger);
        ledger.under_way += 1;
        ledger.most_under_way = ledger.most_under_way.max(ledger.under_way);
        Self(shared)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        lock(&self.0.ledger).under_way -= 1;
    }
}

/// Answers any request of a simulated service, or closes its connection.
pub(crate) async fn handle(State(simulator): State<Simulator>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let connection = parts
        .extensions
        .get::<ConnectInfo<Connection>>()
        .map(|ConnectInfo(connection)| connection);
    let shared = &simulator.state;
    let route = Route::parse(&parts.method, parts.uri.path());
    let call = describe(&route, &parts, connection);
    let id = lock(&shared.ledger).arrived(call.clone());
    let _under_way = (call.target.limited() == Some(Api::Fiscal)).then(|| UnderWay::begun(shared));
    if let Some(answer) = respond(shared, route, &parts, body, call, id, connection).await {
        lock(&shared.ledger).answered(id, answer.status.as_u16());
        return answer.into_response();
    }
    if let Some(connection) = connection {
        connection.cut();
    }
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}

/// The answer, or none when the connection is to be closed.
async fn respond(
    shared: &Arc<Shared>,
    route: Route,
    parts: &Parts,
    body: Body,
    call: Call,
    id: CallId,
    connection: Option<&Connection>,
) -> Option<Answer> {
    let (target, now) = (call.target, Instant::now());
    let over_limit = target.limited().and_then(|api| {
        let limit = lock(&shared.settings).limit(api)?;
        lock(&shared.limiters)
            .entry(api)
            .or_default()
            .admit(Some(limit), now)
            .err()
    });
    let key = call.idempotency_key.as_deref().unwrap_or(&call.path);
    let fault = lock(&shared.faults).pick(target, key, id, now);
    let mode = fault.as_ref().map(|fault| fault.mode);
    if let Some(mode) = mode {
        lock(&shared.ledger).struck(id, mode.name());
    }
    if mode == Some(Mode::Refuse) {
        lock(&shared.ledger).tie(id, None);
        return None;
    }
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        lock(&shared.ledger).tie(id, None);
        return Some(Answer::raw(
            StatusCode::PAYLOAD_TOO_LARGE,
            "text/plain",
            "unreadable, or longer than 1 MiB",
        ));
    };
    let reference = reference(shared, &route, &body);
    lock(&shared.ledger).tie(id, reference.as_deref());

    let query = parts.uri.query().unwrap_or_default().to_owned();
    let job = Job {
        route,
        query,
        body,
        token: token(&parts.headers),
        signature: parts
            .headers
            .get("x-signature")
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned),
        certified: connection.is_some_and(Connection::is_certified),
        over_limit,
        call,
        fault: fault.clone(),
    };
    let answer = match fault {
        None => Some(job.work(shared)),
        Some(fault) => strike(shared, job, &fault).await,
    };
    let milestone = answer.as_ref().and_then(|answer| answer.milestone);
    if let (Some(milestone), Some(reference)) = (milestone, reference) {
        lock(&shared.ways).reached(reference, milestone, unix_us());
    }
    answer
}

/// What becomes of a request that a fault strikes.
async fn strike(shared: &Arc<Shared>, job: Job, fault: &Fault) -> Option<Answer> {
    match fault.mode {
        Mode::Error => Some(fault.answer(job.call.target)),
        Mode::Refuse | Mode::DropBeforeCommit => None,
        Mode::Hang => pending().await,
        Mode::Slow => {
            tokio::time::sleep(fault.latency()).await;
            Some(job.work(shared))
        }
        Mode::CommitThenDrop => {
            job.work(shared);
            tokio::time::sleep(fault.latency()).await;
            None
        }
        Mode::CommitLate => {
            // A task of its own: it goes on when the client goes, which drops this future.
            let (shared, latency) = (Arc::clone(shared), fault.latency());
            let late = tokio::spawn(async move {
                tokio::time::sleep(latency).await;
                job.work(&shared)
            });
            late.await.ok()
        }
        Mode::Garbage => {
            job.work(shared);
            Some(Answer::raw(
                StatusCode::OK,
                "application/json",
                Bytes::from_static(b"<html>\xff\xfe{\"uuid\":"),
            ))
        }
        Mode::Stuck | Mode::Lag | Mode::Fail | Mode::Expire => Some(job.work(shared)),
    }
}

impl Job {
    /// Does what was asked for.
    fn work(self, shared: &Shared) -> Answer {
        let settings = lock(&shared.settings).clone();
        if let Some(refusal) = self.refused(shared, &settings) {
            return refusal;
        }
        let fault = self.fault.as_deref();
        match &self.route {
            Route::Validate => internal::validate(),
            Route::Catalog => internal::catalog(&self.query),
            Route::Seller { inn } => internal::seller(inn),
            Route::Tax => internal::tax(&self.body),
            Route::Number { key } => lock(&shared.internal).number(key.clone()),
            Route::Document { key } => internal::document(key),
            Route::Token => lock(&shared.fiscal).token(&settings, unix_ms()),
            Route::Register { group, operation } => {
                let at = unix_ms();
                let mut fiscal = lock(&shared.fiscal);
                let outcome = fiscal.register(group, operation, &self.body, &settings, at);
                self.record(shared, Api::Fiscal, outcome, at)
            }
            Route::Report { group, uuid } => {
                let mut fiscal = lock(&shared.fiscal);
                let (answer, failed) = fiscal.report((group, uuid), &settings, fault);
                if let Some((reference, uuid)) = failed {
                    lock(&shared.ledger).failed(&reference, uuid);
                }
                answer
            }
            Route::FiscalDocument { group, uuid } => lock(&shared.fiscal).document(group, uuid, &settings, fault),
            Route::Lookup { group, external_id } => lock(&shared.fiscal).look_up(group, external_id, &settings, fault),
            Route::OrangeRegister => {
                let proof = Proof {
                    signature: self.signature.as_deref(),
                    key: settings.orange.signature_key.as_ref(),
                };
                let at = unix_ms();
                let mut orange = lock(&shared.orange);
                let outcome = orange.register(&self.body, proof, at);
                self.record(shared, Api::Orange, outcome, at)
            }
            Route::OrangeStatus { inn, id } => {
                let mut orange = lock(&shared.orange);
                let (answer, failed) = orange.status((inn, id), settings.done_after(), fault);
                if let Some((reference, uuid)) = failed {
                    lock(&shared.ledger).failed(&reference, uuid);
                }
                answer
            }
            Route::Unknown => Answer::error(StatusCode::NOT_FOUND, 40, "system", "no such method and path"),
        }
    }

    /// What every call of an API is refused for, before anything is done.
    fn refused(&self, shared: &Shared, settings: &Settings) -> Option<Answer> {
        let api = self.call.target.limited()?;
        match (api, self.over_limit) {
            (Api::Fiscal, Some(seconds)) => {
                let answer = Answer::error(StatusCode::TOO_MANY_REQUESTS, 429, "system", "too many requests");
                Some(answer.retry_after(Some(HeaderValue::from(seconds))))
            }
            (Api::Orange, Some(seconds)) => Some(orange::full(seconds)),
            (Api::Fiscal, None) => {
                let known = !settings.auth || lock(&shared.fiscal).knows(self.token.as_deref(), settings);
                let text = "the token is missing, unknown or expired";
                (!known).then(|| Answer::error(StatusCode::UNAUTHORIZED, 11, "system", text))
            }
            (Api::Orange, None) => (settings.orange.certificate && !self.certified).then(orange::stranger),
        }
    }

    /// Tells the ledger what an API accepted, while the API is still held: no report may come between the two.
    fn record(&self, shared: &Shared, api: Api, outcome: Outcome, at: i64) -> Answer {
        if let Some(accepted) = outcome.accepted {
            let reference = accepted.reference.clone();
            let registration = accepted.by(api.name(), &self.call, at);
            lock(&shared.ledger).registered(&reference, registration);
        }
        outcome.answer
    }
}

fn describe(route: &Route, parts: &Parts, connection: Option<&Connection>) -> Call {
    let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    Call {
        target: route.target(),
        method: parts.method.as_str().into(),
        path: parts.uri.path_and_query().map_or("/", |path| path.as_str()).into(),
        at: unix_ms(),
        sent_at: text("chekhov-sent-at").and_then(|at| at.trim().parse().ok()),
        traceparent: text("traceparent").map(Arc::from),
        idempotency_key: text("idempotency-key").map(Arc::from),
        user_agent: text("user-agent").map(Arc::from),
        peer: connection.map(Connection::peer),
        status: None,
        fault: None,
    }
}

/// The receipt a request names, by its body or by what was registered.
fn reference(shared: &Shared, route: &Route, body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(borrow)]
        reference: Cow<'a, str>,
    }
    match route {
        Route::Token => None,
        Route::Register { .. } | Route::OrangeRegister => {
            Some(serde_json::from_slice::<Body>(body).ok()?.reference.into_owned())
        }
        Route::Report { uuid, .. } | Route::FiscalDocument { uuid, .. } => {
            lock(&shared.fiscal).reference_of_uuid(uuid).map(str::to_owned)
        }
        Route::OrangeStatus { inn, id } => lock(&shared.orange).reference(inn, id).map(str::to_owned),
        Route::Lookup { group, external_id } => lock(&shared.fiscal)
            .reference_of_id(group, external_id)
            .map(str::to_owned),
        _ => internal::reference(body),
    }
}

fn token(headers: &HeaderMap) -> Option<String> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = bearer
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let own = || headers.get("token").and_then(|value| value.to_str().ok());
    bearer.map(|(_, token)| token.trim()).or_else(own).map(str::to_owned)
}
