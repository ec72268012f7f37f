//! One batch of a job: found, judged, and moved in one transaction with the job's own progress.

use std::time::{Duration, Instant};

use serde_json::json;
use shared::store::StoreError;
use shared::store::audit::{self, By, Deed};
use shared::store::jobs::{self, Batch, Causes, Job, State};
use shared::store::search::{self, Bounds, Cursor, Filter, Order, Window};
use uuid::Uuid;

use super::{Jobs, LEASE};
use crate::steering::{self, Action, Plan};

/// The most that are moved at once.
const MOST: i32 = 500;
/// The most that are counted at once.
const COUNTED: usize = 1000;
/// The most entries that are looked at for a batch.
const EXAMINED: usize = 5000;
/// Between two batches that moved nothing: others want to work too.
const BREATH: Duration = Duration::from_millis(20);

/// How many receipts are moved at once at a rate of so many a second.
#[must_use]
pub fn size(rate: i32) -> usize {
    usize::try_from((rate / 10).clamp(1, MOST)).unwrap_or(1)
}

/// How long it is from one batch to the next: no second has more of them than the rate allows.
#[must_use]
pub fn gap(rate: i32) -> Duration {
    let batches = (rate / (rate / 10).clamp(1, MOST)).max(1);
    Duration::from_micros(1_000_000_u64.div_ceil(u64::try_from(batches).unwrap_or(1)))
}

/// What follows a batch.
pub(super) enum Next {
    /// Another, no sooner.
    In(Duration),
    /// The job is done, or stopped, or somebody else's.
    End,
}

/// A job that is this process's for now.
pub(super) struct Holding<'a> {
    jobs: &'a Jobs,
    id: Uuid,
    fence: i64,
    action: Action,
    filter: Filter,
    counts: bool,
    by: By,
    rate: i32,
    cursor: Option<Cursor>,
    refused: Causes,
}

impl<'a> Holding<'a> {
    /// `None`: this version does not know such a job.
    pub fn new(jobs: &'a Jobs, job: Job) -> Option<Self> {
        let cursor = match &job.cursor {
            Some(word) => Some(Cursor::read(word)?),
            None => None,
        };
        Some(Self {
            jobs,
            id: job.id,
            fence: job.fence,
            action: Action::read(&job.action, job.stage.as_deref())?,
            filter: serde_json::from_str(&job.filter).ok()?,
            counts: job.state == State::Counting,
            by: By {
                who: job.who,
                role: "operator",
                reason: Some(job.reason),
                trace_id: None,
            },
            rate: job.rate,
            cursor,
            refused: serde_json::from_str(&job.refused).ok()?,
        })
    }

    /// The next batch. One whose turn is not yet, by the database's clock, moves nothing. After an error nobody knows what was
    /// committed: the row says it.
    pub async fn next(&mut self) -> Result<Next, StoreError> {
        let begun = Instant::now();
        let (pool, versions) = (&self.jobs.pool, &self.jobs.versions);
        let bounds = Bounds {
            examine: EXAMINED,
            most: if self.counts { COUNTED } else { size(self.rate) },
        };
        let order = order(&self.action);
        let window = search::window(pool, versions, &self.filter, order, self.cursor.clone(), bounds).await?;
        let mut plan = steering::plan(pool, versions, &self.action, &window.ids).await?;

        let mut transaction = pool.begin().await?;
        match jobs::lock(&mut transaction, self.id, self.fence).await? {
            None => return Ok(Next::End),
            Some(wait) if !wait.is_zero() => return Ok(Next::In(wait)),
            Some(_) => {}
        }
        let (movable, mut moved) = (plan.moves.len(), 0);
        if !self.counts {
            moved = steering::carry_out(&mut transaction, &self.action, &mut plan, &self.by.who).await?;
        }
        let mut refused = self.refused.clone();
        count(&mut refused, &plan);
        let batch = Batch {
            cursor: window.next.as_ref().map(Cursor::word),
            examined: number(window.examined),
            matched: number(window.ids.len()),
            movable: number(movable),
            moved: number(moved),
            refused,
            gap: if moved > 0 { gap(self.rate) } else { Duration::ZERO },
        };
        if !jobs::note(&mut transaction, self.id, self.fence, &batch, LEASE).await? {
            return Ok(Next::End);
        }
        if batch.cursor.is_none() {
            self.end(&mut transaction, &batch).await?;
        }
        transaction.commit().await?;
        if moved > 0 {
            self.jobs.due.notify_one();
        }
        Ok(self.took(window, batch, begun))
    }

    /// What was committed is known from here on.
    fn took(&mut self, window: Window, batch: Batch, begun: Instant) -> Next {
        self.refused = batch.refused;
        self.cursor = window.next;
        if self.cursor.is_none() {
            return Next::End;
        }
        Next::In(batch.gap.saturating_sub(begun.elapsed()).max(BREATH))
    }

    /// Puts on record what the walk came to.
    async fn end(&self, connection: &mut sqlx::PgConnection, batch: &Batch) -> Result<(), StoreError> {
        let totals = jobs::totals(connection, self.id).await?;
        let (action, count) = if self.counts {
            ("job.counted", totals.movable)
        } else {
            ("job.done", totals.moved)
        };
        tracing::info!(count, matched = totals.matched, "{action}");
        let deed = Deed {
            action,
            target: &self.id.to_string(),
            filter: None,
            count,
            detail: json!({"matched": totals.matched, "refused": batch.refused}),
        };
        audit::record(connection, &self.by, deed).await
    }
}

/// Whoever moves what he meets walks by what does not change. What was rejected is found by when, and what is rejected again
/// meanwhile is not meant: the filter has a time for that.
fn order(action: &Action) -> Order {
    match action {
        Action::Reopen => Order::Nearest,
        _ => Order::ById,
    }
}

fn count(refused: &mut Causes, plan: &Plan) {
    for (_, refusal) in &plan.refused {
        *refused.entry(refusal.name().to_owned()).or_default() += 1;
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_second_has_more_batches_than_the_rate_allows() {
        for rate in [1, 2, 9, 10, 15, 19, 25, 100, 105, 999, 1000, 4999, 5000] {
            // Of batches that far apart, so many begin in less than a second.
            let most = (Duration::from_secs(1).as_nanos() - 1) / gap(rate).as_nanos() + 1;
            let moved = u128::try_from(size(rate)).unwrap() * most;
            let rate = u128::try_from(rate).unwrap();
            assert!(moved <= rate && moved * 10 > rate * 8, "{moved} a second at {rate}");
        }
    }
}
