//! The closed loop: so many receipts under way, a new one for each that is done. Completion is the simulator's count of what is
//! done, asked every few milliseconds: which receipt it was does not matter to it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::{LOOK, Load, Posted, unix_us};

/// Keeps `concurrency` receipts under way, for `warm` and until as many are done before they count, and for `length` while they
/// do: the first ones are all at the same stage, and an arm that takes longer for them would show none or all of them. No longer
/// than `patience` before they count.
///
/// # Errors
/// When a post is answered what no client can use, or the simulator does not answer.
pub async fn closed(
    load: &Load,
    concurrency: usize,
    warm: Duration,
    length: Duration,
    patience: Duration,
) -> anyhow::Result<Posted> {
    let room = Arc::new(Semaphore::new(concurrency));
    let (seen, mut done) = watch::channel(0);
    let watching = tokio::spawn(look(load.clone(), Arc::clone(&room), seen));
    let mut posts = JoinSet::new();
    let posting = async {
        for n in 0.. {
            // Nobody makes room any more once the look has failed.
            room.acquire().await.context("nobody counts what is done")?.forget();
            posts.spawn(load.clone().post(n, unix_us()));
        }
        anyhow::Ok(())
    };
    let counting = async {
        sleep(warm).await;
        let turned = done.wait_for(|done| *done >= concurrency as u64);
        // An arm that does not come so far is measured all the same.
        let _ = timeout(patience, turned).await;
        let begin_us = unix_us();
        sleep(length).await;
        begin_us
    };
    let begin_us = tokio::select! {
        failed = posting => return Err(failed.err().context("posting never ends by itself")?),
        begin_us = counting => begin_us,
    };
    watching.abort();
    let mut posted = Vec::new();
    while let Some(post) = posts.join_next().await {
        posted.push(post??);
    }
    Ok(Posted::within(posted, begin_us, length))
}

/// Makes room for as many as were done since the last look, and says how many are.
async fn look(load: Load, room: Arc<Semaphore>, seen: watch::Sender<u64>) {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let Ok(done) = load.ledger.done().await else {
            return room.close();
        };
        room.add_permits(usize::try_from(done.saturating_sub(*seen.borrow())).unwrap_or_default());
        seen.send_if_modified(|seen| {
            let more = done > *seen;
            *seen = done.max(*seen);
            more
        });
    }
}
