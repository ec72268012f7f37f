//! The yardstick: the five calls of a receipt alone. Nothing is durable, nobody is posted to, nothing is rendered but bodies.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use end_to_end::Receipts;
use reqwest::{Client, Method};
use serde_json::{Value, json};

/// Where the calls go, and with what.
#[derive(Debug, Clone)]
pub struct Bare {
    client: Client,
    base: Arc<str>,
}

impl Bare {
    /// Calls the services at `base`.
    pub fn new(base: &str) -> anyhow::Result<Self> {
        let client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self {
            client,
            base: base.into(),
        })
    }

    /// Makes the calls of `count` receipts, `concurrency` receipts at once; answers how long that took.
    pub async fn run(&self, receipts: &Arc<Receipts>, count: usize, concurrency: usize) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        let mut workers = tokio::task::JoinSet::new();
        for worker in 0..concurrency {
            let (bare, receipts) = (self.clone(), Arc::clone(receipts));
            workers.spawn(async move {
                for n in (worker..count).step_by(concurrency) {
                    bare.receipt(&receipts, n).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(worker) = workers.join_next().await {
            worker??;
        }
        Ok(begun.elapsed())
    }

    async fn receipt(&self, receipts: &Receipts, n: usize) -> anyhow::Result<()> {
        let (key, receipt) = (receipts.key(n), receipts.body(n));
        let envelope = |results: &str| format!("{{\"receipt\":{receipt},\"results\":{{{results}}}}}");
        let rules = self
            .call(Method::POST, "validation/validate", &key, Some(envelope("")))
            .await?;
        let rules = format!("\"validate\":{{\"rules\":{rules}}}");
        let tax = self
            .call(Method::POST, "tax/calculate", &key, Some(envelope(&rules)))
            .await?;
        let path = format!("documents/documents/{key}");
        let both = format!("{rules},\"calculate\":{{\"tax\":{tax}}}");
        self.call(Method::PUT, &path, &key, Some(envelope(&both))).await?;
        let body = registration(receipts, n, &key, &tax)?;
        let path = format!("fiscal/v4/{}/sell", receipts.group());
        let sent: Value = serde_json::from_str(&self.call(Method::POST, &path, &key, Some(body)).await?)?;
        let uuid = sent["uuid"].as_str().context("a registration without a uuid")?;
        let path = format!("fiscal/v4/{}/report/{uuid}", receipts.group());
        let report: Value = serde_json::from_str(&self.call(Method::GET, &path, &key, None).await?)?;
        ensure!(report["status"] == "done", "not registered: {report}");
        Ok(())
    }

    async fn call(&self, method: Method, path: &str, key: &str, body: Option<String>) -> anyhow::Result<String> {
        let mut request = self
            .client
            .request(method, format!("{}/{path}", self.base))
            .header("idempotency-key", key);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        let response = request.send().await?.error_for_status()?;
        Ok(response.text().await?)
    }
}

/// What the pipeline's `register.jq` makes of a receipt, put together by hand.
fn registration(receipts: &Receipts, n: usize, key: &str, tax: &str) -> anyhow::Result<String> {
    let receipt = receipts.parsed();
    let tax: Value = serde_json::from_str(tax)?;
    let vats: Vec<Value> = tax["vat"]
        .as_array()
        .context("no VAT")?
        .iter()
        .map(|vat| json!({"type": vat["vat"], "sum": vat["sum"]}))
        .collect();
    let items: Vec<Value> = receipt["items"].as_array().context("no items")?.iter()
        .map(|item| {
            json!({"name": item["name"], "price": item["price"], "quantity": item["quantity"], "sum": item["sum"],
                "payment_method": item["payment_method"], "payment_object": item["payment_object"], "vat": {"type": item["vat"]}})
        })
        .collect();
    let merchant = &receipt["merchant"];
    let body = json!({
        "external_id": key,
        "reference": format!("{}/{}", merchant["id"].as_str().unwrap_or_default(), receipts.external_id(n)),
        "timestamp": "23.11.2026 12:00:00",
        "receipt": {
            "client": receipt["customer"],
            "company": {"inn": merchant["inn"], "sno": merchant["tax_system"], "payment_address": merchant["payment_address"]},
            "items": items,
            "payments": receipt["payments"],
            "vats": vats,
            "total": receipt["total"],
        },
    });
    Ok(body.to_string())
}
