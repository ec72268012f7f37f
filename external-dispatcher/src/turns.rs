//! The admission of one dispatch's calls: each waits for its turn at the gate, and for its key's where there are keys, and what
//! it came to is noted.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use shared::destination::Destination;
use shared::stage::endpoint::Endpoint;
use shared::stage::{Admission, Admitted, Purpose, Seen, Unadmitted};
use tokio::sync::OwnedSemaphorePermit;

use crate::gate::{Admits, Coming, Gate};
use crate::health::Health;

/// The turns of one dispatch.
pub struct Turns<'a> {
    gate: &'a Gate,
    health: &'a Arc<Health>,
    /// The receipt's limit key here.
    key: Option<String>,
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
    /// The first call is the one that was claimed for.
    #[must_use]
    pub fn new(gate: &'a Gate, health: &'a Arc<Health>, key: Option<String>, coming: Coming) -> Self {
        let next = Mutex::new(Next::First(coming));
        Self {
            gate,
            health,
            key,
            next,
        }
    }

    /// The first call is a canary.
    #[must_use]
    pub fn canary(gate: &'a Gate, health: &'a Arc<Health>, key: Option<String>) -> Self {
        let next = Mutex::new(Next::Canary);
        Self {
            gate,
            health,
            key,
            next,
        }
    }

    /// Whether the canary has not been sent.
    #[must_use]
    pub fn is_unsent(&self) -> bool {
        matches!(*self.next(), Next::Canary)
    }

    fn next(&self) -> std::sync::MutexGuard<'_, Next> {
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
    async fn turn_of(&self, key: &str) -> Result<Option<OwnedSemaphorePermit>, Unadmitted> {
        let first = matches!(*self.next(), Next::First(_) | Next::Canary);
        let admits = self.admits();
        let Some(mut slot) = self.gate.keys.take(key, first, None).await? else {
            let call = self.gate.call().await;
            self.gate.turn(admits).await?;
            return Ok(call);
        };
        loop {
            self.gate.keys.come(&slot).await?;
            let call = self.gate.call().await;
            let until = self.gate.turn(admits).await?;
            if slot.is_now() {
                return Ok(call);
            }
            slot = match self.gate.keys.take(key, false, Some(&slot)).await? {
                Some(slot) => slot,
                None => return Ok(call),
            };
            if slot.is_now() && until.is_none_or(|until| Instant::now() <= until) {
                return Ok(call);
            }
        }
    }
}

impl Admission for Turns<'_> {
    fn admit<'a>(&'a self, _endpoint: &'a Endpoint, call: Purpose) -> Admitted<'a> {
        Box::pin(async move {
            match &self.key {
                Some(key) if call == Purpose::Receipt => self.turn_of(key).await,
                _ => self.turn().await,
            }
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
