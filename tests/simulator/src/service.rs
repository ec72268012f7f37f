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

use crate::answer::Answer;
use crate::app::{Simulator, State as Shared, lock, unix_ms};
use crate::connection::Connection;
use crate::faults::{Fault, Mode};
use crate::fiscal::{Accepted, Outcome};
use crate::internal;
use crate::ledger::{Call, CallId, Registration};
use crate::route::Route;

/// The longest body that is read.
const MAX_BODY: usize = 1 << 20;

/// A request that has been read and recorded.
struct Job {
    route: Route,
    query: String,
    body: Bytes,
    token: Option<String>,
    /// Seconds until there is room again, if the limit is exceeded.
    over_limit: Option<u64>,
    call: Call,
    fault: Option<Arc<Fault>>,
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
    if let Some(answer) = respond(shared, route, &parts, body, call, id).await {
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
) -> Option<Answer> {
    let (target, now) = (call.target, Instant::now());
    let limit = lock(&shared.settings).limit.filter(|_| target.is_limited());
    let over_limit = limit.and_then(|limit| lock(&shared.limiter).admit(Some(limit), now).err());
    let key = call.idempotency_key.as_deref().unwrap_or(&call.path);
    let fault = lock(&shared.faults).pick(target, key, now);
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
        over_limit,
        call,
        fault: fault.clone(),
    };
    match fault {
        None => Some(job.work(shared)),
        Some(fault) => strike(shared, job, &fault).await,
    }
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
        Mode::Stuck | Mode::Lag | Mode::Fail => Some(job.work(shared)),
    }
}

impl Job {
    /// Does what was asked for.
    fn work(self, shared: &Shared) -> Answer {
        if let Some(seconds) = self.over_limit {
            let answer = Answer::error(StatusCode::TOO_MANY_REQUESTS, 429, "system", "too many requests");
            return answer.retry_after(Some(HeaderValue::from(seconds)));
        }
        let settings = *lock(&shared.settings);
        if settings.auth
            && self.call.target.is_limited()
            && !lock(&shared.fiscal).knows(self.token.as_deref(), settings)
        {
            return Answer::error(
                StatusCode::UNAUTHORIZED,
                11,
                "system",
                "the token is missing, unknown or expired",
            );
        }
        let fault = self.fault.as_deref();
        match &self.route {
            Route::Validate => internal::validate(),
            Route::Catalog => internal::catalog(&self.query),
            Route::Seller { inn } => internal::seller(inn),
            Route::Tax => internal::tax(&self.body),
            Route::Number { key } => lock(&shared.internal).number(key.clone()),
            Route::Document { key } => internal::document(key),
            Route::Token => lock(&shared.fiscal).token(settings, unix_ms()),
            Route::Register { group, operation } => self.register(shared, group, operation),
            Route::Report { group, uuid } => {
                let mut fiscal = lock(&shared.fiscal);
                let (answer, failed) = fiscal.report((group, uuid), settings, fault);
                if let Some((reference, uuid)) = failed {
                    lock(&shared.ledger).failed(&reference, uuid);
                }
                answer
            }
            Route::FiscalDocument { group, uuid } => lock(&shared.fiscal).document(group, uuid, settings, fault),
            Route::Lookup { group, external_id } => lock(&shared.fiscal).look_up(group, external_id, settings, fault),
            Route::Unknown => Answer::error(StatusCode::NOT_FOUND, 40, "system", "no such method and path"),
        }
    }

    fn register(&self, shared: &Shared, group: &str, operation: &str) -> Answer {
        let (settings, at) = (*lock(&shared.settings), unix_ms());
        // Held until the ledger knows too, so that no report comes between the two.
        let mut fiscal = lock(&shared.fiscal);
        let Outcome { answer, accepted } = fiscal.register(group, operation, &self.body, settings, at);
        if let Some(Accepted {
            uuid,
            reference,
            external_id,
            total,
        }) = accepted
        {
            let call = self.call.clone();
            let registration = Registration {
                uuid,
                external_id,
                group: group.to_owned(),
                operation: operation.to_owned(),
                total,
                at,
                traceparent: call.traceparent,
                idempotency_key: call.idempotency_key,
                user_agent: call.user_agent,
                peer: call.peer,
                failed: false,
            };
            lock(&shared.ledger).registered(&reference, registration);
        }
        answer
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
        Route::Register { .. } => Some(serde_json::from_slice::<Body>(body).ok()?.reference.into_owned()),
        Route::Report { uuid, .. } | Route::FiscalDocument { uuid, .. } => {
            lock(&shared.fiscal).reference_of_uuid(uuid).map(str::to_owned)
        }
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
