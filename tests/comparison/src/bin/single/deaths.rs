//! What a dead engine left: given back to the queue once no request of it can be under way any more.
//!
//! An engine does everything as `running`, its external calls too, so one take-over brings all of it back, and waits for the
//! send deadline and the longest timeout before that.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use shared::configuration::Configuration;
use shared::life::Scans;
use shared::store::{StoreError, heal, instances, pipelines};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::engine::Engine;

/// What was seen since this engine was last certain of its connection: of each instance its counter (`None`: it is on no list)
/// and since when it has stood there.
type Seen = HashMap<Uuid, (Option<i64>, Instant)>;

/// Watches until `stop`.
pub async fn run(engine: Arc<Engine>, configuration: Configuration, stop: CancellationToken) {
    let (every, dead_after) = (configuration.heartbeat.every, configuration.heartbeat.dead_after);
    let services = configuration.service.values().map(|service| service.timeout);
    let destinations = configuration
        .destination
        .values()
        .map(|destination| destination.timeout);
    let longest = services.chain(destinations).max().unwrap_or_default();
    let mut seen = Seen::new();
    let (mut scans, mut scan) = (Scans::every(3 * dead_after), Instant::now());
    while stop.run_until_cancelled(tokio::time::sleep(every)).await.is_some() {
        let begun = Instant::now();
        let scanned = begun >= scan;
        match look(&engine, &mut seen, scanned, (dead_after, longest)).await {
            Ok(()) if scanned => scan = begun + scans.pause_after(begun.elapsed()),
            Ok(()) => {}
            Err(error) => {
                // An observer that was not there may not judge.
                tracing::warn!(%error, "nothing can be judged without the database");
                seen.clear();
            }
        }
    }
}

async fn look(
    engine: &Engine,
    seen: &mut Seen,
    scan: bool,
    (dead_after, longest): (Duration, Duration),
) -> Result<(), StoreError> {
    let (now, own) = (Instant::now(), engine.heart.id());
    let listed: HashMap<Uuid, i64> = instances::beats(&engine.pool).await?.into_iter().collect();
    if scan {
        for owner in heal::unlisted_owners(&engine.pool).await? {
            seen.entry(owner).or_insert((None, now));
        }
    }
    for (id, beat) in &listed {
        let entry = seen.entry(*id).or_insert((Some(*beat), now));
        if entry.0 != Some(*beat) {
            *entry = (Some(*beat), now);
        }
    }
    // Whoever left in order is mourned by nobody.
    seen.retain(|id, (beat, _)| *id != own && (beat.is_none() || listed.contains_key(id)));
    let patience = dead_after + longest.max(pipelines::longest_timeout(&engine.pool).await?);
    let dead: Vec<(Uuid, Option<i64>)> = seen
        .iter()
        .filter(|(_, (_, since))| now.saturating_duration_since(*since) >= patience)
        .map(|(id, (beat, _))| (*id, *beat))
        .collect();
    for (id, beat) in dead {
        if let Some(receipts) = heal::take_over_internal(&engine.pool, id, beat).await? {
            tracing::warn!(instance = %id, receipts, "an engine is gone: its work was taken over");
        }
        seen.remove(&id);
        engine.queue.due_in(Duration::ZERO);
    }
    Ok(())
}
