//! Where calls go, and how one is made: no redirects, no repeats of the client's own, a bounded body.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Url};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::configuration::{Configuration, Secret};
use crate::pipeline::{Exchange, Rendered, To};
use crate::telemetry::TraceContext;

/// The most of an answer that is read.
const BODY: usize = 1024 * 1024;

/// One service or destination.
pub struct Endpoint {
    /// Its name in the configuration.
    pub name: String,
    url: String,
    timeout: Duration,
    headers: HeaderMap,
    concurrency: Arc<Semaphore>,
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
    /// Waits until a call to `endpoint` may be made; what it returns is held for the call's duration.
    fn admit<'a>(
        &'a self,
        endpoint: &'a Endpoint,
    ) -> Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send + 'a>>;
}

/// The admission of internal services: so many requests at once.
pub struct Concurrency;

impl Admission for Concurrency {
    fn admit<'a>(
        &'a self,
        endpoint: &'a Endpoint,
    ) -> Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send + 'a>> {
        // The semaphore is never closed, so there is always a permit in the end.
        Box::pin(async { Arc::clone(&endpoint.concurrency).acquire_owned().await.ok() })
    }
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
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .tcp_nodelay(true)
            .user_agent(concat!("chekhov/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Error(error.to_string()))?;
        let mut services = BTreeMap::new();
        for (name, service) in &configuration.service {
            let headers = headers(&format!("service.{name}"), &service.headers)?;
            services.insert(
                name.clone(),
                Endpoint::new(name, &service.url, service.timeout, headers, service.concurrency),
            );
        }
        let mut destinations = BTreeMap::new();
        for (name, api) in &configuration.destination {
            let headers = headers(&format!("destination.{name}"), &api.headers)?;
            destinations.insert(
                name.clone(),
                Endpoint::new(name, &api.url, api.timeout, headers, api.concurrency),
            );
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

    /// Makes one call. It ends within the endpoint's timeout.
    pub async fn call(
        &self,
        endpoint: &Endpoint,
        request: &Rendered,
        call_id: &str,
        trace: &TraceContext,
        timeout: Option<Duration>,
    ) -> Exchange {
        let url = match Url::parse(&format!("{}{}", endpoint.url, request.path_and_query)) {
            Ok(url) => url,
            Err(error) => {
                return Exchange::NotSent {
                    error: format!("the URL cannot be used: {error}"),
                };
            }
        };
        let mut headers = endpoint.headers.clone();
        if let Err(error) = self.add(&mut headers, request, call_id, trace) {
            return Exchange::NotSent {
                error: error.to_string(),
            };
        }
        let mut builder = self.client.request(request.method.clone(), url).headers(headers);
        if let Some(body) = &request.body {
            builder = builder.body(body.clone());
        }
        match tokio::time::timeout(timeout.unwrap_or(endpoint.timeout), exchange(builder)).await {
            Ok(exchange) => exchange,
            Err(_) => Exchange::Lost {
                error: "no complete answer in time".to_owned(),
            },
        }
    }

    fn add(
        &self,
        headers: &mut HeaderMap,
        request: &Rendered,
        call_id: &str,
        trace: &TraceContext,
    ) -> Result<(), Error> {
        let bad = |name: &str| Error(format!("header {name} cannot be sent"));
        let mut put = |name: &str, value: &str| -> Result<(), Error> {
            let value = HeaderValue::from_str(value).map_err(|_| bad(name))?;
            headers.insert(HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad(name))?, value);
            Ok(())
        };
        if request.body.is_some() {
            put("content-type", "application/json")?;
        }
        for (name, value) in &request.headers {
            put(name, value)?;
        }
        put("idempotency-key", call_id)?;
        put("traceparent", &trace.traceparent)?;
        if let Some(state) = &trace.tracestate {
            put("tracestate", state)?;
        }
        if self.sent_at {
            let now = time::OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
            put("chekhov-sent-at", &now.to_string())?;
        }
        Ok(())
    }
}

impl Endpoint {
    fn new(name: &str, url: &str, timeout: Duration, headers: HeaderMap, concurrency: usize) -> Self {
        Self {
            name: name.to_owned(),
            url: url.trim_end_matches('/').to_owned(),
            timeout,
            headers,
            concurrency: Arc::new(Semaphore::new(concurrency.max(1))),
        }
    }
}

async fn exchange(request: reqwest::RequestBuilder) -> Exchange {
    let mut response = match request.send().await {
        Ok(response) => response,
        Err(error) if error.is_connect() || error.is_builder() => return Exchange::NotSent { error: cause(&error) },
        Err(error) => return Exchange::Lost { error: cause(&error) },
    };
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let mut body = BytesMut::new();
    let complete = loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= BODY => body.extend_from_slice(&chunk),
            Ok(None) => break true,
            Ok(Some(_)) | Err(_) => break false,
        }
    };
    Exchange::Answered {
        status,
        headers,
        body: if complete { body.freeze() } else { Bytes::new() },
        complete,
    }
}

/// The innermost cause, without the URL: a path may carry an id of a receipt.
fn cause(error: &reqwest::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    if std::ptr::addr_eq(inner, error) {
        "the request failed".to_owned()
    } else {
        inner.to_string()
    }
}

fn headers(place: &str, given: &BTreeMap<String, Secret>) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let bad = || Error(format!("{place}.headers.{name}: cannot be sent as a header"));
        let mut value = HeaderValue::from_str(value.expose()).map_err(|_| bad())?;
        value.set_sensitive(true);
        headers.insert(HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?, value);
    }
    Ok(headers)
}
