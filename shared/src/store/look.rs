//! Looks for who came to stand before where picks go on, made beside the picks.
//!
//! Whoever picks what is due goes on where the last pick ended: the index entries of those that went before stay until they are
//! vacuumed, and cost most when they are passed for the first time, since each row has to be visited to tell that it waits no
//! more. So it is looks that pass them, without a lock, and picks go on beside them.

use std::future::Future;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::StoreError;

/// How often it is looked while there is more than is picked at once.
pub(super) const WALK: Duration = Duration::from_secs(1);
/// Looks have at most one part in so many of the time,
const PART: u32 = 20;
/// but no more than this passes without one.
const LONGEST: Duration = Duration::from_secs(5);
/// What one that failed is taken to have cost at least: the next is made a second later.
const FAILED: Duration = Duration::from_millis(50);
/// The longest that one may take.
const LIMIT: Duration = Duration::from_secs(30);

/// One look after another, each of which comes to a `T`.
#[derive(Debug)]
pub(super) struct Looks<T> {
    /// When the last one ended; at first: when there could have been one.
    ended: Instant,
    /// How long it took.
    took: Duration,
    under_way: Option<UnderWay<T>>,
}

#[derive(Debug)]
struct UnderWay<T> {
    begun: Instant,
    look: JoinHandle<(Duration, Result<T, StoreError>)>,
}

impl<T> Default for Looks<T> {
    fn default() -> Self {
        Self {
            ended: Instant::now(),
            took: Duration::ZERO,
            under_way: None,
        }
    }
}

impl<T: Send + 'static> Looks<T> {
    /// Begins `look` beside what goes on if none is under way and the last one ended `pause` ago, or longer if it took long.
    pub(super) fn begin_after(
        &mut self,
        pause: Duration,
        look: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) {
        if self.under_way.is_none() && self.is_due(pause) {
            let begun = Instant::now();
            let look = tokio::spawn(async move {
                let found = tokio::time::timeout(LIMIT, look).await;
                let late = |_| StoreError::Unavailable(format!("no answer in {LIMIT:?}"));
                (begun.elapsed(), found.map_err(late).flatten())
            });
            self.under_way = Some(UnderWay { begun, look });
        }
    }

    fn is_due(&self, pause: Duration) -> bool {
        self.ended.elapsed() >= pause.max((self.took * PART).min(LONGEST))
    }

    /// How long the one that is under way has taken so far.
    pub(super) fn under_way_for(&self) -> Option<Duration> {
        self.under_way.as_ref().map(|under_way| under_way.begun.elapsed())
    }

    /// What the one that was under way came to, if it has ended; one that failed came to nothing, and is made again in its time.
    pub(super) async fn ended(&mut self) -> Option<T> {
        let has_ended = self
            .under_way
            .as_ref()
            .is_some_and(|under_way| under_way.look.is_finished());
        if has_ended { self.end_within(LIMIT).await } else { None }
    }

    /// Waits for the one that is under way, but no longer than that.
    pub(super) async fn end_within(&mut self, limit: Duration) -> Option<T> {
        let under_way = self.under_way.as_mut()?;
        let ended = tokio::time::timeout(limit, &mut under_way.look).await.ok()?;
        self.under_way = None;
        self.ended = Instant::now();
        self.took = FAILED;
        let (took, found) = ended.ok()?;
        self.took = if found.is_ok() { took } else { took.max(FAILED) };
        found
            .inspect_err(|error| tracing::warn!(%error, "it could not be looked for who came to stand before"))
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    fn looks(ended: Duration, took: Duration) -> Looks<u8> {
        Looks {
            ended: Instant::now().checked_sub(ended).expect("the clock runs for longer"),
            took,
            under_way: None,
        }
    }

    #[test]
    fn a_look_is_due_after_a_pause_and_later_the_longer_the_last_one_took() {
        let (quick, pause) = (Duration::from_millis(1), Duration::from_millis(50));
        assert!(!Looks::<u8>::default().is_due(pause));
        assert!(Looks::<u8>::default().is_due(Duration::ZERO));
        assert!(looks(pause, quick).is_due(pause));
        assert!(!looks(pause, quick).is_due(WALK));
        assert!(!looks(WALK, WALK).is_due(pause));
        assert!(looks(LONGEST, WALK).is_due(pause));
    }

    #[tokio::test]
    async fn there_is_one_look_at_a_time_and_nobody_waits_for_it() {
        let mut looks = looks(WALK, Duration::ZERO);
        assert_eq!(looks.ended().await, None);
        looks.begin_after(WALK, pending());
        looks.begin_after(WALK, ready(Ok(2)));
        assert_eq!(looks.ended().await, None, "it goes on");
        assert_eq!(looks.end_within(Duration::from_millis(1)).await, None, "still");
        looks.under_way = None;
        looks.begin_after(WALK, ready(Ok(3)));
        assert_eq!(looks.end_within(LIMIT).await, Some(3));
        looks.begin_after(WALK, ready(Ok(4)));
        assert!(looks.under_way_for().is_none(), "too soon");
    }

    #[tokio::test]
    async fn a_look_that_fails_comes_to_nothing() {
        let mut looks = looks(WALK, Duration::ZERO);
        looks.begin_after(WALK, ready(Err(StoreError::Unavailable("gone".to_owned()))));
        assert_eq!(looks.end_within(LIMIT).await, None);
        assert!(looks.under_way_for().is_none());
        assert!(!looks.is_due(Duration::ZERO), "not at once again");
    }
}
