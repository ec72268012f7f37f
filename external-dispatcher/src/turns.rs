//! The admission of one dispatch's calls: each waits for its turn at the gate, and for its key's where there are keys, and what
//! it came to is noted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use shared::destination::Destination;
use shared::stage::endpoint::Endpoint;
use shared::stage::{Admission, Admitted, Purpose, Seen, Unadmitted};
use tokio::sync::OwnedSemaphorePermit;

use crate::gate::{Admits, Coming, Gate, KeySlot, Wait};
use crate::health::Health;

/// The turns of one dispatch.
pub struct Turns<'a> {
    gate: &'a Gate,
    health: &'a Arc<Health>,
    /// Its place among the receipts in flight, but while it waits for its key.
    place: Mutex<Option<OwnedSemaphorePermit>>,
    /// Whether a call was let through.
    called: AtomicBool,
    next: Mutex<Next>,
}

/// What the next call waits for.
#[derive(Debug)]
enum Next {
    /// A turn, for what was claimed in time for one.
    First(Coming),
    /// A turn of its own.
    Turn,
    /// It probes a closed destination: a turn of its own, whatever its state.
    Canary,
    /// The same, once the destination has shown life: it is about to open.
    Opening,
}

impl<'a> Turns<'a> {
    /// The first call is the one that was claimed for, by who has a place.
    #[must_use]
    pub fn new(gate: &'a Gate, health: &'a Arc<Health>, place: Option<OwnedSemaphorePermit>, coming: Coming) -> Self {
        Self::first(gate, health, place, Next::First(coming))
    }

    /// The first call is a canary.
    #[must_use]
    pub fn canary(gate: &'a Gate, health: &'a Arc<Health>) -> Self {
        Self::first(gate, health, None, Next::Canary)
    }

    fn first(gate: &'a Gate, health: &'a Arc<Health>, place: Option<OwnedSemaphorePermit>, next: Next) -> Self {
        Self {
            gate,
            health,
            place: Mutex::new(place),
            called: AtomicBool::new(false),
            next: Mutex::new(next),
        }
    }

    /// Whether the canary has not been sent.
    #[must_use]
    pub fn is_unsent(&self) -> bool {
        matches!(*self.next(), Next::Canary)
    }

    fn next(&self) -> MutexGuard<'_, Next> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In which state the destination may be called; the slot that the first call was claimed for is due.
    fn admits(&self) -> Admits {
        let mut next = self.next();
        match &*next {
            Next::Canary | Next::Opening => |_| true,
            Next::Turn => Destination::admits,
            Next::First(_) => {
                if let Next::First(coming) = std::mem::replace(&mut *next, Next::Turn) {
                    self.gate.claimed(coming);
                }
                Destination::admits
            }
        }
    }

    async fn turn(&self) -> Result<Option<OwnedSemaphorePermit>, Unadmitted> {
        let call = self.gate.call().await;
        self.gate.turn(self.admits()).await?;
        Ok(call)
    }

    /// A turn that is the key's as well: its slot first, since there are fewer of them. One that has passed before the turn came
    /// is changed for the next one, which is there at once unless somebody else called for this key.
    async fn turn_of(&self, key: &str, wait: Wait) -> Result<Option<OwnedSemaphorePermit>, Unadmitted> {
        let Some(mut slot) = self.gate.keys.take(key, wait, None).await? else {
            return self.turn().await;
        };
        let admits = self.admits();
        loop {
            self.come(&slot).await?;
            let call = self.gate.call().await;
            let until = self.gate.turn(admits).await?;
            if slot.is_now() {
                return Ok(call);
            }
            slot = match self.gate.keys.take(key, wait, Some(&slot)).await? {
                Some(slot) => slot,
                None => return Ok(call),
            };
            if slot.is_now() && until.is_none_or(|until| Instant::now() <= until) {
                return Ok(call);
            }
        }
    }

    /// Waits for a key's slot. Who waits for long has no place meanwhile, or one slow key would have all of them.
    async fn come(&self, slot: &KeySlot) -> Result<(), Unadmitted> {
        let gives_way = slot.is_far() && self.place().take().is_some();
        self.gate.keys.come(slot).await?;
        if gives_way {
            let place = self.gate.place().await;
            *self.place() = place;
        }
        Ok(())
    }

    fn place(&self) -> MutexGuard<'_, Option<OwnedSemaphorePermit>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admission for Turns<'_> {
    fn admit<'a>(&'a self, _endpoint: &'a Endpoint, call: Purpose<'a>) -> Admitted<'a> {
        Box::pin(async move {
            let wait = if self.called.load(Ordering::Relaxed) {
                Wait::Long
            } else {
                Wait::Short
            };
            let admitted = match call {
                Purpose::Token => return self.turn().await,
                Purpose::Receipt(None) | Purpose::Reference(None) => self.turn().await,
                Purpose::Receipt(Some(key)) => self.turn_of(key, wait).await,
                Purpose::Reference(Some(key)) => self.turn_of(key, Wait::Short).await,
            }?;
            self.called.store(true, Ordering::Relaxed);
            Ok(admitted)
        })
    }

    fn saw(&self, call: &Seen<'_>) {
        let mut next = self.next();
        if matches!(*next, Next::Canary) {
            let alive = self.health.probed(call);
            *next = if alive { Next::Opening } else { Next::Turn };
        } else {
            self.health.note(call);
        }
    }
}
