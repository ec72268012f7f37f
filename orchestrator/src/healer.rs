//! Mends what its holder lost: the receipts of dead instances, and messages that the broker has no more.
//!
//! Death is judged by an observer that was connected all along: a counter that stood still for `dead_after` of its own
//! monotonic clock. Whenever the database fails to answer, every observation begins anew, so that an outage of the
//! database kills nobody.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::configuration::Configuration;
use shared::destination::Following;
use shared::life::{Heart, Scans};
use shared::store::heal::{self, Evidence};
use shared::store::{StoreError, instances, limit_keys, originals, pipelines, relay};
use sqlx::PgPool;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::relay::Broker;

/// What was seen of an instance.
struct Seen {
    /// Its counter; `None` while it is on no list.
    beat: Option<i64>,
    since: Instant,
    internal_taken: bool,
}

impl Seen {
    fn at(beat: Option<i64>, since: Instant) -> Self {
        Self {
            beat,
            since,
            internal_taken: false,
        }
    }
}

/// What was seen of a destination's queue.
struct Queue {
    /// Since when it has been empty.
    empty: Option<Instant>,
    /// When `work` is scanned next for messages that were lost.
    scan: Instant,
    scans: Scans,
}

/// What this healer observed since it was last certain of its connection.
#[derive(Default)]
struct Observation {
    instances: HashMap<Uuid, Seen>,
    /// When owners that are on no list are looked for next: a scan of `work`.
    scan: Option<Instant>,
    scans: Option<Scans>,
    queues: HashMap<String, Queue>,
}

/// How long one round may take: an observer that was not there may not judge.
const PATIENCE: Duration = Duration::from_secs(35);

/// How often receipts without a key are looked for, where there should be one: a pass over what waits.
const KEYS: Duration = Duration::from_secs(5);
/// The most that are given one at once.
const FOUND: i64 = 1000;

