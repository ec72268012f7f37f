//! The hand-off: what is due for a destination is queued in the database, then published.
//!
//! The commit comes first; a message that is lost afterwards is missed by the healer, one that is doubled or late finds
//! another epoch. While the broker is away nothing is queued: a receipt that waits costs one row.
//!
//! An owner whose receipt comes to an external stage queues it itself, with its step, while nothing else waits for the
//! destination ([`HandOff`]); everything else is queued by the relays.

mod bunch;
mod hand_off;
mod publisher;

pub use hand_off::HandOff;
pub use publisher::Broker;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use shared::configuration::{Configuration, Destination};
use shared::handoff;
use shared::store::{StoreError, relay};
use sqlx::PgPool;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use publisher::{Publication, Queue};

/// How often a relay looks for timers that became due. Receipts of its own wake it earlier.
const ROUND: Duration = Duration::from_secs(1);
/// How often it looks once there has been nothing for [`QUIET`] rounds.
const IDLE: Duration = Duration::from_secs(2);
const QUIET: u32 = 10;
/// How long it gathers after it was woken, and its pace under load.
const GATHER: Duration = Duration::from_millis(10);
/// The most queued at once.
const BATCH: i64 = 500;
/// Publications that may wait for the publisher.
const INBOX: usize = 1024;

/// Relays for every destination until `stop`, publishes until `finished`; answers also how owners hand off themselves.
pub fn start(
    configuration: &Configuration,
    pool: PgPool,
    due: Arc<Notify>,
    stop: CancellationToken,
    finished: CancellationToken,
) -> (HandOff, impl Future<Output = ()> + Send + use<>) {
    let prefix = configuration.rabbitmq.prefix.clone();
    let bounds: BTreeMap<String, i64> = configuration
        .destination
        .iter()
        .map(|(name, destination)| (name.clone(), destination.max_queued))
        .collect();
    let queue = |(name, destination): (&String, &Destination)| Queue {
        destination: name.clone(),
        name: handoff::queue(&prefix, name),
        message: destination.message(),
    };
    let queues = configuration.destination.iter().map(queue).collect();
    let (publications, inbox) = mpsc::channel(INBOX);
    let broker = Arc::new(Broker::default());
    let url = configuration.rabbitmq.url.clone();
    let hand_off = HandOff::new(Arc::clone(&broker), publications.clone(), bounds.clone(), stop.clone());
    let publishing = publisher::run(url, queues, inbox, Arc::clone(&broker), finished);
    let running = async move {
        tokio::join!(publishing, relaying(pool, bounds, publications, due, broker, stop));
    };
    (hand_off, running)
}

async fn relaying(
    pool: PgPool,
    destinations: BTreeMap<String, i64>,
    publications: mpsc::Sender<Publication>,
    due: Arc<Notify>,
    broker: Arc<Broker>,
    stop: CancellationToken,
) {
    let (mut more, mut quiet) = (false, 0);
    let mut walks: BTreeMap<&str, relay::Walk> = BTreeMap::new();
    loop {
        let rest = async {
            if !more {
                tokio::select! {
                    () = due.notified() => quiet = 0,
                    () = tokio::time::sleep(if quiet > QUIET { IDLE } else { ROUND }) => quiet += 1,
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
            let walk = walks.entry(destination.as_str()).or_default();
            match queue(&pool, destination, *max_queued, walk).await {
                Ok(queued) => {
                    if !queued.is_empty() {
                        (more, quiet) = (true, 0);
                    }
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
async fn queue(
    pool: &PgPool,
    destination: &str,
    max_queued: i64,
    walk: &mut relay::Walk,
) -> Result<Vec<relay::Queued>, StoreError> {
    if !walk.is_under_way() && !relay::is_due(pool, destination).await? {
        return Ok(Vec::new());
    }
    let put = relay::queue(pool, destination, max_queued, BATCH, walk).await?;
    relay::messages(pool, &put).await
}
