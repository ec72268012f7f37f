//! Durations as people write them: `10s`, `72h`, `1m 30s`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error};

/// Reads a duration.
///
/// # Errors
/// When it is none, or zero.
pub fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    match humantime::parse_duration(&text) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err(D::Error::custom(format!(
            "{text:?} is not a duration such as \"10s\", \"5m\" or \"72h\""
        ))),
    }
}

/// Reads a duration that may be absent.
///
/// # Errors
/// When it is there and no duration.
pub fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}
