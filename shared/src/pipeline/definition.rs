//! The shape of a pipeline's file, as serde reads it.

use std::collections::BTreeMap;

use serde::Deserialize;

/// `[retry]`, also of a stage.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Retry {
    pub first: Option<String>,
    pub factor: Option<f64>,
    pub max: Option<String>,
    pub budget: Option<String>,
    pub repeats: Option<u32>,
}

/// `poll = {…}`: the budget is the stage's.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Poll {
    pub first: Option<String>,
    pub factor: Option<f64>,
    pub max: Option<String>,
}

/// `[<stage>.<request>]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    pub service: Option<String>,
    pub destination: Option<String>,
    pub get: Option<String>,
    pub post: Option<String>,
    pub put: Option<String>,
    pub patch: Option<String>,
    pub delete: Option<String>,
    pub when: Option<String>,
    pub for_each: Option<String>,
    pub parallel: Option<usize>,
    #[serde(default)]
    pub query: BTreeMap<String, String>,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    pub body: Option<String>,
    pub body_file: Option<String>,
    pub save: Option<String>,
    pub effect: Option<String>,
    pub timeout: Option<String>,
    pub poll: Option<Poll>,
    pub unknown: Option<String>,
    pub window: Option<String>,
    /// Read as a request of its own.
    pub lookup: Option<toml::Table>,
    /// Read one by one, as [`Rule`]s.
    #[serde(default)]
    pub on: Vec<toml::Table>,
}

/// One entry of `on`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    pub status: Option<u16>,
    #[serde(rename = "if")]
    pub condition: Option<String>,
    pub then: String,
    pub reason: Option<String>,
    pub stage: Option<String>,
    #[serde(default)]
    pub registered: bool,
}
