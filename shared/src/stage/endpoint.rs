//! Where calls go, and with which headers.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use super::base::Base;
use super::connection::Connector;
use super::credentials::{Credentials, Token};
use super::exchange::{Client, connector};
use super::signature::{Signer, Unsigned};
use crate::configuration::{Configuration, Destination, Invalid, Secret, SecretKey, Service};
use crate::pipeline::{Exchange, Rendered, To, Verdict};
use crate::telemetry::TraceContext;
use crate::tls::client;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const SENT_AT: HeaderName = HeaderName::from_static("chekhov-sent-at");
/// The most headers that a call has beside those of its endpoint and its request.
const MORE_HEADERS: usize = 8;

/// One service or destination.
pub struct Endpoint {
    /// Its name in the configuration.
    pub name: String,
    client: Client,
    pub(super) base: Base,
    timeout: Duration,
    headers: HeaderMap,
    signer: Option<Signer>,
    concurrency: Arc<Semaphore>,
    credentials: Option<Credentials>,
}

/// Every endpoint of the configuration.
pub struct Endpoints {
    services: BTreeMap<String, Endpoint>,
    destinations: BTreeMap<String, Endpoint>,
    sent_at: bool,
}

/// Lets a call pass when its time has come: an internal service's concurrency, or a destination's gate.
pub trait Admission: Send + Sync {
    /// Waits until a call to `endpoint` may be made; what it returns is held for the call's duration. An error: it may not be
    /// made at all for now.
    fn admit<'a>(&'a self, endpoint: &'a Endpoint, call: Purpose<'a>) -> Admitted<'a>;

    /// Takes note of what a call came to.
    fn saw(&self, call: &Seen<'_>);
}

/// What a call is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose<'a> {
    /// A receipt in hand. The limits of its key hold; `None`: nobody has one there.
    Receipt(Option<&'a str>),
    /// Another receipt, likewise: nobody waits long for it.
    Reference(Option<&'a str>),
    /// A token, which is everybody's.
    Token,
}

/// See [`Admission::admit`].
pub type Admitted<'a> = Pin<Box<dyn Future<Output = Result<Option<OwnedSemaphorePermit>, Unadmitted>> + Send + 'a>>;

/// Why a call may not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unadmitted {
    /// See [`Shut`].
    Shut,
    /// The limits of its key admit none for so long.
    Limited(Duration),
}

impl From<Shut> for Unadmitted {
    fn from(_: Shut) -> Self {
        Self::Shut
    }
}

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
    fn admit<'a>(&'a self, endpoint: &'a Endpoint, _call: Purpose<'a>) -> Admitted<'a> {
        // The semaphore is never closed, so there is always a permit in the end.
        Box::pin(async { Ok(Arc::clone(&endpoint.concurrency).acquire_owned().await.ok()) })
    }

    fn saw(&self, _call: &Seen<'_>) {}
}

/// A header that cannot be sent.
#[derive(Debug, thiserror::Error)]
#[error("header {0} cannot be sent")]
struct Unsendable(String);

