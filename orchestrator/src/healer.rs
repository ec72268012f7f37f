//! Mends what its holder lost: the receipts of dead instances, and messages that the broker has no more.
//!
//! Death is judged by an observer that was connected all along: a counter that stood still for `dead_after` of its own
//! monotonic clock. Whenever the database fails to answer, every observation begins anew, so that an outage of the
//! database kills nobody.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::configuration::Configuration;
use shared::life::Heart;
use shared::store::{StoreError, heal, instances, relay};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::relay::Broker;

/// What was seen of an instance.
struct Seen {
    beat: Option<i64>,
    since: Instant,
    internal_taken: bool,
}

/// What this healer observed since it was last certain of its connection.
#[derive(Default)]
struct Observation {
    instances: HashMap<Uuid, Seen>,
    /// When owners that are on no list were last looked for: a scan of `work`.
    scanned: Option<Instant>,
    /// Since when a destination's queue has had fewer messages than are queued.
    missing: HashMap<String, Instant>,
}

/// Watches until `stop`.
pub async fn run(
    configuration: Configuration,
    pool: PgPool,
    heart: Arc<Heart>,
    broker: Arc<Broker>,
    stop: CancellationToken,
) {
    let mut seen = Observation::default();
    let longest = configuration
        .destination
        .values()
        .map(|destination| destination.timeout)
        .max()
        .unwrap_or_default();
    while stop
        .run_until_cancelled(tokio::time::sleep(configuration.heartbeat.every))
        .await
        .is_some()
    {
        let watched = async {
            watch(&pool, &mut seen, configuration.heartbeat.dead_after, longest).await?;
            requeue(&configuration, &pool, &heart, &broker, &mut seen.missing).await
        };
        if let Err(error) = watched.await {
            tracing::warn!(%error, "nothing can be judged without the database");
            seen = Observation::default();
        }
    }
}

async fn watch(
    pool: &PgPool,
    seen: &mut Observation,
    dead_after: Duration,
    timeout: Duration,
) -> Result<(), StoreError> {
    let listed: HashMap<Uuid, i64> = instances::beats(pool).await?.into_iter().collect();
    let now = Instant::now();
    if seen.scanned.is_none_or(|scanned| now - scanned >= 3 * dead_after) {
        for owner in heal::unlisted_owners(pool).await? {
            seen.instances.entry(owner).or_insert(Seen {
                beat: None,
                since: now,
                internal_taken: false,
            });
        }
        seen.scanned = Some(now);
    }
    for (id, beat) in &listed {
        let entry = seen.instances.entry(*id).or_insert(Seen {
            beat: Some(*beat),
            since: now,
            internal_taken: false,
        });
        if entry.beat != Some(*beat) {
            *entry = Seen {
                beat: Some(*beat),
                since: now,
                internal_taken: false,
            };
        }
    }
    let mut ended = Vec::new();
    for (id, entry) in &mut seen.instances {
        let still = now - entry.since;
        if still >= dead_after && !entry.internal_taken {
            let taken = heal::take_over_internal(pool, *id).await?;
            entry.internal_taken = true;
            tracing::warn!(instance = %id, receipts = taken, "gone: its internal work was taken over");
            metrics::counter!("chekhov_taken_over_total", "kind" => "internal").increment(taken);
        }
        // It may have begun a request up to its send deadline, and that request may last its timeout.
        if still >= dead_after + timeout {
            let taken = heal::take_over_calls(pool, *id).await?;
            tracing::warn!(instance = %id, receipts = taken, "gone: its external work was taken over");
            metrics::counter!("chekhov_taken_over_total", "kind" => "external").increment(taken);
            ended.push(*id);
        }
    }
    for id in ended {
        seen.instances.remove(&id);
    }
    Ok(())
}

/// Messages are missed only where the broker has had fewer than are queued all along: a long queue is no lost one.
async fn requeue(
    configuration: &Configuration,
    pool: &PgPool,
    heart: &Heart,
    broker: &Broker,
    missing: &mut HashMap<String, Instant>,
) -> Result<(), StoreError> {
    for (name, destination) in &configuration.destination {
        let fewer = match broker.ready(name) {
            Some(ready) => relay::depth(pool, name).await? > i64::from(ready),
            None => false,
        };
        if !fewer {
            missing.remove(name);
            continue;
        }
        let since = *missing.entry(name.clone()).or_insert_with(Instant::now);
        if since.elapsed() < destination.lost_after() {
            continue;
        }
        missing.remove(name);
        let lost = heal::requeue_lost(pool, heart.id(), name, destination.lost_after()).await?;
        if lost > 0 {
            tracing::warn!(destination = %name, receipts = lost, "messages were lost; their receipts are queued again");
            let lost = u64::try_from(lost).unwrap_or_default();
            metrics::counter!("chekhov_lost_messages_total", "destination" => name.clone()).increment(lost);
        }
    }
    Ok(())
}
