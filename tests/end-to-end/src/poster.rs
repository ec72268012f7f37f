//! The smallest client that posts receipts: what a driver takes is not Chekhov's.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::configured::TOKEN;

/// Posts receipts to one place; clones share their connections.
#[derive(Debug, Clone)]
pub struct Poster {
    client: Client<HttpConnector, Full<Bytes>>,
    url: Uri,
}

/// What a post was answered.
#[derive(Debug)]
pub struct Reply {
    /// 202: it is accepted.
    pub status: StatusCode,
    /// When it may be posted again, if the answer says so in seconds.
    pub retry_after: Option<Duration>,
    /// All of it.
    pub body: Bytes,
}

impl Poster {
    /// Posts to `<base>/v1/receipts`.
    ///
    /// # Errors
    /// When that is no URL.
    pub fn new(base: &str) -> anyhow::Result<Self> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            url: format!("{base}/v1/receipts").parse()?,
        })
    }

    /// Posts one, once.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub async fn post(&self, body: String) -> anyhow::Result<Reply> {
        let request = Request::post(&self.url)
            .header("authorization", format!("Bearer {TOKEN}"))
            .header("content-type", "application/json")
            .body(Full::from(body))?;
        let response = self.client.request(request).await?;
        let retry_after = response.headers().get("retry-after");
        let retry_after = retry_after
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        Ok(Reply {
            status: response.status(),
            retry_after,
            body: response.into_body().collect().await?.to_bytes(),
        })
    }
}