impl Endpoints {
    /// Reads the endpoints of a configuration, with the keys and certificates that it names.
    ///
    /// # Errors
    /// Every header, key or certificate that cannot be used, each with its key.
    pub fn new(configuration: &Configuration, sent_at: bool) -> Result<Self, Invalid> {
        // The provider may have been installed by another part of the process already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let plain = client::plain()
            .map(connector)
            .map_err(|error| Invalid(vec![format!("TLS cannot be used: {error}")]))?;
        let mut mistakes = Vec::new();
        let mut services = BTreeMap::new();
        for (name, service) in &configuration.service {
            let endpoint = Endpoint::of_service(name, service, &plain, &mut mistakes);
            services.extend(endpoint.map(|endpoint| (name.clone(), endpoint)));
        }
        let mut destinations = BTreeMap::new();
        let key = configuration.secrets.key.as_ref();
        for (name, destination) in &configuration.destination {
            let endpoint = Endpoint::of_destination(name, destination, key, &plain, &mut mistakes);
            destinations.extend(endpoint.map(|endpoint| (name.clone(), endpoint)));
        }
        if !mistakes.is_empty() {
            return Err(Invalid(mistakes));
        }
        Ok(Self {
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
        // At once, with those that the client adds: growing, a map is hashed again.
        let most = endpoint.headers.len() + request.headers.len() + MORE_HEADERS;
        let mut headers = HeaderMap::with_capacity(most);
        for (name, value) in &endpoint.headers {
            headers.insert(name, value.clone());
        }
        if let Err(error) = self.add(&mut headers, request, call_id, trace) {
            return Exchange::NotSent {
                error: error.to_string(),
            };
        }
        if let (Some(credentials), Some(token)) = (&endpoint.credentials, token) {
            let (name, value) = credentials.header(token);
            headers.insert(name, value);
        }
        let target = match endpoint.base.target(&request.path_and_query) {
            Ok(target) => target,
            Err(error) => return Exchange::NotSent { error },
        };
        let body = request.body.clone().unwrap_or_default();
        let timeout = timeout.unwrap_or(endpoint.timeout);
        endpoint
            .client
            .exchange(&request.method, target, headers, body, timeout)
            .await
    }

    fn add(
        &self,
        headers: &mut HeaderMap,
        request: &Rendered,
        call_id: &str,
        trace: &TraceContext,
    ) -> Result<(), Unsendable> {
        let value =
            |name: &HeaderName, value: &str| HeaderValue::from_str(value).map_err(|_| Unsendable(name.to_string()));
        if request.body.is_some() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        for (name, text) in &request.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Unsendable(name.clone()))?;
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
    fn of_service(name: &str, service: &Service, plain: &Connector, mistakes: &mut Vec<String>) -> Option<Self> {
        let place = format!("service.{name}");
        let Common { base, headers } = Common::read(&place, &service.url, &service.headers, mistakes)?;
        Some(Self {
            name: name.to_owned(),
            client: Client::new(plain.clone(), base.origin.clone()),
            base,
            timeout: service.timeout,
            headers,
            signer: None,
            concurrency: Arc::new(Semaphore::new(service.concurrency.max(1))),
            credentials: None,
        })
    }

    fn of_destination(
        name: &str,
        api: &Destination,
        key: Option<&SecretKey>,
        plain: &Connector,
        mistakes: &mut Vec<String>,
    ) -> Option<Self> {
        let place = format!("destination.{name}");
        let common = Common::read(&place, &api.url, &api.headers, mistakes);
        let signer = match &api.signature {
            Some(signature) => Signer::read(&format!("{place}.signature"), signature).map(Some),
            None => Ok(None),
        };
        let connector = match &api.tls {
            Some(tls) => client::with_certificate(&format!("{place}.tls"), tls).map(connector),
            None => Ok(plain.clone()),
        };
        let credentials = match (&api.token, key) {
            (Some(source), Some(key)) => Credentials::new(name, source, key).map(Some),
            _ => Ok(None),
        };
        let signer = signer.map_err(|mut wrong| mistakes.append(&mut wrong));
        let credentials = credentials.map_err(|error| mistakes.push(format!("{place}.token: {error}")));
        let connector = connector.map_err(|mut wrong| mistakes.append(&mut wrong));
        let Common { base, headers } = common?;
        Some(Self {
            name: name.to_owned(),
            client: Client::new(connector.ok()?, base.origin.clone()),
            base,
            timeout: api.timeout,
            headers,
            signer: signer.ok()?,
            concurrency: Arc::new(Semaphore::new(api.concurrency.max(1))),
            credentials: credentials.ok()?,
        })
    }

    /// The request as it is to be sent: signed, where the endpoint wants that.
    ///
    /// # Errors
    /// When it cannot be signed now.
    pub(super) async fn signed(&self, mut request: Rendered) -> Result<Rendered, Unsigned> {
        if let Some(signer) = &self.signer {
            signer.sign(&mut request).await?;
        }
        Ok(request)
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

/// What every endpoint has.
struct Common {
    base: Base,
    headers: HeaderMap,
}

impl Common {
    fn read(place: &str, url: &str, given: &BTreeMap<String, Secret>, mistakes: &mut Vec<String>) -> Option<Self> {
        let base = Base::read(url).map_err(|error| mistakes.push(format!("{place}.url: {error}")));
        let headers = headers(place, given).map_err(|mistake| mistakes.push(mistake));
        let (base, mut headers) = (base.ok()?, headers.ok()?);
        headers.entry(header::HOST).or_insert(base.host_header.clone());
        Some(Self { base, headers })
    }
}

fn headers(place: &str, given: &BTreeMap<String, Secret>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    let agent = concat!("chekhov/", env!("CARGO_PKG_VERSION"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
    for (name, value) in given {
        let bad = || format!("{place}.headers.{name}: cannot be sent as a header");
        let mut value = HeaderValue::from_str(value.expose()).map_err(|_| bad())?;
        value.set_sensitive(true);
        headers.insert(HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?, value);
    }
    Ok(headers)
}
