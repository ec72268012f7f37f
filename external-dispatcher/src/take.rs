//! From the queue to a dispatch: read, and started when the gate lets it.
//!
//! A stale message (another epoch) is acknowledged and counted; it takes no turn at the gate.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use shared::destination::State;
use shared::handoff::Handed;
use shared::stage::Shut;
use shared::store::load::{self, Work};
use shared::store::{StoreError, claim};
use tokio_util::sync::CancellationToken;

use crate::acknowledgements::Delivered;
use crate::dispatch::Dispatcher;
use crate::gate::Counted;

/// How long a read of what was handed off may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a dispatcher whose heartbeats fail looks whether they do still.
const WEAK: Duration = Duration::from_millis(200);
/// Why deliveries were not started.
#[derive(Debug, thiserror::Error)]
pub enum Untaken {
    /// The destination takes no calls now.
    #[error("the destination takes no calls now")]
    Shut,
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A receipt whose message was not stale when it was read.
pub struct Live {
    pub(super) receipt: Handed,
    pub(super) delivery: Delivered,
    pub(super) work: Work,
    pub(super) wanted: Counted,
}

impl Dispatcher {
    /// Reads what was handed off; what is stale is settled at once, and takes no turn at the gate.
    ///
    /// # Errors
    /// When the database does not answer: unacknowledged, the deliveries go back with their connection.
    pub async fn read(&self, handed: Vec<(Handed, Delivered)>) -> Result<Vec<Live>, StoreError> {
        let ids: Vec<_> = handed.iter().map(|(receipt, _)| receipt.id).collect();
        let works = {
            let mut line = self.line.lock().await;
            let mut connection = line.take().await?;
            let read = tokio::time::timeout(PATIENCE, load::works(&mut connection, &ids));
            let Ok(works) = read.await else {
                return Err(StoreError::Unavailable("no answer in time".to_owned()));
            };
            let works = works?;
            line.keep(connection);
            works
        };
        let mut works: HashMap<_, _> = works.into_iter().map(|work| (work.hold.id, work)).collect();
        let live = |(receipt, delivery): (Handed, Delivered)| {
            // A stale message must leave the row to the live one that may follow it.
            let live = |work: &Work| work.hold.epoch == receipt.epoch && work.hold.owner.is_nil();
            if works.get(&receipt.id).is_some_and(live) {
                works.remove(&receipt.id).map(|work| Live {
                    receipt,
                    delivery,
                    work,
                    wanted: self.gate.want(),
                })
            } else {
                stale(delivery);
                None
            }
        };
        Ok(handed.into_iter().filter_map(live).collect())
    }

    /// Starts each when the gate lets it.
    ///
    /// # Errors
    /// When some were not started: unacknowledged, the deliveries go back with their connection.
    pub async fn take(self: &Arc<Self>, mut batch: Vec<Live>, stop: &CancellationToken) -> Result<(), Untaken> {
        if self.gate.known().is_some_and(|known| known.state() == State::Draining) {
            batch = self.drain(batch).await?;
        }
        for live in batch {
            let begin = async {
                let place = self.gate.place().await;
                // What is claimed must be sent at once; while heartbeats fail nothing may be.
                while !self.heart.is_strong() {
                    tokio::time::sleep(WEAK).await;
                }
                Ok((place, self.gate.coming().await?))
            };
            let (place, coming) = match stop.run_until_cancelled(begin).await {
                None => return Ok(()),
                Some(Err(Shut)) => return Err(Untaken::Shut),
                Some(Ok(admitted)) => admitted,
            };
            let dispatcher = Arc::clone(self);
            self.tracker
                .spawn(Box::pin(async move { dispatcher.dispatch(live, place, coming).await }));
        }
        Ok(())
    }

    /// While the destination is drained: what was never sent goes back to wait; answers the rest.
    async fn drain(&self, batch: Vec<Live>) -> Result<Vec<Live>, StoreError> {
        let (sent, back): (Vec<_>, Vec<_>) = batch.into_iter().partition(|live| live.work.standing.sent);
        let ids: Vec<_> = back.iter().map(|live| (live.receipt.id, live.receipt.epoch)).collect();
        let reason = "handed back while its destination is drained";
        claim::hand_back(&self.pool, self.heart.id(), &ids, reason).await?;
        for live in back {
            live.delivery.settle();
        }
        Ok(sent)
    }
}

/// Settles what is another's by now.
pub(super) fn stale(delivery: Delivered) {
    metrics::counter!("chekhov_stale_messages_total").increment(1);
    delivery.settle();
}
