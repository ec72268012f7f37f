//! The open loop: arrivals on time, whatever answers do. A post counts from the instant at which it was due.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::{Load, Posted, micros, unix_us};

/// Posts `rate` receipts a second for `length`; answers when every post was.
///
/// # Errors
/// When a post is answered what no client can use.
pub async fn open(load: &Load, rate: f64, length: Duration) -> anyhow::Result<Posted> {
    let (begun, begin_us) = (Instant::now(), unix_us());
    let mut posts = JoinSet::new();
    let mut posted = Vec::new();
    let every = Duration::from_secs_f64(1.0 / rate);
    for n in 0_u32.. {
        let due = every.mul_f64(f64::from(n));
        if due >= length {
            break;
        }
        sleep_until(begun + due).await;
        posts.spawn(load.clone().post(usize::try_from(n)?, begin_us + micros(due)));
        while let Some(post) = posts.try_join_next() {
            posted.push(post??);
        }
    }
    while let Some(post) = posts.join_next().await {
        posted.push(post??);
    }
    Ok(Posted::within(posted, begin_us, length))
}
