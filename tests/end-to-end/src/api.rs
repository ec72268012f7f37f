//! The intake, as a client sees it.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;

use crate::http;

/// One orchestrator's HTTP API, with a token.
#[derive(Debug, Clone)]
pub struct Api {
    base: String,
    token: String,
    client: reqwest::Client,
}

/// What a call was answered with.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// `Retry-After` in seconds.
    pub retry_after: Option<u64>,
    /// The body; null when it is no JSON.
    pub body: Value,
}

/// A receipt as `GET /v1/receipts/{id}` shows it: what tests look at.
#[derive(Debug, Clone, Deserialize)]
pub struct Receipt {
    /// Chekhov's id.
    pub id: String,
    /// The merchant's id.
    pub merchant: String,
    /// The caller's id.
    pub external_id: String,
    /// One of the contract's states.
    pub state: String,
    /// Where it stands.
    pub stage: Option<String>,
    /// Why it waits.
    pub reason: Option<String>,
    /// When it was stored.
    #[serde(with = "time::serde::rfc3339")]
    pub accepted_at: OffsetDateTime,
    /// All of its trace.
    pub trace_id: String,
    /// Every call made for it.
    pub history: Vec<Call>,
}

/// One call of a history.
#[derive(Debug, Clone, Deserialize)]
pub struct Call {
    /// The stage it belongs to.
    pub stage: String,
    /// The request of that stage.
    pub request: String,
    /// Its idempotency key.
    pub call_id: String,
    /// The key that it was issued instead of.
    pub reissue_of: Option<String>,
    /// When it began.
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    /// How long it took.
    pub duration_ms: i64,
    /// What it came to.
    pub outcome: String,
    /// The status answered.
    pub status: Option<u16>,
}

impl Receipt {
    /// Whether nothing happens any more without a person.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        matches!(self.state.as_str(), "registered" | "rejected" | "cancelled" | "parked")
    }

    /// The first stage that was called again after a later one had been: its success was committed, and forgotten.
    #[must_use]
    pub fn called_again(&self) -> Option<&str> {
        let mut order: Vec<&str> = Vec::new();
        for call in &self.history {
            match order.iter().position(|stage| *stage == call.stage) {
                None => order.push(&call.stage),
                Some(index) if index + 1 < order.len() => return Some(&call.stage),
                Some(_) => {}
            }
        }
        None
    }
}

impl Answer {
    /// Whether the receipt is stored: now, or already.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        matches!(self.status, 200 | 202)
    }

    /// Chekhov's id of it.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.body.get("id")?.as_str()
    }
}

impl Api {
    /// Where it is.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The API at `base`, such as `http://127.0.0.1:8080`.
    #[must_use]
    pub fn new(base: impl Into<String>, token: impl Into<String>) -> Self {
        Self::trusting(None, base, token)
    }

    /// The same, behind TLS by a certificate of the authority of a PEM file.
    pub(crate) fn trusting(authority: Option<&Path>, base: impl Into<String>, token: impl Into<String>) -> Self {
        Self {
            base: base.into(),
            token: token.into(),
            client: http::trusting(authority),
        }
    }

    /// Posts a receipt once.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn post(&self, receipt: &Value) -> anyhow::Result<Answer> {
        let url = http::url(&self.base, &["v1", "receipts"])?;
        let request = self
            .client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .body(receipt.to_string());
        self.send(request).await
    }

    /// Posts a receipt as a careful client does: again, with the same content, until it is answered for good.
    ///
    /// # Errors
    /// When that takes longer than `limit`: what stood in the way last.
    pub async fn post_until_answered(&self, receipt: &Value, limit: Duration) -> anyhow::Result<Answer> {
        let begun = tokio::time::Instant::now();
        loop {
            let answer = self.post(receipt).await;
            let pause = match &answer {
                Ok(answer) if !matches!(answer.status, 429 | 500..) => return Ok(answer.clone()),
                Ok(answer) => Duration::from_secs(answer.retry_after.unwrap_or(1)),
                Err(_) => Duration::from_millis(200),
            };
            if begun.elapsed() + pause > limit {
                return answer;
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Reads a receipt by Chekhov's id.
    ///
    /// # Errors
    /// When it cannot be read; `None` says that there is none.
    pub async fn get(&self, id: &str) -> anyhow::Result<Option<Receipt>> {
        let answer = self.call(&["v1", "receipts", id]).await?;
        match answer.status {
            200 => Ok(Some(
                serde_json::from_value(answer.body).context("a receipt of another shape")?,
            )),
            404 => Ok(None),
            status => anyhow::bail!("GET /v1/receipts/{id}: {status} {}", answer.body),
        }
    }

    /// Makes any `POST` without a body, by the segments of its path.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn act(&self, path: &[&str]) -> anyhow::Result<Answer> {
        self.send(self.client.post(http::url(&self.base, path)?)).await
    }

    /// Tells what a person found out about a receipt's call.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn resolve(&self, id: &str, finding: &Value) -> anyhow::Result<Answer> {
        let url = http::url(&self.base, &["v1", "receipts", id, "resolve"])?;
        let request = self.client.post(url).header(CONTENT_TYPE, "application/json");
        self.send(request.body(finding.to_string())).await
    }

    /// Makes any call, by the whole of its path and query.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn request(&self, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<Answer> {
        let request = self.client.request(method.parse()?, format!("{}{path}", self.base));
        let body = body.map(Value::to_string).unwrap_or_default();
        self.send(request.header(CONTENT_TYPE, "application/json").body(body))
            .await
    }

    /// Changes a destination.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn change(&self, destination: &str, change: &Value) -> anyhow::Result<Answer> {
        let url = http::url(&self.base, &["v1", "destinations", destination])?;
        let request = self.client.patch(url).header(CONTENT_TYPE, "application/json");
        self.send(request.body(change.to_string())).await
    }

    /// The same API with another token, or with none if that is empty.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self {
            token: token.to_owned(),
            ..self.clone()
        }
    }

    /// Makes any `GET`, by the segments of its path.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn call(&self, path: &[&str]) -> anyhow::Result<Answer> {
        self.send(self.client.get(http::url(&self.base, path)?)).await
    }

    /// Makes any `GET` with a query, by the segments of its path.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn ask(&self, path: &[&str], query: &[(&str, &str)]) -> anyhow::Result<Answer> {
        self.send(self.client.get(with_query(&self.base, path, query)?)).await
    }

    /// The same where the answer is text; with its status.
    ///
    /// # Errors
    /// When there is no answer, or it breaks off.
    pub async fn text(&self, path: &[&str], query: &[(&str, &str)]) -> anyhow::Result<(u16, String)> {
        let request = self.client.get(with_query(&self.base, path, query)?);
        let response = request
            .header(AUTHORIZATION, format!("Bearer {}", self.token))
            .send()
            .await?;
        Ok((response.status().as_u16(), response.text().await?))
    }

    /// Whether the process says that it can work.
    pub async fn is_ready(&self) -> bool {
        self.call(&["readyz"]).await.is_ok_and(|answer| answer.status == 200)
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Answer> {
        let request = if self.token.is_empty() {
            request
        } else {
            request.header(AUTHORIZATION, format!("Bearer {}", self.token))
        };
        let response = request.send().await?;
        let status = response.status().as_u16();
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let body = serde_json::from_slice(&response.bytes().await?).unwrap_or_default();
        Ok(Answer {
            status,
            retry_after,
            body,
        })
    }
}

fn with_query(base: &str, path: &[&str], query: &[(&str, &str)]) -> anyhow::Result<reqwest::Url> {
    let mut url = http::url(base, path)?;
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    Ok(url)
}
