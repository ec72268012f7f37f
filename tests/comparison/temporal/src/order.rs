//! What Temporal is told and keeps in its histories: the receipt, its stages, and what they came to.

use std::time::Duration;

use comparison::stages::Receipt;
use serde::{Deserialize, Serialize};

/// The input of a workflow. Its stages are part of it: a replay does not depend on the pipeline of whoever replays.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Order {
    /// Merchant id.
    pub merchant: String,
    /// The caller's id.
    pub external_id: String,
    /// The receipt as JSON, kept as text so that no number in it is written another way.
    pub content: String,
    /// Its stages, in order.
    pub steps: Vec<Step>,
}

/// A stage, and how it is run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Step {
    /// The stage's name.
    pub stage: String,
    /// By whom.
    pub place: Place,
    /// How long one attempt may take.
    pub timeout: Duration,
}

/// Where the attempts of a stage are made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Within the workflow task, by the worker that has it: a local activity.
    Local,
    /// By whoever polls the workflow's own task queue.
    Same,
    /// By whoever polls this one.
    Queue(String),
}

/// The input of an activity: one stage of a receipt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Work {
    /// Merchant id.
    pub merchant: String,
    /// The caller's id.
    pub external_id: String,
    /// The receipt as JSON.
    pub content: String,
    /// The stage's name.
    pub stage: String,
    /// What the stages before it came to: `{request: value}` as JSON for each.
    pub results: Vec<(String, String)>,
}

impl Order {
    /// The workflow's id: a receipt that is posted again is the same workflow.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}/{}", self.merchant, self.external_id)
    }

    /// The work of a stage, behind the results of those before it.
    #[must_use]
    pub fn work(&self, stage: &str, results: &[(String, String)]) -> Work {
        Work {
            merchant: self.merchant.clone(),
            external_id: self.external_id.clone(),
            content: self.content.clone(),
            stage: stage.to_owned(),
            results: results.to_vec(),
        }
    }
}

impl Work {
    /// The receipt that it is about.
    #[must_use]
    pub fn receipt(&self) -> Receipt {
        Receipt {
            merchant: self.merchant.clone(),
            external_id: self.external_id.clone(),
            content: self.content.as_str().into(),
        }
    }
}
