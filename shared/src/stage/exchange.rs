//! One HTTP exchange: no redirects, no repeats of the client's own, a bounded body.
//!
//! hyper's own client, not reqwest: what that adds to each request (layers for redirects and repeats, two readings of the
//! URL) takes a tenth of an orchestrator's time.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client as Legacy, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use reqwest::Url;
use rustls::ClientConfig;

use crate::pipeline::Exchange;

/// The most of an answer that is read.
const BODY: usize = 1024 * 1024;
/// How long a connection is kept that nobody uses.
const IDLE: Duration = Duration::from_secs(90);

/// Makes exchanges on connections that are kept.
#[derive(Clone)]
pub(super) struct Client(Legacy<HttpsConnector<HttpConnector>, Full<Bytes>>);

/// Where an endpoint's calls go: its URL, read once.
pub(super) struct Base {
    url: Url,
    scheme: Scheme,
    authority: Authority,
    path: String,
}

impl Base {
    /// Reads a URL; its host is turned into ASCII.
    pub(super) fn read(url: &str) -> Result<Self, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("the URL cannot be used: {error}");
        let url = Url::parse(url.trim_end_matches('/')).map_err(|error| wrong(&error))?;
        let uri: Uri = url.as_str().parse().map_err(|error| wrong(&error))?;
        match (uri.scheme(), uri.authority()) {
            (Some(scheme), Some(authority)) => Ok(Self {
                scheme: scheme.clone(),
                authority: authority.clone(),
                path: uri.path().trim_end_matches('/').to_owned(),
                url,
            }),
            _ => Err(wrong(&"it names no host")),
        }
    }

    /// Its host.
    pub(super) fn host(&self) -> &str {
        self.authority.host()
    }

    /// Its port, the scheme's if it names none.
    pub(super) fn port(&self) -> u16 {
        let usual = if self.scheme == Scheme::HTTPS { 443 } else { 80 };
        self.authority.port_u16().unwrap_or(usual)
    }

    /// Its path, without a `/` at its end.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// What is below it, as it is given.
    pub(super) fn url(&self, below: &str) -> String {
        format!("{}://{}{}{below}", self.scheme, self.authority, self.path)
    }

    /// What is below it.
    fn uri(&self, path_and_query: &str) -> Result<Uri, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("the URL cannot be used: {error}");
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        let plain = path_and_query
            .is_ascii()
            .then(|| format!("{}{path_and_query}", self.path));
        parts.path_and_query = Some(if let Some(Ok(below)) = plain.map(PathAndQuery::try_from) {
            below
        } else {
            // A pipeline may spell its paths with letters that have to be encoded.
            let whole = format!("{}{path_and_query}", self.url.as_str().trim_end_matches('/'));
            let url = Url::parse(&whole).map_err(|error| wrong(&error))?;
            let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
            PathAndQuery::try_from(format!("{}{query}", url.path())).map_err(|error| wrong(&error))?
        });
        Uri::from_parts(parts).map_err(|error| wrong(&error))
    }
}

impl Client {
    /// A client with connections of its own.
    pub(super) fn new(tls: ClientConfig) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let client = Legacy::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        Self(client)
    }

    /// Makes one exchange, which ends within `timeout`.
    pub(super) async fn exchange(
        &self,
        base: &Base,
        (method, path_and_query): (&Method, &str),
        headers: HeaderMap,
        body: Bytes,
        timeout: Duration,
    ) -> Exchange {
        let uri = match base.uri(path_and_query) {
            Ok(uri) => uri,
            Err(error) => return Exchange::NotSent { error },
        };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        match tokio::time::timeout(timeout, self.answer(request)).await {
            Ok(exchange) => exchange,
            Err(_) => Exchange::Lost {
                error: "no complete answer in time".to_owned(),
            },
        }
    }

    async fn answer(&self, request: Request<Full<Bytes>>) -> Exchange {
        let response = match self.0.request(request).await {
            Ok(response) => response,
            Err(error) if error.is_connect() => return Exchange::NotSent { error: cause(&error) },
            Err(error) => return Exchange::Lost { error: cause(&error) },
        };
        let (head, body) = response.into_parts();
        let body = read(body).await;
        Exchange::Answered {
            status: head.status.as_u16(),
            headers: head.headers,
            complete: body.is_some(),
            body: body.unwrap_or_default(),
        }
    }
}

/// The body; `None` if it broke off, or is too large.
async fn read(mut body: Incoming) -> Option<Bytes> {
    let mut read = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(chunk) = frame.ok()?.into_data() else { continue };
        if read.len() + rest.len() + chunk.len() > BODY {
            return None;
        }
        // Most come in one piece.
        if read.is_empty() && rest.is_empty() {
            read = chunk;
        } else {
            rest.extend_from_slice(&std::mem::take(&mut read));
            rest.extend_from_slice(&chunk);
        }
    }
    Some(if rest.is_empty() { read } else { rest.freeze() })
}

/// The innermost cause, without the URL: a path may carry an id of a receipt.
fn cause(error: &Error) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(base: &str, below: &str) -> String {
        Base::read(base).unwrap().uri(below).unwrap().to_string()
    }

    #[test]
    fn what_is_below_a_url_is_put_behind_it() {
        for (base, below, whole) in [
            (
                "http://localhost:8090/fiscal/",
                "/v4/sell?a=b",
                "http://localhost:8090/fiscal/v4/sell?a=b",
            ),
            ("https://host", "/x", "https://host/x"),
            ("http://[::1]:80", "/x", "http://[::1]/x"),
            (
                "http://пример.рф/касса",
                "/чек",
                "http://xn--e1afmkfd.xn--p1ai/%D0%BA%D0%B0%D1%81%D1%81%D0%B0/%D1%87%D0%B5%D0%BA",
            ),
            (
                "http://host/a",
                "/with space?q=ё",
                "http://host/a/with%20space?q=%D1%91",
            ),
        ] {
            assert_eq!(uri(base, below), whole);
        }
    }
}
