//! What filters and templates see of a receipt.

use std::sync::{Arc, OnceLock};

use jaq_json::Val;

use super::RenderError;
use super::filter::Filter;
use super::reader::read;

/// `[vars]`: named filters over the receipt.
pub(super) type Variables = Arc<Vec<(String, Filter)>>;

/// A receipt and the results of the stages before this one; each parsed once, when the first filter asks.
pub struct Subject {
    receipt: Json,
    results: Vec<(String, Json)>,
    current: Vec<(String, String)>,
    variables: OnceLock<Result<Val, RenderError>>,
}

/// JSON, and its value once somebody asked.
struct Json {
    text: Arc<str>,
    value: OnceLock<Option<Val>>,
}

impl Json {
    fn new(text: impl Into<Arc<str>>) -> Self {
        Self {
            text: text.into(),
            value: OnceLock::new(),
        }
    }

    fn value(&self, what: &str) -> Result<Val, RenderError> {
        let value = self.value.get_or_init(|| read(&self.text).ok()).clone();
        value.ok_or_else(|| RenderError(format!("{what} cannot be read")))
    }
}

impl Subject {
    /// `receipt` as JSON, and `{request: value}` as JSON for each stage; of two for one stage the later counts.
    #[must_use]
    pub fn new(receipt: Arc<str>, results: Vec<(String, String)>) -> Self {
        let mut subject = Self {
            receipt: Json::new(receipt),
            results: Vec::with_capacity(results.len()),
            current: Vec::new(),
            variables: OnceLock::new(),
        };
        for (stage, value) in results {
            subject.set_result(&stage, value);
        }
        subject
    }

    fn set_result(&mut self, stage: &str, value: String) {
        self.results.retain(|(known, _)| known != stage);
        self.results.push((stage.to_owned(), Json::new(value)));
    }

    /// Makes the result of a request visible to the later requests of its stage.
    pub fn set_request_result(&mut self, request: &str, value: &str) {
        self.current.push((request.to_owned(), value.to_owned()));
    }

    /// Closes the stage: answers its result as JSON and makes it visible to later stages.
    pub fn close_stage(&mut self, stage: &str) -> String {
        let current = std::mem::take(&mut self.current);
        let result = object(current.iter().map(|(name, value)| (name, value.as_str())));
        self.set_result(stage, result.clone());
        result
    }

    /// The standard envelope, put together without parsing.
    pub(super) fn envelope(&self) -> Vec<u8> {
        let results: usize = self
            .results
            .iter()
            .map(|(stage, result)| stage.len() + result.text.len())
            .sum();
        let mut envelope = String::with_capacity(self.receipt.text.len() + results + 8 * self.results.len() + 32);
        envelope.push_str("{\"receipt\":");
        envelope.push_str(&self.receipt.text);
        envelope.push_str(",\"results\":");
        write_object(
            &mut envelope,
            self.results.iter().map(|(stage, result)| (stage, &*result.text)),
        );
        envelope.push('}');
        envelope.into_bytes()
    }

    pub(super) fn receipt(&self) -> Result<Val, RenderError> {
        self.receipt.value("the receipt")
    }

    /// The results so far, and those of the requests of `stage`, if it is under way.
    pub(super) fn results(&self, stage: &str) -> Result<Val, RenderError> {
        let mut results = Vec::with_capacity(self.results.len() + 1);
        for (stage, result) in &self.results {
            results.push((text(stage), result.value("a result")?));
        }
        if let Some(result) = self.under_way() {
            results.push((text(stage), result.value("a result")?));
        }
        Ok(Val::obj(results.into_iter().collect()))
    }

    /// One of them.
    pub(super) fn result(&self, name: &str, stage: &str) -> Result<Option<Val>, RenderError> {
        if name == stage
            && let Some(result) = self.under_way()
        {
            return result.value("a result").map(Some);
        }
        let result = self.results.iter().find(|(known, _)| known == name);
        result.map(|(_, result)| result.value("a result")).transpose()
    }

    /// What the requests of the stage that is under way have come to.
    fn under_way(&self) -> Option<Json> {
        let current = self.current.iter().map(|(name, value)| (name, value.as_str()));
        (!self.current.is_empty()).then(|| Json::new(object(current)))
    }

    /// What `[vars]` come to.
    pub(super) fn variables(&self, variables: &Variables) -> Result<Val, RenderError> {
        let compute = || {
            let seen = Val::obj([(text("receipt"), self.receipt()?)].into_iter().collect());
            let mut values = Vec::with_capacity(variables.len());
            for (name, filter) in variables.iter() {
                let value = filter.one(seen.clone());
                values.push((
                    text(name),
                    value.map_err(|error| RenderError(format!("vars.{name}: {error}")))?,
                ));
            }
            Ok(Val::obj(values.into_iter().collect()))
        };
        self.variables.get_or_init(compute).clone()
    }
}

fn object<'a>(members: impl Iterator<Item = (&'a String, &'a str)>) -> String {
    let mut object = String::new();
    write_object(&mut object, members);
    object
}

/// Appends the object of these names, and values that are JSON.
fn write_object<'a>(to: &mut String, members: impl Iterator<Item = (&'a String, &'a str)>) {
    to.push('{');
    for (place, (name, value)) in members.enumerate() {
        if place > 0 {
            to.push(',');
        }
        to.push_str(&serde_json::Value::from(name.as_str()).to_string());
        to.push(':');
        to.push_str(value);
    }
    to.push('}');
}

pub(super) fn text(text: &str) -> Val {
    Val::from(text.to_owned())
}
