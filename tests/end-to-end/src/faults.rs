//! What the services around us can do to a receipt, one fault at one target at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};

use crate::eventually::eventually;
use crate::stack::Stack;

/// Every target that the pipeline calls.
const TARGETS: [&str; 9] = [
    "validation",
    "catalog",
    "sellers",
    "tax",
    "numbers",
    "documents",
    "fiscal.register",
    "fiscal.report",
    "fiscal.document",
];

/// One fault at one target.
#[derive(Debug, Clone)]
pub struct Fault {
    /// A target of the simulator's table.
    pub target: &'static str,
    /// What it is called in tables.
    pub name: &'static str,
    /// The entry of the table.
    pub entry: Value,
}

/// Every mode at every target where it has a meaning.
#[must_use]
pub fn every_fault() -> Vec<Fault> {
    let everywhere = [
        ("slow", json!({"mode": "slow", "latency_ms": 700})),
        ("503", json!({"mode": "error", "status": 503, "retry_after": "1"})),
        ("429", json!({"mode": "error", "status": 429})),
        ("500", json!({"mode": "error", "status": 500})),
        ("refuse", json!({"mode": "refuse"})),
        ("hang", json!({"mode": "hang"})),
        ("commit_then_drop", json!({"mode": "commit_then_drop"})),
        ("drop_before_commit", json!({"mode": "drop_before_commit"})),
        ("commit_late", json!({"mode": "commit_late", "latency_ms": 2500})),
        ("garbage", json!({"mode": "garbage"})),
    ];
    let somewhere = [
        ("fiscal.report", "stuck", json!({"mode": "stuck"})),
        ("fiscal.report", "fail", json!({"mode": "fail"})),
        ("fiscal.report", "lag", json!({"mode": "lag", "latency_ms": 1500})),
        ("fiscal.document", "lag", json!({"mode": "lag", "latency_ms": 3000})),
    ];
    let mut faults = Vec::new();
    for target in TARGETS {
        faults.extend(everywhere.iter().map(|(name, entry)| Fault {
            target,
            name,
            entry: entry.clone(),
        }));
    }
    faults.extend(somewhere.map(|(target, name, entry)| Fault { target, name, entry }));
    faults
}

/// Each mode once, where it hurts most.
#[must_use]
pub fn one_of_each_mode() -> Vec<Fault> {
    let chosen = [
        ("fiscal.document", "slow"),
        ("tax", "503"),
        ("fiscal.register", "429"),
        ("fiscal.report", "500"),
        ("numbers", "refuse"),
        ("fiscal.register", "hang"),
        ("fiscal.register", "commit_then_drop"),
        ("sellers", "drop_before_commit"),
        ("fiscal.register", "commit_late"),
        ("fiscal.register", "garbage"),
        ("fiscal.report", "stuck"),
        ("fiscal.report", "fail"),
        ("fiscal.report", "lag"),
    ];
    let every = every_fault();
    let fault = |(target, name)| {
        every
            .iter()
            .find(|fault| fault.target == target && fault.name == name)
            .cloned()
    };
    chosen.into_iter().filter_map(fault).collect()
}

impl Fault {
    /// Posts `receipts` into the fault, ends it once it struck as often as there are receipts or the destination is closed for it,
    /// and judges when all is settled. Answers how many calls were struck.
    ///
    /// # Errors
    /// When anything was lost, registered twice or not at all, or a stage was called again after its success.
    ///
    /// # Panics
    /// When the fault does not strike, or the receipts do not settle.
    pub async fn strike(&self, stack: &mut Stack, receipts: &[Value]) -> anyhow::Result<u64> {
        let (target, mode) = (self.target, self.entry["mode"].as_str().unwrap_or_default().to_owned());
        let before = struck(stack, target, &mode).await?;
        stack.posted.clear();
        stack.ledger.set_faults(&json!({ target: self.entry })).await?;
        stack.post_all(receipts).await?;
        let enough = u64::try_from(receipts.len())?;
        eventually(Duration::from_secs(30), "the fault strikes", async || {
            let now = struck(stack, target, &mode).await.unwrap_or(before);
            now >= before + enough || now > before && is_closed(stack).await
        })
        .await;
        stack.ledger.clear_faults().await?;
        stack.settled(Duration::from_mins(1)).await;
        let verdict = stack.judge().await?;
        ensure!(verdict.all_registered(), "{} at {target}: {verdict:#?}", self.name);
        for posted in &stack.posted {
            let receipt = stack.shown(posted).await;
            // Reissued, a receipt goes through its last stages again.
            if let Some(again) = receipt.called_again()
                && mode != "fail"
            {
                anyhow::bail!(
                    "{} at {target}: {again} was called again after its success: {:#?}",
                    self.name,
                    receipt.history
                );
            }
        }
        Ok(struck(stack, target, &mode).await? - before)
    }
}

/// Whether nobody but canaries meets the fault any more.
async fn is_closed(stack: &Stack) -> bool {
    let shown = stack.orchestrators[0].api.call(&["v1", "destinations", "fiscal"]).await;
    shown.is_ok_and(|shown| shown.body["state"] == "closed")
}

async fn struck(stack: &Stack, target: &str, mode: &str) -> anyhow::Result<u64> {
    let summary = stack.ledger.summary().await?;
    let struck: BTreeMap<String, BTreeMap<String, u64>> = serde_json::from_value(summary["struck"].clone())?;
    Ok(struck
        .get(target)
        .and_then(|modes| modes.get(mode))
        .copied()
        .unwrap_or_default())
}
