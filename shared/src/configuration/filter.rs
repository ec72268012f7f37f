//! Filters in the configuration: the text of one that compiles.

use serde::de::Error;
use serde::{Deserialize, Deserializer};

use crate::pipeline::Extract;

/// One that has to be there.
pub(super) fn needed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    Extract::compile(&text).map_err(D::Error::custom)?;
    Ok(text)
}

/// One that may be.
pub(super) fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    needed(deserializer).map(Some)
}
