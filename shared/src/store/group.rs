//! Group commit: the cost of durability is paid once a batch.
//!
//! While one batch commits, the next gathers; each caller waits for its own row. A batch holds distinct keys in
//! order, so that two writers lock rows in the same order. A lock error repeats the batch, a data error splits it
//! until the culprit stands alone, and after an error that leaves the commit's fate unknown the batch runs again
//! with `again` set: its statement then counts what is already as it should be.

use std::future::Future;
use std::time::Duration;

use sqlx::{PgConnection, PgPool};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::error::{Fate, StoreError};
use super::line::Line;

/// How long a batch gathers after its first row, for each row of the batch before: what came last says how many will come, so
/// that it costs nothing at rest, and under load a statement has many rows.
const GATHER: Duration = Duration::from_millis(2);
/// The longest that a batch gathers: one that went on would cost hardly less a row, and its rows would all wait for it.
const LONGEST: Duration = Duration::from_millis(10);
/// How long a commit may stay unanswered, longer than the server's own limit of a statement: then its connection is dead.
const PATIENCE: Duration = Duration::from_secs(35);
/// The most rows of one batch.
const ROWS: usize = 256;

/// One kind of statement that is committed in batches.
pub trait Batch: 'static {
    /// One row's input.
    type Item: Send + Sync + 'static;
    /// One row's answer.
    type Reply: Send + 'static;
    /// By what rows are ordered and told apart within a batch.
    type Key: Ord;
    /// The name in metrics.
    const NAME: &'static str;

    /// The key of `item`.
    fn key(item: &Self::Item) -> Self::Key;

    /// Commits `items` (distinct, ordered by key) in one transaction and answers in their order.
    /// `again`: an earlier try may have been committed.
    fn commit(
        connection: &mut PgConnection,
        items: &[Self::Item],
        again: bool,
    ) -> impl Future<Output = Result<Vec<Self::Reply>, sqlx::Error>> + Send;
}

/// A row that was not committed.
#[derive(Debug)]
pub struct Uncommitted<I> {
    /// Why not.
    pub error: StoreError,
    /// The row, if it was the row that was refused. Boxed: every answer has room for it.
    pub row: Option<Box<I>>,
}

impl<I> From<StoreError> for Uncommitted<I> {
    fn from(error: StoreError) -> Self {
        Self { error, row: None }
    }
}

type Answer<B> = Result<<B as Batch>::Reply, Uncommitted<<B as Batch>::Item>>;
type Entry<B> = (<B as Batch>::Item, oneshot::Sender<Answer<B>>);

/// A handle to the one writer of a kind of statement.
pub struct Group<B: Batch> {
    entries: mpsc::Sender<Entry<B>>,
}

impl<B: Batch> Clone for Group<B> {
    fn clone(&self) -> Self {
        Self {
            entries: self.entries.clone(),
        }
    }
}

impl<B: Batch> Group<B> {
    /// Starts the writer; it ends when the last handle is dropped.
    #[must_use]
    pub fn start(pool: PgPool) -> Self {
        let (entries, inbox) = mpsc::channel(4 * ROWS);
        metrics::counter!("chekhov_commit_repeats_total", "statement" => B::NAME).increment(0);
        tokio::spawn(write::<B>(pool, inbox));
        Self { entries }
    }

    /// Commits `item` in the next batch. It goes on trying through an outage: bound the wait where one is needed,
    /// knowing that the row may be committed all the same.
    ///
    /// # Errors
    /// [`StoreError::Refused`] when this row itself was refused.
    pub async fn commit(&self, item: B::Item) -> Result<B::Reply, StoreError> {
        self.offer(item).await.map_err(|uncommitted| uncommitted.error)
    }

