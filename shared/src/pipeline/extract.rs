//! A filter over one document alone: an answer away from any receipt, or a receipt away from any pipeline.

use jaq_json::Val;

use super::filter::Filter;
use super::json::is_json;
use super::reader::read;
use super::subject::text;
use super::template::scalar;

/// A compiled filter that takes one plain value out of an answer's `.body`, or out of a `.receipt`.
pub struct Extract(Filter);

/// Why a filter cannot be used, or what it could not take out; nothing of the answer is quoted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ExtractError(String);

impl Extract {
    /// Compiles a filter.
    ///
    /// # Errors
    /// When it is none, or reaches outside.
    pub fn compile(text: &str) -> Result<Self, ExtractError> {
        Filter::compile(text).map(Self).map_err(ExtractError)
    }

    /// The string, number or boolean that it yields of an answer, as text.
    ///
    /// # Errors
    /// When the body is no JSON, or the filter yields anything else.
    pub fn text(&self, body: &[u8]) -> Result<String, ExtractError> {
        let value = self.value("body", body)?;
        scalar(&value).ok_or_else(no_plain_value)
    }

    /// What it yields of a receipt, likewise; `None` for null.
    ///
    /// # Errors
    /// When the filter yields anything else.
    pub fn of_receipt(&self, receipt: &str) -> Result<Option<String>, ExtractError> {
        match self.value("receipt", receipt.as_bytes())? {
            Val::Null => Ok(None),
            value => scalar(&value).map(Some).ok_or_else(no_plain_value),
        }
    }

    fn value(&self, name: &str, json: &[u8]) -> Result<Val, ExtractError> {
        let json = std::str::from_utf8(json).ok().filter(|json| is_json(json.as_bytes()));
        let json = json.ok_or("not JSON").map_err(|what| ExtractError(what.to_owned()))?;
        let value = read(json).map_err(ExtractError)?;
        let seen = Val::obj([(text(name), value)].into_iter().collect());
        self.0.one(seen).map_err(ExtractError)
    }
}

fn no_plain_value() -> ExtractError {
    ExtractError("no plain value".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_plain_value_is_taken_out() {
        let take = |filter: &str, body: &str| Extract::compile(filter).unwrap().text(body.as_bytes()).ok();
        let body = r#"{"token": "t", "expires_in": 3600, "error": null}"#;
        assert_eq!(take(".body.token", body).as_deref(), Some("t"));
        assert_eq!(take(".body.expires_in * 2", body).as_deref(), Some("7200"));
        assert_eq!(take(".body.error", body), None);
        assert_eq!(take(".body", body), None);
        assert_eq!(take(".body.token", "<html>"), None);
        assert!(Extract::compile("env.HOME").is_err());
        let key = |filter: &str| {
            Extract::compile(filter)
                .unwrap()
                .of_receipt(r#"{"device": 7, "items": []}"#)
        };
        assert_eq!(key(".receipt.device"), Ok(Some("7".to_owned())));
        assert_eq!(key(".receipt.till"), Ok(None));
        assert!(key(".receipt.items").is_err());
    }
}
