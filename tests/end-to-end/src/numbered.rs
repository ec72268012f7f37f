//! The receipts of a run: one template under fresh external ids.

use anyhow::Context;
use serde_json::Value;

/// Receipts that differ in their external id alone.
#[derive(Debug)]
pub struct Receipts {
    run: String,
    parsed: Value,
    before: String,
    after: String,
}

impl Receipts {
    /// Receipts with ids that nobody has used.
    ///
    /// # Errors
    /// When the template is no JSON.
    pub fn new(template: &str) -> anyhow::Result<Self> {
        let parsed: Value = serde_json::from_str(template)?;
        let place = "\u{1}";
        let mut marked = parsed.clone();
        marked["external_id"] = Value::from(place);
        let text = marked.to_string();
        let (before, after) = text.split_once("\\u0001").context("the template cannot be cut")?;
        Ok(Self {
            run: uuid::Uuid::new_v4().simple().to_string()[..12].to_owned(),
            before: before.to_owned(),
            after: after.to_owned(),
            parsed,
        })
    }

    /// The external id of the `n`th.
    #[must_use]
    pub fn external_id(&self, n: usize) -> String {
        format!("{}-{n}", self.run)
    }

    /// An idempotency key as long as Chekhov's.
    #[must_use]
    pub fn key(&self, n: usize) -> String {
        format!("{}{n:052x}", self.run)
    }

    /// The `n`th as JSON.
    #[must_use]
    pub fn body(&self, n: usize) -> String {
        format!("{}{}{}", self.before, self.external_id(n), self.after)
    }

    /// The template.
    #[must_use]
    pub fn parsed(&self) -> &Value {
        &self.parsed
    }

    /// The merchant's group.
    #[must_use]
    pub fn group(&self) -> &str {
        self.parsed["merchant"]["group"].as_str().unwrap_or_default()
    }
}
