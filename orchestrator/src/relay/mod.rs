//! The hand-off: what is due for a destination is queued in the database, then published.
//!
//! The commit comes first; a message that is lost afterwards is missed by the healer, one that is doubled or late finds
//! another epoch. While the broker is away or the destination is closed nothing is queued: a receipt that waits costs one row,
//! which nobody touches. The relays' look is also how an orchestrator follows the destinations' states.
//!
//! An owner whose receipt comes to an external stage queues it itself, with its step, while nothing else waits for the
//! destination ([`HandOff`]); everything else is queued by the relays.

mod bunch;
mod hand_off;
mod publisher;

pub use hand_off::HandOff;
pub use publisher::Broker;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::configuration::{self, Configuration};
use shared::destination::{Destination, Following, State};
use shared::handoff::{self, Address};
use shared::store::relay::Bounds;
use shared::store::{StoreError, destinations, relay};
use sqlx::PgPool;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use publisher::{Publication, Queue};

/// How often a relay looks for timers that became due, and for destinations that changed. Receipts of its own wake it earlier.
const ROUND: Duration = Duration::from_secs(1);
/// How often it looks while it finds something, and for [`LINGER`] after: a dispatcher that writes a timer wakes nobody.
const BUSY: Duration = Duration::from_millis(100);
const LINGER: Duration = Duration::from_secs(5);
/// How long it gathers after it was woken, and its pace under load.
const GATHER: Duration = Duration::from_millis(10);
/// The most queued at once.
const BATCH: i64 = 500;
/// Publications that may wait for the publisher.
const INBOX: usize = 1024;

/// Relays for every destination until `stop`, publishes until `finished`; answers also how owners hand off themselves.
pub fn start(
    configuration: &Configuration,
    address: Address,
    pool: PgPool,
    following: Arc<Following>,
    due: Arc<Notify>,
    stop: CancellationToken,
    finished: CancellationToken,
) -> (HandOff, impl Future<Output = ()> + Send + use<>) {
    let prefix = configuration.rabbitmq.prefix.clone();
    let queue = |(name, destination): (&String, &configuration::Destination)| Queue {
        destination: name.clone(),
        name: handoff::queue(&prefix, name),
        message: destination.message(),
    };
    let queues = configuration.destination.iter().map(queue).collect();
    let (publications, inbox) = mpsc::channel(INBOX);
    let broker = Arc::new(Broker::default());
    let hand_off = HandOff::new(
        Arc::clone(&broker),
        publications.clone(),
        Arc::clone(&following),
        stop.clone(),
    );
    let destinations = configuration.destination.keys().cloned().collect();
    let publishing = publisher::run(address, queues, inbox, Arc::clone(&broker), finished);
    let running = async move {
        tokio::join!(
            publishing,
            relaying(pool, destinations, following, publications, due, broker, stop)
        );
    };
    (hand_off, running)
}

async fn relaying(
    pool: PgPool,
    destinations: BTreeSet<String>,
    following: Arc<Following>,
    publications: mpsc::Sender<Publication>,
    due: Arc<Notify>,
    broker: Arc<Broker>,
    stop: CancellationToken,
) {
    let mut walks: BTreeMap<String, relay::Walk> = BTreeMap::new();
    let mut looked = Instant::now();
    let mut found: Option<Instant> = None;
    loop {
        let is_busy = found.is_some_and(|found| found.elapsed() < LINGER);
        let round = if is_busy { BUSY } else { ROUND };
        let rest = async {
            let pause = walks.values().filter_map(relay::Walk::pause).min().unwrap_or(round);
            // What waits for a closed destination wakes nobody.
            let open = destinations.iter().any(|name| following.admits(name));
            let woken = !pause.is_zero()
                && tokio::select! {
                    () = due.notified(), if open => true,
                    () = tokio::time::sleep(pause) => false,
                };
            tokio::time::sleep(GATHER).await;
            woken
        };
        let Some(woken) = stop.run_until_cancelled(rest).await else {
            return;
        };
        // Whoever is under way looks no more often than it has to.
        let mut names: Vec<String> = walks
            .iter()
            .filter(|(_, walk)| walk.pause().is_some_and(|pause| pause.is_zero()))
            .map(|(name, _)| name.clone())
            .collect();
        let may_look = |name: &String| walks.get(name).is_none_or(relay::Walk::may_look);
        let is_worth_it = (woken || names.is_empty()) && destinations.iter().any(may_look);
        if is_worth_it || looked.elapsed() >= round {
            looked = Instant::now();
            match look(&pool, &following).await {
                Ok(found) => {
                    names = found.into_iter().filter(may_look).collect();
                }
                Err(error) => {
                    tracing::warn!(%error, "nothing can be queued without the database");
                    continue;
                }
            }
        }
        let admitted = |name: &String| broker.connected() && destinations.contains(name) && following.admits(name);
        names.retain(admitted);
        walks.retain(|name, _| admitted(name));
        for name in names {
            let Some(known) = following.get(&name) else { continue };
            match queue(&pool, &known, walks.entry(name.clone()).or_default()).await {
                Ok(queued) => {
                    if !queued.is_empty() {
                        found = Some(Instant::now());
                    }
                    metrics::counter!("chekhov_queued_total", "destination" => name.clone())
                        .increment(u64::try_from(queued.len()).unwrap_or_default());
                    for receipt in queued {
                        let destination = name.clone();
                        if publications.send(Publication { destination, receipt }).await.is_err() {
                            return;
                        }
                    }
                }
                Err(error) => tracing::warn!(%error, destination = %name, "nothing could be queued"),
            }
        }
    }
}

/// One look at all destinations, before any lock: answers those that something waits for.
async fn look(pool: &PgPool, following: &Following) -> Result<Vec<String>, StoreError> {
    let (seen, due): (Vec<_>, Vec<_>) = destinations::look(pool).await?.into_iter().unzip();
    let names: Vec<String> = seen.iter().map(|destination| destination.name.clone()).collect();
    following.learn(seen);
    Ok(names
        .into_iter()
        .zip(due)
        .filter(|(_, due)| *due)
        .map(|(name, _)| name)
        .collect())
}

async fn queue(pool: &PgPool, known: &Destination, walk: &mut relay::Walk) -> Result<Vec<relay::Queued>, StoreError> {
    let bounds = Bounds {
        max_queued: known.settings.horizon(),
        limit: BATCH,
        only_sent: known.state() == State::Draining,
        fresh_since: known.failed_at,
        keys: known.settings.limit_key.as_ref().map(|_| &known.settings.key_limits),
    };
    let put = relay::queue(pool, &known.name, bounds, walk).await?;
    relay::messages(pool, &put).await
}
