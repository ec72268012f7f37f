//! The simulator: what goes wrong, and who called what.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::http;

/// The simulator's handles.
#[derive(Debug, Clone)]
pub struct Ledger {
    base: String,
    client: reqwest::Client,
}

/// All that the simulator has seen of one receipt.
#[derive(Debug, Clone, Deserialize)]
pub struct Entry {
    /// Every call.
    pub calls: Vec<Value>,
    /// Every registration.
    pub registrations: Vec<Value>,
}

impl Entry {
    /// How often it was registered, at the API where that was most often.
    #[must_use]
    pub fn registered(&self) -> usize {
        let apis: BTreeSet<_> = self
            .registrations
            .iter()
            .filter_map(|known| known["api"].as_str())
            .collect();
        apis.into_iter()
            .map(|api| self.registered_at(api))
            .max()
            .unwrap_or_default()
    }

    /// How often it was registered at one API: a registration that the API reported as failed does not count.
    #[must_use]
    pub fn registered_at(&self, api: &str) -> usize {
        let counts = |known: &&Value| known["api"] == api && known["failed"] != true;
        self.registrations.iter().filter(counts).count()
    }
}

/// The way of one receipt, by the simulator's clock: instants in microseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// `<merchant>/<external id>`.
    pub reference: String,
    /// Its document was first stored: the end of the early stages.
    pub document_us: Option<i64>,
    /// A report first said `done`: the end of the whole way.
    pub done_us: Option<i64>,
    /// How often it is registered.
    pub registered: u64,
}

/// A call to an external API, as it arrived.
#[derive(Debug, Clone, Deserialize)]
pub struct FiscalCall {
    /// What was called: `fiscal.register`, `orange.status` and so on.
    pub target: String,
    /// When it arrived, in milliseconds since 1970.
    pub at: i64,
    /// When its sender says that it was sent.
    pub sent_at: Option<i64>,
    /// The status answered.
    pub status: Option<u16>,
    /// Its key.
    pub idempotency_key: Option<String>,
}

impl Ledger {
    /// The simulator at `base`, such as `http://127.0.0.1:8090`.
    #[must_use]
    pub fn new(base: impl Into<String>) -> Self {
        Self {
            base: base.into(),
            client: http::client(),
        }
    }

    /// Its address.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Sets the whole table of faults.
    ///
    /// # Errors
    /// When the simulator does not take it.
    pub async fn set_faults(&self, faults: &Value) -> anyhow::Result<()> {
        self.ask(Method::PUT, &["faults"], Some(faults)).await.map(drop)
    }

    /// Takes all faults away.
    ///
    /// # Errors
    /// When the simulator does not answer.
    pub async fn clear_faults(&self) -> anyhow::Result<()> {
        self.ask(Method::DELETE, &["faults"], None).await.map(drop)
    }

    /// Makes it forget every call and registration.
    ///
    /// # Errors
    /// When the simulator does not answer.
    pub async fn forget(&self) -> anyhow::Result<()> {
        self.ask(Method::DELETE, &["ledger"], None).await.map(drop)
    }

    /// Sets how the fiscal API behaves when nothing is broken.
    ///
    /// # Errors
    /// When the simulator does not take it.
    pub async fn set(&self, settings: &Value) -> anyhow::Result<()> {
        self.ask(Method::PUT, &["settings"], Some(settings)).await.map(drop)
    }

    /// The figures over everything.
    ///
    /// # Errors
    /// When the simulator does not answer.
    pub async fn summary(&self) -> anyhow::Result<Value> {
        self.ask(Method::GET, &["ledger"], None).await
    }

    /// The calls to external APIs that arrived from `since` on (milliseconds since 1970), in their order.
    ///
    /// # Errors
    /// When the simulator does not answer.
    pub async fn calls(&self, since: i64) -> anyhow::Result<Vec<FiscalCall>> {
        let mut url = http::url(&self.base, &["calls"])?;
        url.set_query(Some(&format!("since={since}")));
        let calls = self.client.get(url).send().await?.bytes().await?;
        serde_json::from_slice(&calls).context("calls of another shape")
    }

    /// The ways of all receipts since it last forgot.
    ///
    /// # Errors
    /// When the simulator does not answer.
    pub async fn ways(&self) -> anyhow::Result<Vec<Way>> {
        let ways = self
            .client
            .get(http::url(&self.base, &["ways"])?)
            .send()
            .await?
            .bytes()
            .await?;
        serde_json::from_slice(&ways).context("ways of another shape")
    }

    /// How many receipts were reported as done since it last forgot.
    ///
    /// # Errors
    /// When the simulator does not answer.
    pub async fn done(&self) -> anyhow::Result<u64> {
        let done = self.ask(Method::GET, &["done"], None).await?;
        done["done"].as_u64().context("no count of what is done")
    }

    /// The tokens that the fiscal API gave and has not revoked.
    ///
    /// # Errors
    /// When the simulator does not answer.
    pub async fn tokens(&self) -> anyhow::Result<Vec<String>> {
        let tokens = self.ask(Method::GET, &["tokens"], None).await?;
        serde_json::from_value(tokens).context("tokens of another shape")
    }

    /// Revokes all of them.
    ///
    /// # Errors
    /// When the simulator does not answer.
    pub async fn revoke_tokens(&self) -> anyhow::Result<()> {
        self.ask(Method::DELETE, &["tokens"], None).await.map(drop)
    }

    /// What there is of one receipt.
    ///
    /// # Errors
    /// When the simulator does not answer.
    pub async fn entry(&self, merchant: &str, external_id: &str) -> anyhow::Result<Entry> {
        let entry = self.ask(Method::GET, &["ledger", merchant, external_id], None).await?;
        serde_json::from_value(entry).context("a ledger of another shape")
    }

    /// Whether it answers.
    pub async fn is_ready(&self) -> bool {
        self.ask(Method::GET, &["settings"], None).await.is_ok()
    }

    async fn ask(&self, method: Method, path: &[&str], body: Option<&Value>) -> anyhow::Result<Value> {
        let mut request = self.client.request(method.clone(), http::url(&self.base, path)?);
        if let Some(body) = body {
            request = request
                .header(reqwest::header::CONTENT_TYPE, "application/json")
                .body(body.to_string());
        }
        let response = request.send().await?;
        let status = response.status();
        let bytes = response.bytes().await?;
        ensure!(
            status.is_success(),
            "the simulator: {method} /{} answered {status}: {}",
            path.join("/"),
            String::from_utf8_lossy(&bytes)
        );
        Ok(serde_json::from_slice(&bytes).unwrap_or_default())
    }
}