    /// Likewise, and gives back the row that was refused.
    ///
    /// # Errors
    /// See [`Self::commit`].
    pub async fn offer(&self, item: B::Item) -> Answer<B> {
        let (reply, answer) = oneshot::channel();
        self.entries.send((item, reply)).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

async fn commit<B: Batch>(line: &mut Line, items: &[B::Item], again: bool) -> Result<Vec<B::Reply>, sqlx::Error> {
    let mut connection = line.take().await?;
    let committed = timeout(PATIENCE, B::commit(&mut connection, items, again))
        .await
        .unwrap_or(Err(sqlx::Error::PoolTimedOut));
    if !committed.as_ref().is_err_and(|error| Fate::of(error) == Fate::Unknown) {
        line.keep(connection);
    }
    committed
}

async fn write<B: Batch>(pool: PgPool, mut inbox: mpsc::Receiver<Entry<B>>) {
    let mut line = Line::to(pool);
    let mut held: Vec<Entry<B>> = Vec::new();
    let mut rows = 1;
    loop {
        let mut entries = std::mem::take(&mut held);
        if entries.is_empty() {
            match inbox.recv().await {
                Some(entry) => entries.push(entry),
                None => return,
            }
        }
        let until = Instant::now() + gather(rows);
        while entries.len() < ROWS {
            match timeout_at(until, inbox.recv()).await {
                Ok(Some(entry)) => entries.push(entry),
                Ok(None) | Err(_) => break,
            }
        }
        entries.sort_by_key(|(item, _)| B::key(item));
        let mut distinct: Vec<Entry<B>> = Vec::with_capacity(entries.len());
        for entry in entries {
            match distinct.last() {
                Some((last, _)) if B::key(last) == B::key(&entry.0) => held.push(entry),
                _ => distinct.push(entry),
            }
        }
        rows = u32::try_from(distinct.len()).unwrap_or(u32::MAX);
        metrics::histogram!("chekhov_commit_rows", "statement" => B::NAME).record(rows);
        let (items, replies) = distinct.into_iter().unzip();
        let begun = Instant::now();
        settle::<B>(&mut line, items, replies).await;
        metrics::histogram!("chekhov_commit_seconds", "statement" => B::NAME).record(begun.elapsed());
    }
}

/// How long the batch after one of so many rows gathers.
fn gather(rows: u32) -> Duration {
    GATHER.saturating_mul(rows).min(LONGEST)
}

async fn settle<B: Batch>(line: &mut Line, items: Vec<B::Item>, replies: Vec<oneshot::Sender<Answer<B>>>) {
    let mut parts = vec![(items, replies)];
    while let Some((mut items, mut replies)) = parts.pop() {
        let mut again = false;
        let mut pause = Duration::from_millis(5);
        loop {
            match commit::<B>(line, &items, again).await {
                Ok(answers) => {
                    for (reply, answer) in replies.into_iter().zip(answers) {
                        // A caller that no longer waits has been answered already.
                        let _ = reply.send(Ok(answer));
                    }
                    break;
                }
                Err(error) => match Fate::of(&error) {
                    Fate::Data if items.len() > 1 => {
                        let half = items.len() / 2;
                        parts.push((items.split_off(half), replies.split_off(half)));
                        parts.push((items, replies));
                        break;
                    }
                    Fate::Data => {
                        let error = StoreError::from(error);
                        tracing::error!(statement = B::NAME, %error, "a row was refused");
                        if let Some(reply) = replies.pop() {
                            let _ = reply.send(Err(Uncommitted {
                                error,
                                row: items.pop().map(Box::new),
                            }));
                        }
                        break;
                    }
                    fate => {
                        again |= fate == Fate::Unknown;
                        metrics::counter!("chekhov_commit_repeats_total", "statement" => B::NAME).increment(1);
                        tracing::warn!(statement = B::NAME, error = %StoreError::from(error), "commit repeated");
                        sleep(pause).await;
                        pause = (pause * 2).min(Duration::from_secs(1));
                    }
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_alone_is_kept_no_longer_than_a_moment() {
        assert_eq!(gather(1), GATHER);
        assert_eq!(gather(3), GATHER * 3);
        assert_eq!([gather(5), gather(256), gather(u32::MAX)], [LONGEST; 3]);
    }
}
