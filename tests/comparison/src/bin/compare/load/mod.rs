//! The load: posts by the smallest client there is, and what is known of each.

mod closed;
mod open;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{bail, ensure};
use end_to_end::{Ledger, Poster, Receipts, UnderWay};
use tokio::time::{Instant, sleep};

use crate::events::{Post, Span};

pub use closed::closed;
pub use open::open;

/// How long a post is repeated that nobody accepts.
const GIVEN_UP: Duration = Duration::from_mins(5);
/// Before a post is repeated whose answer says nothing about when.
const PAUSE: Duration = Duration::from_millis(100);

/// Where receipts are posted, and which.
#[derive(Debug, Clone)]
pub struct Load {
    /// Posts them.
    pub poster: Poster,
    /// The receipts.
    pub receipts: Arc<Receipts>,
    /// Knows how many are done.
    pub ledger: Ledger,
}

/// What a load came to.
#[derive(Debug)]
pub struct Posted {
    /// Every post.
    pub posts: Vec<Post>,
    /// When posts began that count.
    pub window: Span,
}

impl Posted {
    /// Posts in their order, of which those count that began in `length` from `begin_us` on.
    fn within(mut posts: Vec<Post>, begin_us: i64, length: Duration) -> Self {
        posts.sort_by_key(|post| post.n);
        let end_us = begin_us + micros(length);
        let window = Span { begin_us, end_us };
        Self { posts, window }
    }
}

/// The receipt that every arm is given.
pub fn template() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../end-to-end/bench/receipt.json")
}

/// Now, in microseconds since 1970.
pub fn unix_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// In microseconds.
pub fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl Load {
    /// Posts the `n`th until it is accepted: again after `Retry-After` where it was refused with 503, and after a moment where
    /// there was no answer.
    async fn post(self, n: usize, begun_us: i64) -> anyhow::Result<Post> {
        let deadline = Instant::now() + GIVEN_UP;
        let mut repeats = 0;
        let acknowledged_us = loop {
            let pause = match self.poster.post(self.receipts.body(n)).await {
                Ok(reply) if reply.status == 202 => break Some(unix_us()),
                Ok(reply) if reply.status == 503 => reply.retry_after.unwrap_or(PAUSE),
                Ok(reply) => bail!(
                    "a post was answered {}: {}",
                    reply.status,
                    String::from_utf8_lossy(&reply.body)
                ),
                Err(_) => PAUSE,
            };
            if Instant::now() + pause > deadline {
                break None;
            }
            repeats += 1;
            sleep(pause).await;
        };
        Ok(Post {
            n: n as u64,
            external_id: self.receipts.external_id(n),
            begun_us,
            acknowledged_us,
            repeats,
        })
    }
}

/// Waits until so many are done; false when they are not within `limit`.
pub async fn drained(ledger: &Ledger, count: u64, limit: Duration) -> anyhow::Result<bool> {
    let deadline = Instant::now() + limit;
    while ledger.done().await? < count {
        if Instant::now() > deadline {
            return Ok(false);
        }
        sleep(UnderWay::LOOK).await;
    }
    Ok(true)
}

/// Every post was accepted.
pub fn all_accepted(posts: &[Post]) -> anyhow::Result<()> {
    let refused = posts.iter().filter(|post| post.acknowledged_us.is_none()).count();
    ensure!(refused == 0, "{refused} of {} posts were never accepted", posts.len());
    Ok(())
}
