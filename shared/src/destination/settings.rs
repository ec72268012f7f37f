//! What may be changed about a destination while it is in use. The configuration gives the first values.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::configuration::{self, Limits, duration};

/// How far ahead the broker's queue reaches where limits say how far that is: what is in it keeps its order, so that a new
/// order (deadlines, an operator's change) takes hold no later than this.
const AHEAD: Duration = Duration::from_secs(2);
/// So many receipts may be queued at least.
const FEW: i64 = 64;

/// The settings of a destination, in the form of the configuration, the API and the database alike. A process of another
/// version may have written them: what it did not know has its default, what this one does not know is passed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The most calls, of all dispatchers together.
    pub limits: Limits,
    /// The filter that yields a receipt's key; cannot be changed while it is in use.
    #[serde(default)]
    pub limit_key: Option<String>,
    /// The most calls of one key, likewise.
    #[serde(default)]
    pub key_limits: Limits,
    /// The most calls in flight in one dispatcher.
    pub concurrency: usize,
    /// The most receipts in the broker.
    pub max_queued: i64,
    /// How long it takes from opening to full speed.
    #[serde(deserialize_with = "duration", serialize_with = "written")]
    pub slow_start: Duration,
    /// How long before it passes a deadline is at risk.
    #[serde(
        default = "configuration::quarter_of_an_hour",
        deserialize_with = "duration",
        serialize_with = "written"
    )]
    pub at_risk: Duration,
}

/// A change of settings: what is absent stays as it is, what is null goes back to the configuration's.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// See [`Settings::limits`].
    #[serde(default, skip_serializing_if = "To::is_absent")]
    pub limits: To<Limits>,
    /// See [`Settings::key_limits`].
    #[serde(default, skip_serializing_if = "To::is_absent")]
    pub key_limits: To<Limits>,
    /// See [`Settings::concurrency`]; at least 1.
    #[serde(default, skip_serializing_if = "To::is_absent")]
    pub concurrency: To<u32>,
    /// See [`Settings::max_queued`]; at least 1.
    #[serde(default, skip_serializing_if = "To::is_absent")]
    pub max_queued: To<u32>,
    /// See [`Settings::slow_start`].
    #[serde(default, skip_serializing_if = "To::is_absent")]
    pub slow_start: To<Time>,
    /// See [`Settings::at_risk`].
    #[serde(default, skip_serializing_if = "To::is_absent")]
    pub at_risk: To<Time>,
}

/// What becomes of one setting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum To<T> {
    /// It stays.
    #[default]
    Same,
    /// It goes back to the configuration's: null.
    Configured,
    /// It is this.
    Value(T),
}

impl<T> To<T> {
    fn is_absent(&self) -> bool {
        matches!(self, Self::Same)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for To<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Configured, Self::Value))
    }
}

impl<T: Serialize> Serialize for To<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Value(value) => value.serialize(serializer),
            Self::Same | Self::Configured => serializer.serialize_none(),
        }
    }
}

/// A duration as people write it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(#[serde(deserialize_with = "duration", serialize_with = "written")] Duration);

impl Settings {
    /// What the configuration says.
    #[must_use]
    pub fn of(destination: &configuration::Destination) -> Self {
        Self {
            limits: destination.limits.clone(),
            limit_key: destination.limit_key.clone(),
            key_limits: destination.key_limits.clone(),
            concurrency: destination.concurrency,
            max_queued: destination.max_queued,
            slow_start: destination.slow_start,
            at_risk: destination.at_risk,
        }
    }

    /// How many receipts may be queued: no more than the limits let through within seconds.
    #[must_use]
    pub fn horizon(&self) -> i64 {
        let ahead = self.limits.admit(AHEAD).and_then(|calls| i64::try_from(calls).ok());
        self.max_queued.min(ahead.unwrap_or(i64::MAX).max(FEW))
    }
}

impl Change {
    /// The first value that cannot be, with its member's name.
    #[must_use]
    pub fn mistake(&self) -> Option<(&'static str, &'static str)> {
        match self {
            Self {
                concurrency: To::Value(0),
                ..
            } => Some(("concurrency", "at least 1")),
            Self {
                max_queued: To::Value(0),
                ..
            } => Some(("max_queued", "at least 1")),
            _ => None,
        }
    }
}

fn written<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_tells_null_from_absent() {
        let change: Change = serde_json::from_str(r#"{"limits": null, "slow_start": "5s"}"#).unwrap();
        assert_eq!(
            serde_json::to_string(&change).unwrap(),
            r#"{"limits":null,"slow_start":"5s"}"#
        );
        assert!(change.mistake().is_none());
        let zero: Change = serde_json::from_str(r#"{"concurrency": 0}"#).unwrap();
        assert_eq!(zero.mistake(), Some(("concurrency", "at least 1")));
        assert!(serde_json::from_str::<Change>(r#"{"rate": "5/s"}"#).is_err());
    }

    #[test]
    fn what_another_version_declared_is_read() {
        let declared = r#"{"limits": [], "concurrency": 64, "max_queued": 100, "slow_start": "30s", "colour": 1}"#;
        let settings: Settings = serde_json::from_str(declared).unwrap();
        assert_eq!(settings.at_risk, Duration::from_mins(15));
    }

    #[test]
    fn the_horizon_is_what_goes_through_within_seconds() {
        let settings = |limits: &str| Settings {
            limits: serde_json::from_str(limits).unwrap(),
            limit_key: None,
            key_limits: Limits::default(),
            concurrency: 64,
            max_queued: 10_000,
            slow_start: Duration::from_secs(30),
            at_risk: Duration::from_mins(15),
        };
        assert_eq!(settings(r#"["100/s"]"#).horizon(), 200);
        assert_eq!(settings(r#"["1/h"]"#).horizon(), 64);
        assert_eq!(settings("[]").horizon(), 10_000);
    }
}
