//! The limits of destinations, of this process alone: each receipt is given the next turn there, by the code that paces Chekhov's
//! dispatchers. One whose turn is not almost there goes back into the queue, due by then, and keeps it. Limits of keys are not
//! part of this arm.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use shared::configuration::{Configuration, Limits};
use shared::destination::pace::{self, Grant, Pace};
use shared::stage::endpoint::{Concurrency, Endpoint};
use shared::stage::{Admission, Admitted, Purpose, Seen, Unadmitted};
use tokio::time::Instant;
use uuid::Uuid;

/// How long a slot is held for a turn.
const PATIENCE: Duration = Duration::from_millis(30);
/// How long before its turn a receipt is due: it is claimed and its call is opened meanwhile.
const EARLY: Duration = Duration::from_millis(20);
/// Farther ahead than any turn.
const WHENEVER: Duration = Duration::from_hours(24 * 365);

/// The turns of every destination that has limits.
pub struct Turns {
    begun: Instant,
    lines: BTreeMap<String, Mutex<Line>>,
}

struct Line {
    limits: Limits,
    pace: Pace,
    /// In microseconds since `begun`, until the call is made.
    given: HashMap<Uuid, i64>,
}

impl Turns {
    /// By the configuration's limits.
    pub fn new(configuration: &Configuration) -> Self {
        let limited = configuration
            .destination
            .iter()
            .filter(|(_, destination)| !destination.limits.0.is_empty());
        let line = |limits: &Limits| {
            Mutex::new(Line {
                limits: limits.clone(),
                pace: Pace::default(),
                given: HashMap::new(),
            })
        };
        Self {
            begun: Instant::now(),
            lines: limited
                .map(|(name, destination)| (name.clone(), line(&destination.limits)))
                .collect(),
        }
    }

    /// When a receipt is due again whose turn at `destination` is not almost there.
    pub fn later(&self, destination: &str, receipt: Uuid) -> Option<Duration> {
        let wait = self.until(destination, receipt);
        (wait > PATIENCE).then(|| wait.saturating_sub(EARLY))
    }

    /// How long it is until a receipt's turn. One that it missed is lost, and it is given another.
    fn until(&self, destination: &str, receipt: Uuid) -> Duration {
        let Some(line) = self.lines.get(destination) else {
            return Duration::ZERO;
        };
        let now = micros(self.begun.elapsed());
        let turn = line.lock().unwrap_or_else(PoisonError::into_inner).turn(receipt, now);
        Duration::from_micros(u64::try_from(turn - now).unwrap_or_default())
    }

    fn used(&self, destination: &str, receipt: Uuid) {
        if let Some(line) = self.lines.get(destination) {
            line.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .given
                .remove(&receipt);
        }
    }
}

impl Line {
    fn turn(&mut self, receipt: Uuid, now: i64) -> i64 {
        let late = micros(pace::lateness(&self.limits));
        let kept = self.given.get(&receipt).copied().filter(|turn| turn + late >= now);
        let turn = kept.unwrap_or_else(|| match self.pace.grant_within(&self.limits, 1.0, now, 1, WHENEVER) {
            Grant::Slots(turns) => turns.first().copied().unwrap_or(now),
            // Nobody looks so far ahead.
            Grant::Later(wait) => now + micros(wait),
        });
        self.given.insert(receipt, turn);
        turn
    }
}

/// The admission of a receipt's calls to destinations.
pub struct Turn<'a> {
    /// All turns.
    pub turns: &'a Turns,
    /// Whose it is.
    pub receipt: Uuid,
}

impl Admission for Turn<'_> {
    fn admit<'a>(&'a self, endpoint: &'a Endpoint, call: Purpose<'a>) -> Admitted<'a> {
        Box::pin(async move {
            let place = Concurrency.admit(endpoint, call).await?;
            if let Some(later) = self.turns.later(&endpoint.name, self.receipt) {
                return Err(Unadmitted::Limited(later));
            }
            tokio::time::sleep(self.turns.until(&endpoint.name, self.receipt)).await;
            self.turns.used(&endpoint.name, self.receipt);
            Ok(place)
        })
    }

    fn saw(&self, _call: &Seen<'_>) {}
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_kept_until_it_is_used_or_missed() {
        let mut line = Line {
            limits: serde_json::from_value(serde_json::json!("10/s")).unwrap(),
            pace: Pace::default(),
            given: HashMap::new(),
        };
        let receipts: Vec<Uuid> = (0..20).map(Uuid::from_u128).collect();
        let turns: Vec<i64> = receipts.iter().map(|receipt| line.turn(*receipt, 0)).collect();
        assert!(turns.is_sorted_by(|one, next| next - one > 100_000), "{turns:?}");
        let (last, at) = (receipts[19], turns[19]);
        assert_eq!(line.turn(last, at), at);
        let missed = line.turn(receipts[0], at);
        assert!(missed > at, "the next one comes behind the last");
        line.given.remove(&last);
        assert!(line.turn(last, at) > missed);
    }
}
