//! Acknowledges deliveries many at a time: up to the first that is still in hand.
//!
//! Deliveries are claimed nearly in the order of their arrival, and one `basic.ack` with `multiple` costs as little as one
//! without. What is acknowledged late or never is delivered again, and found stale.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::Channel;
use lapin::options::BasicAckOptions;
use shared::handoff::PATIENCE;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// How long acknowledgements gather.
const GATHER: Duration = Duration::from_millis(20);

/// The deliveries of one channel.
pub struct Acknowledgements {
    channel: Channel,
    tags: Mutex<Tags>,
    settled: Notify,
}

/// A delivery in hand. It is acknowledged once it is settled; dropped, it goes back with its channel.
pub struct Delivered {
    tag: u64,
    of: Arc<Acknowledgements>,
}

/// Delivery tags of one channel rise by one.
#[derive(Default)]
struct Tags {
    in_hand: BTreeSet<u64>,
    received: u64,
    acknowledged: u64,
}

impl Tags {
    /// The highest tag up to which all are settled, if any of them is still to be acknowledged.
    fn due(&self) -> Option<u64> {
        let last = self.in_hand.first().map_or(self.received, |first| first - 1);
        (last > self.acknowledged).then_some(last)
    }
}

impl Acknowledgements {
    /// Those of a fresh channel.
    #[must_use]
    pub fn new(channel: Channel) -> Arc<Self> {
        Arc::new(Self {
            channel,
            tags: Mutex::default(),
            settled: Notify::new(),
        })
    }

    /// Takes a delivery in hand.
    #[must_use]
    pub fn received(self: &Arc<Self>, tag: u64) -> Delivered {
        let mut tags = self.tags.lock().unwrap_or_else(PoisonError::into_inner);
        tags.in_hand.insert(tag);
        tags.received = tags.received.max(tag);
        Delivered {
            tag,
            of: Arc::clone(self),
        }
    }

    /// Acknowledges what is settled, for ever.
    pub async fn run(self: Arc<Self>) {
        loop {
            self.settled.notified().await;
            sleep(GATHER).await;
            self.flush().await;
        }
    }

    /// Acknowledges what is settled by now; an error means that the broker will deliver it again, to be found stale.
    pub async fn flush(&self) {
        let due = {
            let mut tags = self.tags.lock().unwrap_or_else(PoisonError::into_inner);
            let due = tags.due();
            tags.acknowledged = due.unwrap_or(tags.acknowledged);
            due
        };
        let Some(tag) = due else { return };
        let acknowledging = self.channel.basic_ack(tag, BasicAckOptions { multiple: true });
        if !matches!(timeout(PATIENCE, acknowledging).await, Ok(Ok(()))) {
            metrics::counter!("chekhov_failed_acknowledgements_total").increment(1);
        }
    }
}

impl Delivered {
    /// Lets it be acknowledged: its row is the work now, or it was stale.
    pub fn settle(self) {
        let mut tags = self.of.tags.lock().unwrap_or_else(PoisonError::into_inner);
        tags.in_hand.remove(&self.tag);
        drop(tags);
        self.of.settled.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_acknowledged_past_what_is_in_hand() {
        let mut tags = Tags {
            in_hand: BTreeSet::from([1, 2, 3]),
            received: 3,
            acknowledged: 0,
        };
        assert_eq!(tags.due(), None);
        tags.in_hand.remove(&2);
        assert_eq!(tags.due(), None, "the first is in hand");
        tags.in_hand.remove(&1);
        assert_eq!(tags.due(), Some(2));
        tags.acknowledged = 2;
        assert_eq!(tags.due(), None);
        tags.in_hand.remove(&3);
        assert_eq!(tags.due(), Some(3));
    }
}
