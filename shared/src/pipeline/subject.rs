//! What filters and templates see of a receipt.

use std::sync::{Arc, OnceLock};

use jaq_json::Val;

use super::RenderError;
use super::filter::{Filter, read};

/// `[vars]`: named filters over the receipt.
pub(super) type Variables = Arc<Vec<(String, Filter)>>;

/// A receipt and the results of the stages before this one; parsed once, when the first filter asks.
pub struct Subject {
    receipt: Arc<str>,
    results: Vec<(String, String)>,
    current: Vec<(String, String)>,
    parsed: OnceLock<Result<Val, RenderError>>,
    parsed_results: OnceLock<Result<Vec<(Val, Val)>, RenderError>>,
    variables: OnceLock<Result<Val, RenderError>>,
}

impl Subject {
    /// `receipt` as JSON, and `{request: value}` as JSON for each stage; of two for one stage the later counts.
    #[must_use]
    pub fn new(receipt: Arc<str>, results: Vec<(String, String)>) -> Self {
        let mut newest: Vec<(String, String)> = Vec::with_capacity(results.len());
        for (stage, value) in results {
            newest.retain(|(known, _)| *known != stage);
            newest.push((stage, value));
        }
        Self {
            receipt,
            results: newest,
            current: Vec::new(),
            parsed: OnceLock::new(),
            parsed_results: OnceLock::new(),
            variables: OnceLock::new(),
        }
    }

    /// Makes the result of a request visible to the later requests of its stage.
    pub fn set_request_result(&mut self, request: &str, value: &str) {
        self.current.push((request.to_owned(), value.to_owned()));
    }

    /// Closes the stage: answers its result as JSON and makes it visible to later stages.
    pub fn close_stage(&mut self, stage: &str) -> String {
        let result = object(&std::mem::take(&mut self.current));
        self.results.retain(|(known, _)| known != stage);
        self.results.push((stage.to_owned(), result.clone()));
        self.parsed_results = OnceLock::new();
        result
    }

    /// The standard envelope, put together without parsing.
    pub(super) fn envelope(&self) -> Vec<u8> {
        format!("{{\"receipt\":{},\"results\":{}}}", self.receipt, object(&self.results)).into_bytes()
    }

    /// What a filter of `stage` sees.
    pub(super) fn input(
        &self,
        stage: &str,
        variables: &Variables,
        call_id: &str,
        item: Option<&str>,
    ) -> Result<Vec<(Val, Val)>, RenderError> {
        let unreadable = |what: &str| RenderError(format!("{what} cannot be read"));
        let receipt = self
            .parsed
            .get_or_init(|| read(&self.receipt).map_err(|_| unreadable("the receipt")))
            .clone()?;
        let mut results = self
            .parsed_results
            .get_or_init(|| {
                let results = self.results.iter();
                results
                    .map(|(stage, value)| Ok((text(stage), read(value).map_err(|_| unreadable("a result"))?)))
                    .collect()
            })
            .clone()?;
        if !self.current.is_empty() {
            results.push((
                text(stage),
                read(&object(&self.current)).map_err(|_| unreadable("a result"))?,
            ));
        }
        let variables = self
            .variables
            .get_or_init(|| {
                let seen = Val::obj([(text("receipt"), receipt.clone())].into_iter().collect());
                let mut values = Vec::with_capacity(variables.len());
                for (name, filter) in variables.iter() {
                    values.push((
                        text(name),
                        filter
                            .one(seen.clone())
                            .map_err(|error| RenderError(format!("vars.{name}: {error}")))?,
                    ));
                }
                Ok(Val::obj(values.into_iter().collect()))
            })
            .clone()?;
        let call = Val::obj([(text("id"), text(call_id))].into_iter().collect());
        let mut input = vec![
            (text("receipt"), receipt),
            (text("results"), Val::obj(results.into_iter().collect())),
            (text("vars"), variables),
            (text("call"), call),
        ];
        if let Some(item) = item {
            input.push((text("item"), read(item).map_err(|_| unreadable("an item"))?));
        }
        Ok(input)
    }
}

fn object(members: &[(String, String)]) -> String {
    let members: Vec<String> = members
        .iter()
        .map(|(name, value)| format!("{}:{value}", serde_json::Value::from(name.as_str())))
        .collect();
    format!("{{{}}}", members.join(","))
}

pub(super) fn text(text: &str) -> Val {
    Val::from(text.to_owned())
}
