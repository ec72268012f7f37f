//! How an owner hands its receipt off without waiting for a relay.

use std::sync::Arc;

use shared::destination::{Following, State};
use shared::store::relay::Queued;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Broker;
use super::publisher::Publication;

/// The way from an owner to the publisher.
pub struct HandOff {
    broker: Arc<Broker>,
    publications: mpsc::Sender<Publication>,
    following: Arc<Following>,
    stop: CancellationToken,
}

impl HandOff {
    pub(super) fn new(
        broker: Arc<Broker>,
        publications: mpsc::Sender<Publication>,
        following: Arc<Following>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            broker,
            publications,
            following,
            stop,
        }
    }

    /// What is known of the broker.
    #[must_use]
    pub fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// The bound of what is queued for `destination`, if an owner may queue for it: what is queued is published at once, so
    /// not while the broker is away, the publisher is behind, the process stops or the destination is not open.
    #[must_use]
    pub fn bound(&self, destination: &str) -> Option<i64> {
        let keeps_up = self.publications.capacity() * 2 > self.publications.max_capacity();
        let open = self.broker.connected() && keeps_up && !self.stop.is_cancelled();
        let known = self.following.get(destination).filter(|_| open)?;
        // Where there are keys, each takes its turn.
        (known.state() == State::Open && known.settings.limit_key.is_none()).then(|| known.settings.horizon())
    }

    /// Publishes what was queued. A message that is lost here is missed by the healer.
    pub async fn publish(&self, destination: &str, receipt: Queued) {
        metrics::counter!("chekhov_queued_total", "destination" => destination.to_owned()).increment(1);
        let publication = Publication {
            destination: destination.to_owned(),
            receipt,
        };
        if self.publications.send(publication).await.is_err() {
            tracing::warn!("queued without a message: the publisher has ended");
        }
    }
}
