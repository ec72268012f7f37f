//! The closed loop: so many receipts under way, a new one for each that is done. Completion is the simulator's count of what is
//! done, asked every few milliseconds: which receipt it was does not matter to it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use super::{LOOK, Load, Posted, micros, unix_us};

/// Keeps `concurrency` receipts under way, for `warm` before they count and for `length` while they do.
///
/// # Errors
/// When a post is answered what no client can use, or the simulator does not answer.
pub async fn closed(load: &Load, concurrency: usize, warm: Duration, length: Duration) -> anyhow::Result<Posted> {
    let room = Arc::new(Semaphore::new(concurrency));
    let watching = tokio::spawn(watch(load.clone(), Arc::clone(&room)));
    let (begun, begin_us) = (Instant::now(), unix_us() + micros(warm));
    let deadline = begun + warm + length;
    let mut posts = JoinSet::new();
    for n in 0.. {
        // Nobody makes room any more once time is over, or once the watch has failed.
        let Ok(place) = timeout_at(deadline, room.acquire()).await else {
            break;
        };
        place.context("nobody counts what is done")?.forget();
        posts.spawn(load.clone().post(n, unix_us()));
    }
    watching.abort();
    let mut posted = Vec::new();
    while let Some(post) = posts.join_next().await {
        posted.push(post??);
    }
    Ok(Posted::within(posted, begin_us, length))
}

/// Makes room for as many as were done since the last look.
async fn watch(load: Load, room: Arc<Semaphore>) {
    let (mut seen, mut look) = (0, interval(LOOK));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let Ok(done) = load.ledger.done().await else {
            return room.close();
        };
        room.add_permits(usize::try_from(done.saturating_sub(seen)).unwrap_or_default());
        seen = done.max(seen);
    }
}
