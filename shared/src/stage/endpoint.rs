//! Where calls go, and with which headers.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use super::credentials::{Credentials, Token};
use super::exchange::{Base, Client};
use crate::configuration::{Configuration, Secret};
use crate::pipeline::{Exchange, Rendered, To, Verdict};
use crate::telemetry::TraceContext;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const SENT_AT: HeaderName = HeaderName::from_static("chekhov-sent-at");

/// One service or destination.
pub struct Endpoint {
    /// Its name in the configuration.
    pub name: String,
    base: Base,
    timeout: Duration,
    headers: HeaderMap,
    concurrency: Arc<Semaphore>,
    credentials: Option<Credentials>,
}

/// Every endpoint of the configuration and the client that calls them.
pub struct Endpoints {
    client: Client,
    services: BTreeMap<String, Endpoint>,
    destinations: BTreeMap<String, Endpoint>,
    sent_at: bool,
}

/// Lets a call pass when its time has come: an internal service's concurrency, or a destination's gate.
pub trait Admission: Send + Sync {
    /// Waits until a call to `endpoint` may be made; what it returns is held for the call's duration. An error: it may not be
    /// made at all for now.
    fn admit<'a>(&'a self, endpoint: &'a Endpoint) -> Admitted<'a>;

    /// Takes note of what a call came to.
    fn saw(&self, call: &Seen<'_>);
}

/// See [`Admission::admit`].
pub type Admitted<'a> = Pin<Box<dyn Future<Output = Result<Option<OwnedSemaphorePermit>, Shut>> + Send + 'a>>;

/// No call may be made for now: the destination is closed, or an operator wants none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shut;

/// A call, as whoever admits calls sees it.
pub struct Seen<'a> {
    /// Whose it was.
    pub receipt: Uuid,
    /// When it began.
    pub begun: Instant,
    /// What happened.
    pub exchange: &'a Exchange,
    /// What it came to.
    pub verdict: &'a Verdict,
    /// The destination refused a token that is as new as can be, and that no call was answered well with.
    pub refused: bool,
}

/// The admission of internal services: so many requests at once.
pub struct Concurrency;

impl Admission for Concurrency {
    fn admit<'a>(&'a self, endpoint: &'a Endpoint) -> Admitted<'a> {
        // The semaphore is never closed, so there is always a permit in the end.
        Box::pin(async { Ok(Arc::clone(&endpoint.concurrency).acquire_owned().await.ok()) })
    }

    fn saw(&self, _call: &Seen<'_>) {}
}

/// Why the endpoints cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

impl Endpoints {
    /// Reads the endpoints of a configuration.
    ///
    /// # Errors
    /// When a header cannot be sent or the client cannot be made.
    pub fn new(configuration: &Configuration, sent_at: bool) -> Result<Self, Error> {
        // The provider may have been installed by another part of the process already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::new().map_err(|error| Error(format!("TLS cannot be used: {error}")))?;
        let mut services = BTreeMap::new();
        for (name, service) in &configuration.service {
            let place = format!("service.{name}");
            let headers = headers(&place, &service.headers)?;
            let base = base(&place, &service.url)?;
            services.insert(
                name.clone(),
                Endpoint::new(name, base, service.timeout, headers, service.concurrency),
            );
        }
        let mut destinations = BTreeMap::new();
        for (name, api) in &configuration.destination {
            let place = format!("destination.{name}");
            let headers = headers(&place, &api.headers)?;
            let base = base(&place, &api.url)?;
            let mut endpoint = Endpoint::new(name, base, api.timeout, headers, api.concurrency);
            if let (Some(source), Some(key)) = (&api.token, &configuration.secrets.key) {
                let credentials = Credentials::new(name, source, key);
                endpoint.credentials = Some(credentials.map_err(|error| Error(format!("{place}.token: {error}")))?);
            }
            destinations.insert(name.clone(), endpoint);
        }
        Ok(Self {
            client,
            services,
            destinations,
            sent_at,
        })
    }

    /// The endpoint of a request; `None` if the configuration has it no more.
    #[must_use]
    pub fn get(&self, to: &To) -> Option<&Endpoint> {
        match to {
            To::Service(name) => self.services.get(name),
            To::Destination(name) => self.destinations.get(name),
        }
    }

    /// Makes one call, with the token if there is one. It ends within the endpoint's timeout.
    pub async fn call(
        &self,
        endpoint: &Endpoint,
        request: &Rendered,
        token: Option<&Token>,
        call_id: &str,
        trace: &TraceContext,
        timeout: Option<Duration>,
    ) -> Exchange {
        let mut headers = endpoint.headers.clone();
        if let Err(error) = self.add(&mut headers, request, call_id, trace) {
            return Exchange::NotSent {
                error: error.to_string(),
            };
        }
        if let (Some(credentials), Some(token)) = (&endpoint.credentials, token) {
            let (name, value) = credentials.header(token);
            headers.insert(name, value);
        }
        let body = request.body.clone().map(Bytes::from).unwrap_or_default();
        let target = (&request.method, request.path_and_query.as_str());
        let timeout = timeout.unwrap_or(endpoint.timeout);
        self.client
            .exchange(&endpoint.base, target, headers, body, timeout)
            .await
    }

    fn add(
        &self,
        headers: &mut HeaderMap,
        request: &Rendered,
        call_id: &str,
        trace: &TraceContext,
    ) -> Result<(), Error> {
        let value = |name: &HeaderName, value: &str| {
            HeaderValue::from_str(value).map_err(|_| Error(format!("header {name} cannot be sent")))
        };
        if request.body.is_some() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        for (name, text) in &request.headers {
            let name =
                HeaderName::from_bytes(name.as_bytes()).map_err(|_| Error(format!("header {name} cannot be sent")))?;
            let value = value(&name, text)?;
            headers.insert(name, value);
        }
        headers.insert(IDEMPOTENCY_KEY, value(&IDEMPOTENCY_KEY, call_id)?);
        headers.insert(TRACEPARENT, value(&TRACEPARENT, &trace.traceparent)?);
        if let Some(state) = &trace.tracestate {
            headers.insert(TRACESTATE, value(&TRACESTATE, state)?);
        }
        if self.sent_at {
            let now = time::OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
            headers.insert(SENT_AT, value(&SENT_AT, &now.to_string())?);
        }
        Ok(())
    }
}

impl Endpoint {
    fn new(name: &str, base: Base, timeout: Duration, headers: HeaderMap, concurrency: usize) -> Self {
        Self {
            name: name.to_owned(),
            base,
            timeout,
            headers,
            concurrency: Arc::new(Semaphore::new(concurrency.max(1))),
            credentials: None,
        }
    }

    /// Its credentials, if it is a destination that gives out tokens.
    #[must_use]
    pub fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// How long one call may take, where its request says nothing else.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }
}

fn base(place: &str, url: &str) -> Result<Base, Error> {
    Base::read(url).map_err(|error| Error(format!("{place}.url: {error}")))
}

fn headers(place: &str, given: &BTreeMap<String, Secret>) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    let agent = concat!("chekhov/", env!("CARGO_PKG_VERSION"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
    for (name, value) in given {
        let bad = || Error(format!("{place}.headers.{name}: cannot be sent as a header"));
        let mut value = HeaderValue::from_str(value.expose()).map_err(|_| bad())?;
        value.set_sensitive(true);
        headers.insert(HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?, value);
    }
    Ok(headers)
}
