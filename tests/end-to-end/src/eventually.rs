//! Waiting for what has to become true.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// Asks until the answer is yes.
///
/// # Panics
/// When it is not within `limit`: with `what`, a sentence about what should have become true.
pub async fn eventually(limit: Duration, what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !condition().await {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Does the work of every item, at most `width` at once; the results come in the order in which they were ready.
///
/// # Panics
/// When the work of one does.
pub async fn in_parallel<T, R, W>(items: impl IntoIterator<Item = T>, width: usize, work: impl Fn(T) -> W) -> Vec<R>
where
    W: Future<Output = R> + Send + 'static,
    R: Send + 'static,
{
    let mut items = items.into_iter();
    let mut running = JoinSet::new();
    for item in items.by_ref().take(width) {
        running.spawn(work(item));
    }
    let mut results = Vec::new();
    while let Some(result) = running.join_next().await {
        results.push(result.expect("the work of an item panicked"));
        if let Some(item) = items.next() {
            running.spawn(work(item));
        }
    }
    results
}
