//! The admission of one dispatch's calls: each waits for its turn at the gate, and what it came to is noted.

use std::sync::{Arc, Mutex, PoisonError};

use shared::destination::Destination;
use shared::stage::endpoint::Endpoint;
use shared::stage::{Admission, Admitted, Seen};

use crate::gate::{Admits, Coming, Gate};
use crate::health::Health;

/// The turns of one dispatch.
pub struct Turns<'a> {
    gate: &'a Gate,
    health: &'a Arc<Health>,
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
    pub fn new(gate: &'a Gate, health: &'a Arc<Health>, coming: Coming) -> Self {
        let next = Mutex::new(Next::First(coming));
        Self { gate, health, next }
    }

    /// The first call is a canary.
    #[must_use]
    pub fn canary(gate: &'a Gate, health: &'a Arc<Health>) -> Self {
        let next = Mutex::new(Next::Canary);
        Self { gate, health, next }
    }

    /// Whether the canary has not been sent.
    #[must_use]
    pub fn is_unsent(&self) -> bool {
        matches!(*self.next(), Next::Canary)
    }

    fn next(&self) -> std::sync::MutexGuard<'_, Next> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admission for Turns<'_> {
    fn admit<'a>(&'a self, _endpoint: &'a Endpoint) -> Admitted<'a> {
        Box::pin(async {
            let call = self.gate.call().await;
            let admits: Admits = {
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
            };
            self.gate.turn(admits).await?;
            Ok(call)
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
