//! Acknowledges deliveries many at a time: up to the first that is still in hand.
//!
//! Deliveries are claimed nearly in the order of their arrival, and one `basic.ack` with `multiple` costs as little as one
//! without. What is acknowledged late or never is delivered again, and found stale.

use std::collections::BTreeMap;
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

/// A receipt's part in a delivery in hand, which is acknowledged once all of them are settled; one that is dropped lets it
/// go back with its channel.
pub struct Delivered {
    tag: u64,
    of: Arc<Acknowledgements>,
}

/// Delivery tags of one channel rise by one.
#[derive(Default)]
struct Tags {
    /// By tag, how many receipts are not settled.
    in_hand: BTreeMap<u64, usize>,
    received: u64,
    acknowledged: u64,
}

impl Tags {
    /// One receipt of `tag` is settled.
    fn settle(&mut self, tag: u64) {
        if let Some(left) = self.in_hand.get_mut(&tag) {
            *left -= 1;
            if *left == 0 {
                self.in_hand.remove(&tag);
            }
        }
    }

    /// The highest tag up to which all are settled, if any of them is still to be acknowledged.
    fn due(&self) -> Option<u64> {
        let last = self
            .in_hand
            .first_key_value()
            .map_or(self.received, |(first, _)| first - 1);
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

    /// Takes a delivery of so many receipts in hand; one of none is settled.
    pub fn received(self: &Arc<Self>, tag: u64, receipts: usize) -> impl Iterator<Item = Delivered> + use<> {
        let mut tags = self.tags.lock().unwrap_or_else(PoisonError::into_inner);
        if receipts > 0 {
            tags.in_hand.insert(tag, receipts);
        }
        tags.received = tags.received.max(tag);
        drop(tags);
        if receipts == 0 {
            self.settled.notify_one();
        }
        let of = Arc::clone(self);
        (0..receipts).map(move |_| Delivered {
            tag,
            of: Arc::clone(&of),
        })
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
        tags.settle(self.tag);
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
            in_hand: BTreeMap::from([(1, 1), (2, 2), (3, 1)]),
            received: 3,
            acknowledged: 0,
        };
        assert_eq!(tags.due(), None);
        tags.settle(2);
        tags.settle(1);
        assert_eq!(tags.due(), Some(1), "one receipt of the second is in hand");
        tags.settle(2);
        assert_eq!(tags.due(), Some(2));
        tags.acknowledged = 2;
        assert_eq!(tags.due(), None);
        tags.settle(3);
        assert_eq!(tags.due(), Some(3));
    }
}
