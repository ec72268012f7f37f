//! When a call to a destination may be made: by its state, its limits, and what is in flight.
//!
//! Gate first: a delivery is claimed only once its first call may be made now. Every call takes a turn of its own (`slots`).

mod keys;
mod places;
mod slots;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use metrics::Counter;
use shared::destination::{Destination, Following, Settings};
use shared::life::Heart;
use shared::stage::Shut;
use sqlx::PgPool;
use tokio::sync::{Mutex, OwnedSemaphorePermit};
use tokio::time::{sleep, sleep_until, timeout};

pub use keys::{KeySlot, Keys, Wait};
use places::Places;
use slots::Slots;

/// How far ahead a dispatcher prefetches.
const AHEAD: Duration = Duration::from_secs(2);
/// So many messages are prefetched at least, where so many receipts may be: each may hand off one alone.
const FEW: usize = 16;
/// The least and the most time that a claim is given before its slot comes.
const LEAD: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(150));
/// The longest wait for slots before the destination is looked at again.
const LOOK: Duration = Duration::from_millis(200);

/// In which state a destination is called.
pub type Admits = fn(&Destination) -> bool;

/// The gate of one destination in this process.
pub struct Gate {
    destination: String,
    heart: Arc<Heart>,
    /// The most receipts of one message.
    message: usize,
    following: Arc<Following>,
    slots: Arc<Slots>,
    /// The limits of its keys, if it has any.
    pub keys: Keys,
    /// One waits, the others queue behind it.
    turn: Mutex<()>,
    /// Receipts in hand that have not had their turn, and calls that wait for theirs.
    wanted: Arc<AtomicUsize>,
    /// Those of them that are being claimed or are ready to be sent: each will use one of the next slots.
    ready: Arc<AtomicUsize>,
    /// How long claims take.
    claims: std::sync::Mutex<Duration>,
    /// Receipts in flight, and calls in flight: one receipt makes several calls at once where a request has items.
    places: Places,
    calls: Places,
    /// Turns that were given.
    used: Counter,
}

impl Gate {
    /// The gate of a destination that is followed.
    #[must_use]
    pub fn new(
        destination: &str,
        heart: Arc<Heart>,
        message: usize,
        following: Arc<Following>,
        pool: PgPool,
        keys: Keys,
    ) -> Self {
        let share = following.get(destination).map_or(0, |known| known.share(heart.id()));
        Self {
            destination: destination.to_owned(),
            heart,
            message,
            slots: Arc::new(Slots::new(Arc::clone(&following), pool)),
            keys,
            turn: Mutex::new(()),
            wanted: Arc::default(),
            ready: Arc::default(),
            claims: std::sync::Mutex::new(LEAD.0),
            places: Places::new(share),
            calls: Places::new(share),
            used: metrics::counter!("chekhov_slots_used_total", "destination" => destination.to_owned()),
            following,
        }
    }

    /// What is known of the destination.
    #[must_use]
    pub fn known(&self) -> Option<Arc<Destination>> {
        self.following.get(&self.destination)
    }

    /// The most deliveries to hold unacknowledged.
    #[must_use]
    pub fn prefetch(&self) -> u16 {
        self.known()
            .map_or(1, |known| prefetch(&known.settings, self.share(&known), self.message))
    }

