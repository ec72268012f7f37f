//! The slots in hand: instants at which a call may be sent, given out by the database so that the limits hold for all
//! dispatchers together ([`shared::destination::pace`]). They are asked for a little before they are needed. governor paces
//! this instance besides, whatever the database's clock does.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use shared::configuration::Limits;
use shared::destination::{Destination, Following, pace};
use shared::store::StoreError;
use shared::store::destinations::{self, Leased};
use shared::store::line::Line;
use sqlx::PgPool;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// What of a limit an instance may send at once: as much as lateness may gather.
const BURST: Duration = Duration::from_millis(50);
/// Slots are asked for when those in hand end sooner than this: longer than any claim is begun ahead.
const LOW: Duration = Duration::from_millis(150);
/// How long the database may take to give some out: whoever asks keeps everybody else from asking.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause before a database that did not answer is asked again.
const AGAIN: Duration = Duration::from_millis(200);

/// Slots in hand, and how this instance paces itself.
pub struct Slots {
    following: Arc<Following>,
    hand: Mutex<Hand>,
    /// Told when slots have come.
    come: Notify,
    /// Whoever has it asks for more.
    line: Arc<tokio::sync::Mutex<Line>>,
    clock: DefaultClock,
}

#[derive(Default)]
struct Hand {
    slots: VecDeque<Slot>,
    limits: Limits,
    limiter: Option<Arc<DefaultDirectRateLimiter>>,
}

impl Hand {
    /// Slots of other limits are forgotten.
    fn adopt(&mut self, limits: &Limits) {
        if self.limits != *limits {
            self.slots.clear();
            self.limits = limits.clone();
            self.limiter = pace::paced(limits).and_then(|rate| {
                let burst = u32::try_from(rate.admits(BURST)).ok().and_then(NonZeroU32::new);
                let quota = Quota::with_period(rate.per / rate.calls)?;
                Some(Arc::new(RateLimiter::direct(
                    quota.allow_burst(burst.unwrap_or(NonZeroU32::MIN)),
                )))
            });
        }
    }

    /// One that nobody took in time would count as one in hand for ever, and no more would be asked for.
    fn forget_missed(&mut self, now: Instant) {
        while self.slots.pop_front_if(|slot| slot.until < now).is_some() {
            missed();
        }
    }
}

/// When one call may be sent.
pub struct Slot {
    /// Not before.
    pub at: Instant,
    /// Not after: then the slot is lost.
    pub until: Instant,
}

impl Slot {
    /// A slot as the database gave it out (microseconds since 1970). Its clock showed `now` at some instant between the two: it
    /// is taken for the later one, so that no slot is early, and each ends as much sooner.
    pub fn of(slot: i64, now: i64, (before, after): (Instant, Instant), late: Duration) -> Option<Self> {
        let ahead = Duration::from_micros(u64::try_from(slot - now).unwrap_or_default());
        let behind = Duration::from_micros(u64::try_from(now - slot).unwrap_or_default());
        let at = (after + ahead).checked_sub(behind)?;
        let until = (at + late).checked_sub(after - before)?;
        Some(Self { at, until })
    }
}

impl Slots {
    /// None yet.
    pub fn new(following: Arc<Following>, pool: PgPool) -> Self {
        Self {
            following,
            hand: Mutex::default(),
            come: Notify::new(),
            line: Arc::new(tokio::sync::Mutex::new(Line::to(pool))),
            clock: DefaultClock::default(),
        }
    }

    /// Ends when slots have come after this was called.
    pub fn come(&self) -> impl Future<Output = ()> {
        self.come.notified()
    }

    /// When the slot comes before which there are `before` others in hand.
    pub fn nth(&self, before: usize) -> Option<Instant> {
        self.hand().slots.get(before).map(|slot| slot.at)
    }

    /// Waits until this instance alone is within the limit.
    pub async fn paced(&self) {
        let Some(limiter) = self.hand().limiter.clone() else {
            return;
        };
        while let Err(not_yet) = limiter.check() {
            sleep(not_yet.wait_time_from(self.clock.now())).await;
        }
    }

    /// What is in hand: slots that were missed are not, whoever asks.
    fn hand(&self) -> MutexGuard<'_, Hand> {
        let mut hand = self.hand.lock().unwrap_or_else(PoisonError::into_inner);
        hand.forget_missed(Instant::now());
        hand
    }

    /// The next slot that is not missed yet.
    pub fn pop(&self, limits: &Limits) -> Option<Slot> {
        let mut hand = self.hand();
        hand.adopt(limits);
        hand.slots.pop_front()
    }

    /// Asks for slots, unless there are enough or somebody does already.
    pub fn ask(self: &Arc<Self>, known: &Arc<Destination>, wanted: usize) {
        let (last, have) = {
            let mut hand = self.hand();
            hand.adopt(&known.settings.limits);
            (hand.slots.back().map(|slot| slot.at), hand.slots.len())
        };
        if have >= wanted || last.is_some_and(|last| last > Instant::now() + LOW) {
            return;
        }
        let Ok(mut line) = Arc::clone(&self.line).try_lock_owned() else {
            return;
        };
        let (slots, known) = (Arc::clone(self), Arc::clone(known));
        tokio::spawn(async move {
            match lease(&mut line, &known, wanted - have).await {
                Ok(Leased::Slots {
                    slots: leased,
                    now,
                    between,
                }) => slots.add(&known, &leased, now, between),
                Ok(Leased::Later(pause)) => sleep(pause.min(5 * AGAIN)).await,
                Ok(Leased::Changed) => slots.following.refresh().await,
                Err(error) => {
                    tracing::warn!(%error, destination = %known.name, "no call can be paced without the database");
                    sleep(AGAIN).await;
                }
            }
            drop(line);
            slots.come.notify_waiters();
        });
    }

    fn add(&self, known: &Destination, leased: &[i64], now: i64, between: (Instant, Instant)) {
        let late = pace::lateness(&known.settings.limits);
        let mut hand = self.hand();
        if hand.limits != known.settings.limits {
            return;
        }
        let slots = leased.iter().filter_map(|slot| Slot::of(*slot, now, between, late));
        hand.slots.extend(slots);
    }
}

async fn lease(line: &mut Line, known: &Destination, wanted: usize) -> Result<Leased, StoreError> {
    let mut connection = line.take().await?;
    let leased = timeout(PATIENCE, destinations::lease(&mut connection, known, wanted));
    let Ok(leased) = leased.await else {
        return Err(StoreError::Unavailable("no answer in time".to_owned()));
    };
    if leased.is_ok() {
        line.keep(connection);
    }
    leased
}

/// A slot was taken and not used.
pub fn missed() {
    metrics::counter!("chekhov_missed_slots_total").increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_that_were_missed_are_not_in_hand() {
        let now = Instant::now();
        let slot = |ms| Slot {
            at: now,
            until: now + Duration::from_millis(ms),
        };
        let mut hand = Hand::default();
        hand.slots.extend([slot(1), slot(2), slot(50)]);
        hand.forget_missed(now + Duration::from_millis(10));
        assert_eq!(hand.slots.len(), 1);
    }
}