/// Watches until `stop`.
pub async fn run(
    configuration: Configuration,
    pool: PgPool,
    heart: Arc<Heart>,
    broker: Arc<Broker>,
    following: Arc<Following>,
    stop: CancellationToken,
) {
    let mut seen = Observation::default();
    let (mut look, mut scans) = (Instant::now(), Scans::every(KEYS));
    while stop
        .run_until_cancelled(tokio::time::sleep(configuration.heartbeat.every))
        .await
        .is_some()
    {
        let round = async {
            watch(&configuration, &pool, heart.id(), &mut seen).await?;
            requeue(&configuration, &pool, heart.id(), &broker, &mut seen.queues).await
        };
        let judged = timeout(PATIENCE, round).await;
        let _ = timeout(PATIENCE, keys(&pool, &following, &mut look, &mut scans)).await;
        let failed = match judged {
            Ok(Ok(())) => continue,
            // It answered, and what was seen holds: the rest of the round is for the next one.
            Ok(Err(error @ StoreError::Locked(_))) => {
                tracing::warn!(%error, "nothing could be taken over yet");
                continue;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        tracing::warn!(error = failed, "nothing can be judged without the database");
        seen = Observation::default();
    }
}

async fn watch(
    configuration: &Configuration,
    pool: &PgPool,
    own: Uuid,
    seen: &mut Observation,
) -> Result<(), StoreError> {
    let dead_after = configuration.heartbeat.dead_after;
    // Taken before the counters are read: an answer that took long must not make them look old.
    let now = Instant::now();
    let mut listed: HashMap<Uuid, i64> = instances::beats(pool).await?.into_iter().collect();
    // What this process is itself, it knows to be alive.
    listed.remove(&own);
    if seen.scan.is_none_or(|scan| now >= scan) {
        for owner in heal::unlisted_owners(pool).await? {
            seen.instances.entry(owner).or_insert(Seen::at(None, now));
        }
        let scans = seen.scans.get_or_insert(Scans::every(3 * dead_after));
        seen.scan = Some(now + scans.pause_after(now.elapsed()));
        for original in originals::missed(pool).await? {
            originals::wake(pool, original).await?;
        }
    }
    seen.instances.remove(&own);
    for (id, beat) in &listed {
        let entry = seen.instances.entry(*id).or_insert(Seen::at(Some(*beat), now));
        if entry.beat != Some(*beat) {
            *entry = Seen::at(Some(*beat), now);
        }
    }
    // Whoever left in order is mourned by nobody; what it may have left behind is found as an unlisted owner's.
    seen.instances
        .retain(|id, entry| entry.beat.is_none() || entry.internal_taken || listed.contains_key(id));
    let still: Vec<Uuid> = seen
        .instances
        .iter()
        .filter(|(_, entry)| now.saturating_duration_since(entry.since) >= dead_after)
        .map(|(id, _)| *id)
        .collect();
    for id in still {
        bury(configuration, pool, id, now, seen).await?;
    }
    Ok(())
}

/// Takes over what a dead instance had, its external work once no request of it can be under way any more.
async fn bury(
    configuration: &Configuration,
    pool: &PgPool,
    id: Uuid,
    now: Instant,
    seen: &mut Observation,
) -> Result<(), StoreError> {
    let Some(entry) = seen.instances.get_mut(&id) else {
        return Ok(());
    };
    if !entry.internal_taken {
        let Some(taken) = heal::take_over_internal(pool, id, entry.beat).await? else {
            seen.instances.remove(&id);
            return Ok(());
        };
        entry.internal_taken = true;
        took_over(id, "internal", taken);
    }
    // It may have begun a request up to its send deadline, and that request may last its timeout.
    let timeouts = configuration
        .destination
        .values()
        .map(|destination| destination.timeout);
    let longest = timeouts
        .max()
        .unwrap_or_default()
        .max(pipelines::longest_timeout(pool).await?);
    if now.saturating_duration_since(entry.since) >= configuration.heartbeat.dead_after + longest {
        took_over(id, "external", heal::take_over_calls(pool, id).await?);
        seen.instances.remove(&id);
    }
    Ok(())
}

fn took_over(instance: Uuid, kind: &'static str, receipts: u64) {
    tracing::warn!(%instance, kind, receipts, "an instance is gone: its work was taken over");
    metrics::counter!("chekhov_taken_over_total", "kind" => kind).increment(receipts);
}

/// Sees to destinations with limit keys: that nobody waits there without one, and that keys which nobody uses are forgotten.
/// Whatever comes of it, deaths are judged as before.
async fn keys(pool: &PgPool, following: &Following, next: &mut Instant, scans: &mut Scans) {
    if Instant::now() < *next {
        return;
    }
    let (begun, mut more) = (Instant::now(), false);
    let (mut keyed, all) = (false, following.all());
    for known in all.iter().filter(|known| known.settings.limit_key.is_some()) {
        keyed = true;
        match limit_keys::find_keyless(pool, &known.name, FOUND).await {
            Ok(0) => {}
            Ok(found) => {
                tracing::info!(destination = %known.name, receipts = found, "given to an orchestrator, for a key");
                more |= i64::try_from(found).is_ok_and(|found| found >= FOUND);
            }
            Err(error) => tracing::warn!(%error, destination = %known.name, "receipts without a key may wait"),
        }
    }
    if keyed && let Err(error) = limit_keys::forget(pool).await {
        tracing::warn!(%error, "keys that nobody uses are kept");
    }
    let pause = scans.pause_after(begun.elapsed());
    *next = begun + if more { Duration::ZERO } else { pause };
}

/// Looks for receipts whose message is lost. Which are is decided by the queue's own order, not by age alone: a long
/// queue is no lost one.
async fn requeue(
    configuration: &Configuration,
    pool: &PgPool,
    own: Uuid,
    broker: &Broker,
    queues: &mut HashMap<String, Queue>,
) -> Result<(), StoreError> {
    for (name, destination) in &configuration.destination {
        let now = Instant::now();
        let age = destination.lost_after();
        let queue = queues.entry(name.clone()).or_insert(Queue {
            empty: None,
            scan: now + age,
            scans: Scans::every(age),
        });
        queue.empty = match broker.ready(name) {
            Some(0) => queue.empty.or(Some(now)),
            _ => None,
        };
        if now < queue.scan {
            continue;
        }
        queue.scan = now + age;
        if relay::depth(pool, name).await? == 0 {
            continue;
        }
        let evidence = if queue.empty.is_some_and(|since| now - since >= age) {
            Evidence::Empty
        } else {
            Evidence::Passed
        };
        let lost = heal::requeue_lost(pool, own, name, age, evidence).await?;
        queue.scan = now + queue.scans.pause_after(now.elapsed());
        if lost > 0 {
            tracing::warn!(destination = %name, receipts = lost, ?evidence, "messages were lost; their receipts are queued again");
            let lost = u64::try_from(lost).unwrap_or_default();
            metrics::counter!("chekhov_lost_messages_total", "destination" => name.clone()).increment(lost);
        }
    }
    Ok(())
}
