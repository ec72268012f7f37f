//! The closed loop: so many receipts under way, a new one for each that is done.

use std::time::Duration;

use anyhow::Context;
use end_to_end::UnderWay;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{Load, Posted, unix_us};

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
    let under_way = UnderWay::begin(&load.ledger, concurrency).await?;
    let mut posts = JoinSet::new();
    let posting = async {
        for n in 0.. {
            under_way.enter().await?;
            posts.spawn(load.clone().post(n, unix_us()));
        }
        anyhow::Ok(())
    };
    let counting = async {
        sleep(warm).await;
        // An arm that does not come so far is measured all the same.
        let _ = timeout(patience, under_way.until(concurrency as u64)).await;
        let begin_us = unix_us();
        sleep(length).await;
        begin_us
    };
    let begin_us = tokio::select! {
        failed = posting => return Err(failed.err().context("posting never ends by itself")?),
        begin_us = counting => begin_us,
    };
    let mut posted = Vec::new();
    while let Some(post) = posts.join_next().await {
        posted.push(post??);
    }
    Ok(Posted::within(posted, begin_us, length))
}
