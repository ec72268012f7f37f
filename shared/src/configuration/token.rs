//! Where a destination's token comes from.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use serde::de::{Error, IgnoredAny};
use serde::{Deserialize, Deserializer};

use super::read::Mistake;
use super::{Secret, duration, filter};

/// `[destination.<name>.token]`: fetched once for all dispatchers, and added to every call.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSource {
    /// The path below the destination's URL that it is fetched from.
    pub post: String,
    /// What is posted there.
    pub body: Secret,
    /// What `body` is. Default `application/json`.
    #[serde(default = "json")]
    pub content_type: String,
    /// A filter over the answer's `.body`: the token. Default `.body.token`.
    #[serde(default = "token", deserialize_with = "filter::needed")]
    pub token: String,
    /// A filter over the answer's `.body`: for how many seconds it is good. Default `.body.expires_in`, without `life`.
    #[serde(default, deserialize_with = "filter::optional")]
    pub expires_in: Option<String>,
    /// For how long it is good, where the answer does not say.
    #[serde(default, deserialize_with = "duration::optional")]
    pub life: Option<Duration>,
    /// The header that has it. Default `authorization`.
    #[serde(default = "authorization", deserialize_with = "header_name")]
    pub header: HeaderName,
    /// What stands before it there. Default `Bearer `.
    #[serde(default = "bearer")]
    pub prefix: String,
}

impl TokenSource {
    pub(super) fn check(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        if !self.post.starts_with('/') {
            mistakes.push(("post", "a path is needed, such as \"/token\""));
        }
        if HeaderValue::from_str(&self.content_type).is_err() {
            mistakes.push(("content_type", "cannot be sent as a header"));
        }
        if self.content_type == JSON && serde_json::from_str::<IgnoredAny>(self.body.expose()).is_err() {
            mistakes.push(("body", "is no JSON, and no content_type says what else it is"));
        }
        if self.expires_in.is_some() && self.life.is_some() {
            mistakes.push(("life", "either this or expires_in"));
        }
        if HeaderValue::from_str(&self.prefix).is_err() {
            mistakes.push(("prefix", "cannot be sent in a header"));
        }
        mistakes
    }

    /// The filter that yields for how many seconds the token is good; `None`: it is good for `life`.
    #[must_use]
    pub fn expires_in(&self) -> Option<&str> {
        match self.life {
            Some(_) => None,
            None => Some(self.expires_in.as_deref().unwrap_or(EXPIRES_IN)),
        }
    }
}

const JSON: &str = "application/json";
const EXPIRES_IN: &str = ".body.expires_in";

fn json() -> String {
    JSON.to_owned()
}
fn token() -> String {
    ".body.token".to_owned()
}
fn bearer() -> String {
    "Bearer ".to_owned()
}
fn authorization() -> HeaderName {
    http::header::AUTHORIZATION
}

fn header_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HeaderName, D::Error> {
    let text = String::deserialize(deserializer)?;
    let name = HeaderName::from_bytes(text.as_bytes());
    name.map_err(|_| D::Error::custom(format!("{text:?} is no name of a header")))
}
