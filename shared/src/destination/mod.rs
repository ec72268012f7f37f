//! A destination as an object of its own: its state is in the database, one for all instances ([`crate::store::destinations`]),
//! and every instance follows it ([`Following`]).

mod following;
pub mod pace;
mod settings;

pub use following::Following;
pub use settings::{Change, Settings};

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

/// What operators want of a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "destination_mode", rename_all = "snake_case")]
pub enum Mode {
    /// Calls.
    Open,
    /// None at all.
    Paused,
    /// Only about what was sent: nothing new is submitted.
    Draining,
}

/// What a destination is at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Calls are made.
    Open,
    /// It failed, or told us to wait: no call but a canary.
    Closed,
    /// An operator stopped it.
    Paused,
    /// An operator lets it finish what was sent.
    Draining,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Open, Self::Closed, Self::Paused, Self::Draining];

    /// As the API and metrics name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Paused => "paused",
            Self::Draining => "draining",
        }
    }
}

/// That a destination is closed.
#[derive(Debug, Clone)]
pub struct Closing {
    /// Since when, by the database's clock.
    pub since: OffsetDateTime,
    /// Not called before, by the database's clock.
    pub until: OffsetDateTime,
    /// The same by this process's.
    pub probe: Instant,
    /// Why.
    pub reason: String,
}

/// A destination as its row says.
#[derive(Debug, Clone)]
pub struct Destination {
    /// Its name in the configuration.
    pub name: String,
    /// Rises with every change.
    pub version: i64,
    /// What operators want.
    pub mode: Mode,
    /// Why they want it.
    pub said: Option<String>,
    /// That it is closed.
    pub closing: Option<Closing>,
    /// Canaries that failed since it was well, and openings that did not last. What it was when it opened stays: whoever closes
    /// it next says whether it had been well.
    pub probes: i32,
    /// When it was closed last.
    pub failed_at: Option<OffsetDateTime>,
    /// For how long it had been open again when the row was read; `None`: it was never closed.
    pub open_for: Option<Duration>,
    /// When the row was read.
    pub read: Instant,
    /// What is in force.
    pub settings: Settings,
    /// The dispatchers that live, in the order of their ids: they share its concurrency out among them.
    pub dispatchers: Vec<Uuid>,
}

impl Destination {
    /// What it is at present. Paused goes before closed: nobody probes then.
    #[must_use]
    pub fn state(&self) -> State {
        match (self.mode, &self.closing) {
            (Mode::Paused, _) => State::Paused,
            (_, Some(_)) => State::Closed,
            (Mode::Draining, None) => State::Draining,
            (Mode::Open, None) => State::Open,
        }
    }

    /// Whether receipts are handed off to it, read from its queue, and called for.
    #[must_use]
    pub fn admits(&self) -> bool {
        matches!(self.state(), State::Open | State::Draining)
    }

    /// When it opened again, by this process's clock; `None`: it was never closed.
    #[must_use]
    pub fn opened(&self) -> Option<Instant> {
        self.open_for.and_then(|open_for| self.read.checked_sub(open_for))
    }

    /// How far slow start has come, from 0.1 to 1.
    #[must_use]
    pub fn speed(&self) -> f64 {
        self.open_for.map_or(1.0, |open_for| {
            speed(open_for + self.read.elapsed(), self.settings.slow_start)
        })
    }

    /// How many receipts and calls this dispatcher may have in flight now: its share of the concurrency, as far as slow start
    /// has come. All dispatchers together have no more; where there are more of them than places, the last have none.
    #[must_use]
    pub fn share(&self, dispatcher: Uuid) -> usize {
        let (places, dispatchers) = (self.settings.concurrency, self.dispatchers.len());
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a part of a small number"
        )]
        let places = ((places as f64 * self.speed()).ceil() as usize).max(1);
        match self.dispatchers.binary_search(&dispatcher) {
            Ok(rank) => places / dispatchers + usize::from(rank < places % dispatchers),
            // It is taken for dead.
            Err(_) => 0,
        }
    }

    /// The sentence for a person: why receipts wait for it. `None` while it is open.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        let said = |what: &str| match &self.said {
            Some(said) => format!("{} {what}: {said}", self.name),
            None => format!("{} {what}", self.name),
        };
        match (self.state(), &self.closing) {
            (State::Paused, _) => Some(said("is paused")),
            (State::Closed, Some(closing)) => Some(format!("{} is closed: {}", self.name, closing.reason)),
            (State::Draining, _) => Some(said("is being drained")),
            _ => None,
        }
    }
}

/// How far slow start has come after `open_for`: a tenth at first, all of it after `whole`.
#[must_use]
pub fn speed(open_for: Duration, whole: Duration) -> f64 {
    if open_for >= whole {
        return 1.0;
    }
    (open_for.as_secs_f64() / whole.as_secs_f64()).max(0.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration;

    fn shares(concurrency: usize, dispatchers: u128) -> Vec<usize> {
        let text = format!(r#"{{"url": "http://localhost", "concurrency": {concurrency}}}"#);
        let declared: configuration::Destination = serde_json::from_str(&text).unwrap();
        let known = Destination {
            name: "fiscal".to_owned(),
            version: 1,
            mode: Mode::Open,
            said: None,
            closing: None,
            probes: 0,
            failed_at: None,
            open_for: None,
            read: Instant::now(),
            settings: Settings::of(&declared),
            dispatchers: (0..dispatchers).map(Uuid::from_u128).collect(),
        };
        (0..=dispatchers).map(|n| known.share(Uuid::from_u128(n))).collect()
    }

    #[test]
    fn dispatchers_share_the_concurrency_out_and_whoever_is_not_listed_has_none() {
        assert_eq!(shares(64, 1), [64, 0]);
        assert_eq!(shares(64, 3), [22, 21, 21, 0]);
        assert_eq!(shares(2, 3), [1, 1, 0, 0]);
        assert_eq!(shares(5, 0), [0]);
    }
}
