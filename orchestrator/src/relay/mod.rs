//! The hand-off: what is due for a destination is queued in the database, then published.
//!
//! The commit comes first; a message that is lost afterwards is missed by the healer, one that is doubled or late finds
//! another epoch. While the broker is away nothing is queued: a receipt that waits costs one row.

mod publisher;

pub use publisher::Broker;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use shared::configuration::Configuration;
use shared::handoff;
use shared::store::{StoreError, relay};
use sqlx::PgPool;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use publisher::Publication;

/// How often an idle relay looks for timers that became due. Receipts of its own wake it earlier.
const ROUND: Duration = Duration::from_secs(1);
/// How long it gathers after it was woken, and its pace under load.
const GATHER: Duration = Duration::from_millis(10);
/// The most queued at once.
const BATCH: i64 = 500;

/// Relays for every destination until `stop`.
pub fn run(
    configuration: &Configuration,
    pool: PgPool,
    due: Arc<Notify>,
    broker: Arc<Broker>,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let prefix = configuration.rabbitmq.prefix.clone();
    let destinations: Vec<(String, i64)> = configuration
        .destination
        .iter()
        .map(|(name, destination)| (name.clone(), destination.max_queued))
        .collect();
    let queues = destinations
        .iter()
        .map(|(name, _)| (name.clone(), handoff::queue(&prefix, name)))
        .collect();
    let (publications, inbox) = mpsc::channel(1024);
    let publishing = publisher::run(
        configuration.rabbitmq.url.clone(),
        queues,
        inbox,
        Arc::clone(&broker),
        stop.clone(),
    );
    async move {
        tokio::join!(
            publishing,
            relaying(pool, destinations, publications, due, broker, stop)
        );
    }
}

async fn relaying(
    pool: PgPool,
    destinations: Vec<(String, i64)>,
    publications: mpsc::Sender<Publication>,
    due: Arc<Notify>,
    broker: Arc<Broker>,
    stop: CancellationToken,
) {
    let mut more = false;
    loop {
        let rest = async {
            if !more {
                tokio::select! {
                    () = due.notified() => {}
                    () = tokio::time::sleep(ROUND) => {}
                }
            }
            tokio::time::sleep(GATHER).await;
        };
        if stop.run_until_cancelled(rest).await.is_none() {
            return;
        }
        more = false;
        for (destination, max_queued) in &destinations {
            if !broker.connected() {
                continue;
            }
            match queue(&pool, destination, *max_queued).await {
                Ok(queued) => {
                    more |= !queued.is_empty();
                    metrics::counter!("chekhov_queued_total", "destination" => destination.clone())
                        .increment(u64::try_from(queued.len()).unwrap_or_default());
                    for receipt in queued {
                        let publication = Publication {
                            destination: destination.clone(),
                            receipt,
                        };
                        if publications.send(publication).await.is_err() {
                            return;
                        }
                    }
                }
                Err(error) => tracing::warn!(%error, %destination, "nothing could be queued"),
            }
        }
    }
}

/// Looks before it locks: an idle destination costs one query a round.
async fn queue(pool: &PgPool, destination: &str, max_queued: i64) -> Result<Vec<relay::Queued>, StoreError> {
    if relay::is_due(pool, destination).await? {
        relay::queue(pool, destination, max_queued, BATCH).await
    } else {
        Ok(Vec::new())
    }
}
