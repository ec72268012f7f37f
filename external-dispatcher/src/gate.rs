//! When a call to a destination may be made: governor paces, permits bound what is in flight.
//!
//! Gate first: a delivery is claimed only once its first call may be made now. Every call takes a turn of its own.

use std::future::Future;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use shared::configuration::Destination;
use shared::stage::Admission;
use shared::stage::endpoint::Endpoint;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

/// How far ahead a dispatcher prefetches.
const AHEAD: Duration = Duration::from_secs(2);
/// So many messages are prefetched at least, where so many receipts may be: each may hand off one alone.
const FEW: usize = 16;
/// Limiters start with a full burst after each restart: so the burst is kept this short.
const BURST: Duration = Duration::from_millis(10);

/// The gate of one destination in this process.
pub struct Gate {
    limiter: Option<DefaultDirectRateLimiter>,
    clock: DefaultClock,
    /// One waits, the others queue behind it: governor alone would let them race.
    turn: Mutex<()>,
    /// Receipts in flight, and calls in flight: one receipt makes several calls at once where a request has items.
    places: Arc<Semaphore>,
    calls: Arc<Semaphore>,
    prefetch: u16,
}

impl Gate {
    /// The gate of a destination's configuration.
    #[must_use]
    pub fn new(destination: &Destination) -> Self {
        let limiter = destination.rate.and_then(|rate| {
            let quota = Quota::with_period(rate.per / rate.calls)?;
            let burst = (u64::from(rate.calls) * u64::try_from(BURST.as_millis()).ok()?)
                / u64::try_from(rate.per.as_millis()).ok()?;
            Some(RateLimiter::direct(quota.allow_burst(
                NonZeroU32::new(u32::try_from(burst).ok()?).unwrap_or(NonZeroU32::MIN),
            )))
        });
        let admitted = destination.rate.map_or(u128::MAX, |rate| {
            u128::from(rate.calls) * AHEAD.as_millis() / rate.per.as_millis()
        });
        // Not fewer than keep a dispatcher busy when each message hands off one receipt.
        let receipts = usize::try_from(admitted)
            .unwrap_or(usize::MAX)
            .clamp(1, destination.concurrency * 2);
        let prefetch = receipts.div_ceil(destination.message()).max(receipts.min(FEW)).min(300);
        Self {
            limiter,
            clock: DefaultClock::default(),
            turn: Mutex::new(()),
            places: Arc::new(Semaphore::new(destination.concurrency)),
            calls: Arc::new(Semaphore::new(destination.concurrency)),
            prefetch: u16::try_from(prefetch).unwrap_or(300),
        }
    }

    /// The most deliveries to hold unacknowledged.
    #[must_use]
    pub fn prefetch(&self) -> u16 {
        self.prefetch
    }

    /// A place among the receipts in flight.
    pub async fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).acquire_owned().await.ok()
    }

    /// Waits for a turn: after it, one call may be made.
    pub async fn turn(&self) {
        let Some(limiter) = &self.limiter else { return };
        let _first = self.turn.lock().await;
        while let Err(not_yet) = limiter.check() {
            tokio::time::sleep(not_yet.wait_time_from(self.clock.now())).await;
        }
    }
}

/// The admission of one dispatch: its first call's turn was taken before the claim.
pub struct Turns<'a> {
    gate: &'a Gate,
    first: AtomicBool,
}

impl<'a> Turns<'a> {
    /// `taken`: a turn was taken already.
    #[must_use]
    pub fn new(gate: &'a Gate, taken: bool) -> Self {
        Self {
            gate,
            first: AtomicBool::new(taken),
        }
    }
}

impl Admission for Turns<'_> {
    fn admit<'a>(
        &'a self,
        _endpoint: &'a Endpoint,
    ) -> Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send + 'a>> {
        Box::pin(async {
            let call = Arc::clone(&self.gate.calls).acquire_owned().await.ok();
            if !self.first.swap(false, Ordering::Relaxed) {
                self.gate.turn().await;
            }
            call
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(text: &str) -> Destination {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_is_prefetched_is_admitted_within_seconds() {
        let gate = |text| Gate::new(&destination(text)).prefetch();
        assert_eq!(gate(r#"{"url": "http://localhost", "rate": "10/s"}"#), 20);
        assert_eq!(gate(r#"{"url": "http://localhost", "rate": "1/h"}"#), 1);
        assert_eq!(gate(r#"{"url": "http://localhost", "concurrency": 5}"#), 10);
    }

    #[test]
    fn messages_of_several_receipts_hold_no_more_than_messages_of_one() {
        for (rate, concurrency) in [
            ("", 64),
            ("", 1000),
            ("", 9),
            ("50/s", 64),
            ("100/s", 64),
            ("5000/s", 16),
        ] {
            let rate = if rate.is_empty() {
                String::new()
            } else {
                format!(r#", "rate": "{rate}""#)
            };
            let destination = destination(&format!(
                r#"{{"url": "http://localhost", "concurrency": {concurrency}{rate}}}"#
            ));
            let held = usize::from(Gate::new(&destination).prefetch()) * destination.message();
            assert!(
                held <= 2 * concurrency + destination.message(),
                "{destination:?}: {held}"
            );
        }
    }

    #[tokio::test]
    async fn turns_come_no_faster_than_the_limit() {
        let gate = Gate::new(&destination(r#"{"url": "http://localhost", "rate": "50/s"}"#));
        let begun = std::time::Instant::now();
        for _ in 0..6 {
            gate.turn().await;
        }
        assert!(begun.elapsed() >= Duration::from_millis(99), "{:?}", begun.elapsed());
    }
}
