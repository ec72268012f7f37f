//! The one queue: everything that waits, for whichever stage, waits on its row until it is due, and is claimed in the order of
//! due times when there are slots.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use shared::life::Holding;
use shared::store::StoreError;
use shared::store::claim;
use shared::store::load::{self, Work};
use sqlx::PgPool;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::engine::Engine;

/// How often the queue is looked at for what nobody here knows of.
const ROUND: Duration = Duration::from_secs(1);
/// How long one look gathers: receipts that are due a moment apart are claimed together.
const GATHER: Duration = Duration::from_millis(5);
/// The most claimed at once.
const CLAIM: usize = 256;

/// What is known of the queue without a look.
pub struct Queue {
    /// Receipts are due and have no slot: whoever comes now is behind them.
    behind: AtomicBool,
    /// More of them than the backlog's bound.
    overloaded: AtomicBool,
    /// When the next one is due, as far as this process knows.
    alarm: watch::Sender<Instant>,
    /// Something is due now, or there is a slot again.
    wake: Notify,
}

impl Queue {
    pub fn new() -> Self {
        Self {
            behind: AtomicBool::new(false),
            overloaded: AtomicBool::new(false),
            alarm: watch::Sender::new(Instant::now()),
            wake: Notify::new(),
        }
    }

    /// Whether somebody waits for a slot.
    pub fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Relaxed)
    }

    /// Whether so many do that posts are refused.
    pub fn is_overloaded(&self) -> bool {
        self.overloaded.load(Ordering::Relaxed)
    }

    /// Somebody is due who has no slot.
    pub fn left_waiting(&self) {
        self.behind.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// There is a slot again.
    pub fn freed(&self) {
        if self.is_behind() {
            self.wake.notify_one();
        }
    }

    /// Somebody is due after `delay`.
    pub fn due_in(&self, delay: Duration) {
        let at = Instant::now() + delay;
        self.alarm.send_if_modified(|alarm| {
            let earlier = at < *alarm;
            *alarm = at.min(*alarm);
            earlier
        });
    }

    async fn rest(&self) {
        tokio::time::sleep(GATHER).await;
        let mut alarm = self.alarm.subscribe();
        loop {
            let at = *alarm.borrow_and_update();
            tokio::select! {
                () = sleep_until(at) => return,
                () = self.wake.notified() => return,
                // The sender is `self`: this tells of an earlier alarm.
                _ = alarm.changed() => {}
            }
        }
    }
}

/// Claims what is due while there are slots, until `stop`.
pub async fn run(engine: Arc<Engine>, backlog_bound: i64, stop: CancellationToken) {
    let (mut count, mut walk) = (Instant::now(), claim::Walk::default());
    while stop.run_until_cancelled(engine.queue.rest()).await.is_some() {
        if let Err(error) = round(&engine, &mut walk).await {
            tracing::warn!(%error, "due work could not be claimed");
            engine.queue.due_in(ROUND);
        }
        if (engine.queue.is_behind() || engine.queue.is_overloaded()) && Instant::now() >= count {
            count = Instant::now() + ROUND;
            match backlog(&engine.pool, backlog_bound).await {
                Ok(due) => engine.queue.overloaded.store(due >= backlog_bound, Ordering::Relaxed),
                Err(error) => tracing::warn!(%error, "what is due could not be counted"),
            }
        }
    }
}

async fn round(engine: &Arc<Engine>, walk: &mut claim::Walk) -> Result<(), StoreError> {
    let queue = &engine.queue;
    queue.alarm.send_replace(Instant::now() + ROUND);
    // What cannot be sent is left to those who can.
    if !engine.heart.is_strong() {
        return Ok(());
    }
    // Looked at before slots are taken: those are for what is accepted meanwhile.
    if !queue.is_behind() {
        match next_due(&engine.pool).await? {
            Some(Duration::ZERO) => {}
            Some(delay) => {
                queue.due_in(delay);
                return Ok(());
            }
            None => return Ok(()),
        }
    }
    // Whoever frees a slot from here on says so.
    queue.behind.store(true, Ordering::Relaxed);
    let mut slots = Vec::new();
    while slots.len() < CLAIM
        && let Some(slot) = engine.free_slot()
    {
        slots.push(slot);
    }
    if slots.is_empty() {
        return Ok(());
    }
    let limit = i64::try_from(slots.len()).unwrap_or(i64::MAX);
    let ids = claim::internal(&engine.pool, engine.heart.id(), limit, walk).await?;
    if ids.len() < slots.len() {
        queue.behind.store(false, Ordering::Relaxed);
    }
    // Those behind them are due at once, or later: a look tells.
    queue.due_in(Duration::ZERO);
    let mut holdings: HashMap<Uuid, Holding> = ids.iter().map(|id| (*id, engine.hold(*id))).collect();
    for work in claimed(engine, &ids).await {
        if let (Some(slot), Some(holding)) = (slots.pop(), holdings.remove(&work.hold.id)) {
            engine.start(work, slot, holding);
        }
    }
    Ok(())
}

/// How long until the first one is due; zero: it is.
async fn next_due(pool: &PgPool) -> Result<Option<Duration>, StoreError> {
    let seconds: Option<f64> = sqlx::query_scalar(
        "select extract(epoch from internal_due_at - now())::float8 from work
         where internal_due_at is not null order by internal_due_at limit 1",
    )
    .fetch_optional(pool)
    .await?;
    // Rounded up: what is due in less than a millisecond would not be claimed yet.
    Ok(seconds.map(|seconds| match seconds {
        ..=0.0 => Duration::ZERO,
        _ => Duration::try_from_secs_f64(seconds).unwrap_or(ROUND) + Duration::from_millis(1),
    }))
}

/// How many are due, counted up to `bound`. What waits for its back-off is no backlog.
async fn backlog(pool: &PgPool, bound: i64) -> Result<i64, StoreError> {
    Ok(
        sqlx::query_scalar("select count(*) from (select from work where internal_due_at <= now() limit $1) due")
            .bind(bound)
            .fetch_one(pool)
            .await?,
    )
}

/// Reads what was claimed, for as long as it takes: it is ours, and nobody else would come for it.
async fn claimed(engine: &Engine, ids: &[Uuid]) -> Vec<Work> {
    let mut pause = Duration::from_millis(50);
    while !ids.is_empty() {
        match read(engine, ids).await {
            Ok(works) => return works,
            Err(error) => tracing::warn!(%error, "what was claimed could not be read"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(ROUND);
    }
    Vec::new()
}

async fn read(engine: &Engine, ids: &[Uuid]) -> Result<Vec<Work>, StoreError> {
    let mut connection = engine.pool.acquire().await?;
    load::works(&mut connection, ids).await
}
