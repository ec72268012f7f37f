//! What is looked for. It is read from a query or from JSON alike: every member is text.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// Receipts of a kind: those for which all that is said is true.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// Merchant id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merchant: Option<String>,
    /// The caller's id; only with a merchant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// The state it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// The stage it stands at, or ended at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// Where its stage goes, or its next external one: of open receipts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// What it is stuck in: of open receipts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Accepted so long ago or longer, such as `2h`.
    #[serde(skip_serializing_if = "Option::is_none", with = "duration")]
    #[schema(value_type = Option<String>)]
    #[param(value_type = Option<String>)]
    pub older_than: Option<Duration>,
    /// Accepted at that time or later.
    #[serde(skip_serializing_if = "Option::is_none", with = "time::serde::rfc3339::option")]
    pub accepted_after: Option<OffsetDateTime>,
    /// Accepted before.
    #[serde(skip_serializing_if = "Option::is_none", with = "time::serde::rfc3339::option")]
    pub accepted_before: Option<OffsetDateTime>,
    /// Has to be registered before that time: of open receipts.
    #[serde(skip_serializing_if = "Option::is_none", with = "time::serde::rfc3339::option")]
    pub deadline_before: Option<OffsetDateTime>,
    /// Has stood as it stands since before that time.
    #[serde(skip_serializing_if = "Option::is_none", with = "time::serde::rfc3339::option")]
    pub moved_before: Option<OffsetDateTime>,
}

/// A receipt's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// In internal stages.
    Running,
    /// For a timer, a turn, or its original.
    Waiting,
    /// Handed off.
    Queued,
    /// In a dispatcher's hands.
    Dispatching,
    /// For a person.
    Parked,
    /// The good end.
    Registered,
    /// The other.
    Rejected,
    /// By a person.
    Cancelled,
}

impl State {
    /// Its word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Queued => "queued",
            Self::Dispatching => "dispatching",
            Self::Parked => "parked",
            Self::Registered => "registered",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing comes after it.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Registered | Self::Rejected | Self::Cancelled)
    }
}

/// What an open receipt is stuck in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A call that registers was made, and nobody knows what came of it.
    Unknown,
    /// Its stage failed last, and is tried again.
    Retry,
    /// Its stage was told to ask again.
    Poll,
    /// Its stage was answered what nobody declared.
    Undeclared,
}

impl Outcome {
    /// Its word.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Retry => "retry",
            Self::Poll => "poll",
            Self::Undeclared => "undeclared",
        }
    }
}

/// The ids of what was accepted in a stretch of time: above the first and below the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ids(pub Uuid, pub Uuid);

impl Filter {
    /// What contradicts itself: the member, and why.
    #[must_use]
    pub fn mistake(&self) -> Option<(&'static str, &'static str)> {
        if self.external_id.is_some() && self.merchant.is_none() {
            return Some(("external_id", "only with a merchant"));
        }
        if self.state.is_some_and(State::is_final) {
            let open = "only of open receipts: not with a state that is final";
            if self.destination.is_some() {
                return Some(("destination", open));
            }
            if self.outcome.is_some() {
                return Some(("outcome", open));
            }
            if self.deadline_before.is_some() {
                return Some(("deadline_before", open));
            }
        }
        None
    }

    /// Whether it says nothing: then it means every receipt there is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The same with its ages as times: what it means does not move while it is kept.
    #[must_use]
    pub fn fixed(mut self, now: OffsetDateTime) -> Self {
        if let Some(age) = self.older_than.take() {
            let age = time::Duration::try_from(age).unwrap_or(time::Duration::MAX);
            let than = now.checked_sub(age).unwrap_or(OffsetDateTime::UNIX_EPOCH);
            self.accepted_before = Some(self.accepted_before.map_or(than, |before| before.min(than)));
        }
        self
    }

    /// Whether final receipts cannot be meant.
    pub(super) fn is_of_open(&self) -> bool {
        self.state.is_some_and(|state| !state.is_final())
            || self.destination.is_some()
            || self.outcome.is_some()
            || self.deadline_before.is_some()
    }

    /// The ids of what was accepted when it says. An id is as old as the receipt.
    pub(super) fn ids(&self) -> Ids {
        let first = self.accepted_after.map_or(0, first_id).saturating_sub(1);
        let end = self.accepted_before.map_or(u128::MAX, first_id);
        Ids(Uuid::from_u128(first), Uuid::from_u128(end))
    }
}

/// The least id of a receipt accepted at `at`.
pub(in crate::store) fn first_id(at: OffsetDateTime) -> u128 {
    let ms = u64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or_default();
    u128::from(ms.min((1 << 48) - 1)) << 80
}

/// `2h`, as in the configuration.
mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::ref_option, reason = "serde's shape")]
    pub fn serialize<S: Serializer>(age: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match age {
            Some(age) => serializer.collect_str(&humantime::format_duration(*age)),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| humantime::parse_duration(&text).map_err(serde::de::Error::custom))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn it_is_read_from_text_and_kept_as_it_was_meant() {
        let given = json!({"merchant": "m-1", "state": "parked", "outcome": "unknown", "older_than": "2h",
            "deadline_before": "2026-11-25T12:00:00Z"});
        let filter: Filter = from_value(given.clone()).unwrap();
        assert_eq!(serde_json::to_value(&filter).unwrap(), given);
        let now = time::macros::datetime!(2026-11-25 12:00 UTC);
        let fixed = filter.fixed(now);
        assert_eq!(
            (fixed.older_than, fixed.accepted_before),
            (None, Some(now - time::Duration::hours(2)))
        );
        assert_eq!(from_value::<Filter>(json!({})).unwrap(), Filter::default());
        assert!(Filter::default().is_empty() && !fixed.is_empty());
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for wrong in [
            json!({"merchants": "m-1"}),
            json!({"state": "lost"}),
            json!({"outcome": "success"}),
            json!({"older_than": "2 parsecs"}),
            json!({"accepted_after": "yesterday"}),
        ] {
            assert!(from_value::<Filter>(wrong.clone()).is_err(), "{wrong}");
        }
        for (contradiction, member) in [
            (json!({"external_id": "e-1"}), "external_id"),
            (json!({"state": "registered", "destination": "fiscal"}), "destination"),
            (json!({"state": "rejected", "outcome": "retry"}), "outcome"),
            (
                json!({"state": "cancelled", "deadline_before": "2026-11-25T12:00:00Z"}),
                "deadline_before",
            ),
        ] {
            let filter: Filter = from_value(contradiction).unwrap();
            assert_eq!(filter.mistake().map(|(member, _)| member), Some(member));
        }
    }

    #[test]
    fn a_stretch_of_time_is_one_of_ids() {
        let filter = |after: &str, before: &str| -> Ids {
            from_value::<Filter>(json!({"accepted_after": after, "accepted_before": before}))
                .unwrap()
                .ids()
        };
        let Ids(above, below) = filter("2026-11-25T12:00:00Z", "2026-11-25T12:00:01Z");
        let at = |ms: u64| {
            let nanoseconds = u32::try_from(ms % 1000 * 1_000_000).unwrap();
            Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, ms / 1000, nanoseconds))
        };
        let noon = 1_795_608_000_000;
        assert!(at(noon) > above && at(noon) < below && at(noon + 999) < below);
        assert!(at(noon - 1) < above && at(noon + 1000) > below);
        assert_eq!(Filter::default().ids(), Ids(Uuid::nil(), Uuid::max()));
        assert_eq!(filter("1960-01-01T00:00:00Z", "9999-01-01T00:00:00Z").0, Uuid::nil());
    }
}
