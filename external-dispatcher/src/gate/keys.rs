//! When a call of a limit key may be made: slots of its own, given out by the database as those of the destination are, one for
//! each call ([`shared::store::limit_keys`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use shared::destination::{Following, pace};
use shared::stage::Unadmitted;
use shared::store::group::Group;
use shared::store::limit_keys::{Take, TakeBatch, Taken};
use tokio::time::{sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::slots::Slot;

/// A short wait: relays hand off a little less ahead.
const SHORT: Duration = Duration::from_millis(250);
/// A long one, or twice the time from one call of the key to the next, if that is longer.
const LONG: Duration = Duration::from_mins(2);
/// How long the database may take to give one out.
const PATIENCE: Duration = Duration::from_secs(5);

/// The limits of one destination's keys.
pub struct Keys {
    destination: String,
    following: Arc<Following>,
    takes: Group<TakeBatch>,
    /// How many were asked for.
    taken: AtomicU64,
    stop: CancellationToken,
}

/// For how long it is worth waiting for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Nothing was called for yet: who would wait longer goes back.
    Short,
    /// Gone back, the dispatch would begin with its first call again, for ever.
    Long,
}

/// When a call of a key may be sent.
pub struct KeySlot {
    slot: Slot,
    /// As it was given out.
    given: i64,
}

impl KeySlot {
    /// Whether it is further ahead than a short wait.
    #[must_use]
    pub fn is_far(&self) -> bool {
        self.slot.at > Instant::now() + SHORT
    }

    /// Whether the call may be sent now.
    #[must_use]
    pub fn is_now(&self) -> bool {
        let now = Instant::now();
        self.slot.at <= now && now <= self.slot.until
    }
}

impl Keys {
    /// Of a destination that is followed.
    #[must_use]
    pub fn new(destination: &str, following: Arc<Following>, takes: Group<TakeBatch>, stop: CancellationToken) -> Self {
        Self {
            destination: destination.to_owned(),
            following,
            takes,
            taken: AtomicU64::default(),
            stop,
        }
    }

    /// Takes a slot for a call of `key`; `None`: it has no limits. What was `missed` goes back.
    ///
    /// # Errors
    /// When there is none within a time that is worth waiting for, or the database does not answer.
    pub async fn take(&self, key: &str, wait: Wait, missed: Option<&KeySlot>) -> Result<Option<KeySlot>, Unadmitted> {
        let known = self.following.get(&self.destination).ok_or(Unadmitted::Shut)?;
        let limits = known.settings.key_limits.clone();
        // Without keys nobody hands off by them either.
        if key.is_empty() || limits.0.is_empty() || known.settings.limit_key.is_none() {
            return Ok(None);
        }
        let late = pace::lateness(&limits);
        let take = Take {
            destination: self.destination.clone(),
            key: key.to_owned(),
            ahead: match wait {
                Wait::Short => SHORT,
                Wait::Long => LONG.max(2 * pace::between(&limits)),
            },
            limits,
            missed: missed.map(|missed| missed.given),
            number: self.taken.fetch_add(1, Ordering::Relaxed),
        };
        match timeout(PATIENCE, self.takes.commit(take)).await {
            Ok(Ok(Taken::Slot {
                slot: given,
                now,
                between,
            })) => {
                let slot = Slot::of(given, now, between, late).ok_or(Unadmitted::Shut)?;
                Ok(Some(KeySlot { slot, given }))
            }
            Ok(Ok(Taken::Later(wait))) => Err(Unadmitted::Limited(wait)),
            Ok(Err(error)) => {
                tracing::warn!(%error, destination = %self.destination, "no key's slot can be taken");
                Err(Unadmitted::Shut)
            }
            Err(_) => Err(Unadmitted::Shut),
        }
    }

    /// Waits until a slot comes.
    ///
    /// # Errors
    /// When the process stops meanwhile.
    pub async fn come(&self, slot: &KeySlot) -> Result<(), Unadmitted> {
        let come = self.stop.run_until_cancelled(sleep_until(slot.slot.at.into())).await;
        come.ok_or_else(|| Unadmitted::Limited(slot.slot.at.saturating_duration_since(Instant::now())))
    }
}
