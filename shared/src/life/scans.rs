//! How often `work` is scanned for what should not be there.

use std::time::Duration;

/// Scans take no more than this share of the time, however large the table is,
const SHARE: u32 = 100;
/// but wait no longer than so many times what they wait at least.
const LATEST: u32 = 10;

/// The pace of one kind of scan.
#[derive(Debug, Clone, Copy)]
pub struct Scans {
    least: Duration,
    last: Duration,
}

impl Scans {
    /// Scans that begin `least` apart as long as they are quick.
    #[must_use]
    pub fn every(least: Duration) -> Self {
        Self {
            least,
            last: Duration::ZERO,
        }
    }

    /// From the beginning of a scan that took `took` to that of the next one. One slow answer says little: the quicker of
    /// the last two decides.
    pub fn pause_after(&mut self, took: Duration) -> Duration {
        let slow = took.min(std::mem::replace(&mut self.last, took));
        (slow * SHARE).clamp(self.least, self.least * LATEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);
    const SLOW: Duration = Duration::from_secs(2);

    #[test]
    fn scans_are_rare_where_they_are_slow_but_never_forgotten() {
        let mut scans = Scans::every(MINUTE);
        assert_eq!(scans.pause_after(SLOW), MINUTE);
        assert_eq!(scans.pause_after(SLOW), Duration::from_secs(200));
        scans.pause_after(MINUTE);
        assert_eq!(scans.pause_after(MINUTE), 10 * MINUTE);
    }

    #[test]
    fn one_slow_scan_among_quick_ones_puts_nothing_off() {
        let (mut scans, quick) = (Scans::every(MINUTE), Duration::from_millis(2));
        for took in [quick, SLOW, quick] {
            assert_eq!(scans.pause_after(took), MINUTE);
        }
    }
}
