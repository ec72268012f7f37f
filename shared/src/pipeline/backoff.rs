//! How long to wait before the next try.

use std::time::Duration;

/// Exponential back-off with a budget.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// The first delay.
    pub first: Duration,
    /// By what it grows.
    pub factor: f64,
    /// The longest delay.
    pub max: Duration,
    /// How much time attempts and waits may take together.
    pub budget: Duration,
    /// After so many failures in a row, while other receipts pass at its destination, a receipt parks.
    pub repeats: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            factor: 2.0,
            max: Duration::from_mins(10),
            budget: Duration::from_hours(72),
            repeats: 20,
        }
    }
}

impl Backoff {
    /// The delay after so many failures; `jitter` from 0 to 1 takes that share of it (full jitter).
    #[must_use]
    pub fn delay(&self, failures: u32, jitter: f64) -> Duration {
        let exponent = i32::try_from(failures.min(64)).unwrap_or(64);
        let seconds = (self.first.as_secs_f64() * self.factor.powi(exponent)).min(self.max.as_secs_f64());
        Duration::from_secs_f64(seconds * jitter.clamp(0.0, 1.0)).max(Duration::from_millis(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_their_bound() {
        let backoff = Backoff::default();
        assert_eq!(backoff.delay(0, 1.0), Duration::from_secs(1));
        assert_eq!(backoff.delay(3, 1.0), Duration::from_secs(8));
        assert_eq!(backoff.delay(u32::MAX, 1.0), Duration::from_mins(10));
        assert_eq!(backoff.delay(3, 0.5), Duration::from_secs(4));
    }
}