    /// A place among the receipts in flight.
    pub async fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.take(&self.places).await
    }

    /// A place among the calls in flight.
    pub async fn call(&self) -> Option<OwnedSemaphorePermit> {
        self.take(&self.calls).await
    }

    async fn take(&self, places: &Places) -> Option<OwnedSemaphorePermit> {
        loop {
            // Again and again: there may be more places before any is given back.
            self.resize();
            if let Ok(place) = timeout(5 * LOOK, places.take()).await {
                return place;
            }
        }
    }

    /// A receipt in hand will want a turn soon, until this is dropped.
    #[must_use]
    pub fn want(&self) -> Counted {
        Counted::new(&self.wanted)
    }

    /// Waits until a slot is about to come that nobody else will use: time to claim what is sent then.
    ///
    /// # Errors
    /// When the destination takes no calls.
    pub async fn coming(&self) -> Result<Coming, Shut> {
        loop {
            let known = self.known().filter(|known| known.admits()).ok_or(Shut)?;
            let coming = || Coming {
                ready: Counted::new(&self.ready),
                since: Instant::now(),
            };
            if known.settings.limits.0.is_empty() {
                return Ok(coming());
            }
            self.slots.ask(&known, self.wanted.load(Ordering::Relaxed));
            let come = self.slots.come();
            let Some(at) = self.slots.nth(self.ready.load(Ordering::Relaxed)) else {
                let _ = timeout(LOOK, come).await;
                continue;
            };
            let ahead = at.saturating_duration_since(Instant::now() + self.lead());
            if ahead.is_zero() {
                return Ok(coming());
            }
            sleep(ahead.min(LOOK)).await;
        }
    }

    /// What was claimed is ready: how long that took is how long the next one will.
    pub fn claimed(&self, coming: Coming) {
        let took = coming.since.elapsed();
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        // Up at once and down slowly: most claims are to be done in time.
        *claims = took.max((*claims * 15 + took) / 16);
        drop(coming);
    }

    fn lead(&self) -> Duration {
        let claims = *self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        claims.clamp(LEAD.0, LEAD.1)
    }

    /// Waits for a turn: after it, one call may be made, at once. Answers until when, where limits say so.
    ///
    /// # Errors
    /// When the destination takes no calls.
    pub async fn turn(&self, admits: Admits) -> Result<Option<Instant>, Shut> {
        let _wanted = Counted::new(&self.wanted);
        let mut ready = Some(Counted::new(&self.ready));
        let _turn = self.turn.lock().await;
        loop {
            // Looked at again after every wait: nobody waits for a destination that closed.
            let known = self.known().filter(|known| admits(known)).ok_or(Shut)?;
            if known.settings.limits.0.is_empty() {
                self.used.increment(1);
                return Ok(None);
            }
            self.slots.ask(&known, self.wanted.load(Ordering::Relaxed));
            let come = self.slots.come();
            let Some(slot) = self.slots.pop(&known.settings.limits) else {
                let _ = timeout(LOOK, come).await;
                continue;
            };
            // Its slot is out of the hand: who comes next counts those that are left.
            drop(ready.take());
            sleep_until(slot.at.into()).await;
            self.slots.paced().await;
            self.known().filter(|known| admits(known)).ok_or(Shut)?;
            if Instant::now() <= slot.until {
                self.used.increment(1);
                return Ok(Some(slot.until));
            }
            slots::missed();
            ready = Some(Counted::new(&self.ready));
        }
    }

    /// This dispatcher's share of the concurrency that is in force.
    #[must_use]
    pub fn share(&self, known: &Destination) -> usize {
        known.share(self.heart.id())
    }

    /// Follows it.
    fn resize(&self) {
        if let Some(known) = self.known() {
            let share = self.share(&known);
            self.places.resize(share);
            self.calls.resize(share);
        }
    }
}

/// A receipt that is being claimed for one of the next slots.
#[derive(Debug)]
pub struct Coming {
    #[expect(dead_code, reason = "held: it counts")]
    ready: Counted,
    since: Instant,
}

/// One more, until it is dropped.
#[derive(Debug)]
pub struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(of: &Arc<AtomicUsize>) -> Self {
        of.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(of))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is admitted within seconds, and no more than twice what may be in flight; not fewer messages than keep a dispatcher
/// busy when each hands off one receipt.
fn prefetch(settings: &Settings, share: usize, message: usize) -> u16 {
    let admitted = settings.limits.admit(AHEAD).unwrap_or(usize::MAX);
    let receipts = admitted.clamp(1, share.max(1) * 2);
    let messages = receipts.div_ceil(message).max(receipts.min(FEW)).min(300);
    u16::try_from(messages).unwrap_or(300)
}

#[cfg(test)]
mod tests {
    use shared::configuration;

    use super::*;

    fn held(text: &str) -> (usize, configuration::Destination) {
        let destination: configuration::Destination = serde_json::from_str(text).unwrap();
        let settings = Settings::of(&destination);
        let prefetched = prefetch(&settings, destination.concurrency, destination.message());
        (usize::from(prefetched), destination)
    }

    #[test]
    fn what_is_prefetched_is_admitted_within_seconds() {
        let prefetched = |text| held(text).0;
        assert_eq!(prefetched(r#"{"url": "http://localhost", "limits": ["10/s"]}"#), 20);
        assert_eq!(
            prefetched(r#"{"url": "http://localhost", "limits": ["10/s", "1/h"]}"#),
            1
        );
        assert_eq!(prefetched(r#"{"url": "http://localhost", "concurrency": 5}"#), 10);
    }

    #[test]
    fn messages_of_several_receipts_hold_no_more_than_messages_of_one() {
        for (limits, concurrency) in [
            ("", 64),
            ("", 1000),
            ("", 9),
            ("50/s", 64),
            ("100/s", 64),
            ("5000/s", 16),
        ] {
            let (prefetched, destination) = held(&format!(
                r#"{{"url": "http://localhost", "concurrency": {concurrency}, "limits": "{limits}"}}"#
            ));
            let held = prefetched * destination.message();
            assert!(
                held <= 2 * concurrency + destination.message(),
                "{destination:?}: {held}"
            );
        }
    }
}
