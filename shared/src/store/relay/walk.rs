//! How far the relays of a destination have come through what waits for it: kept with the horizon.
//!
//! Before that stands who came later: with an earlier deadline, overtaken in the stages before, or held by somebody when his turn
//! was. Where a look finds the first of them, relays go on.

use std::time::{Duration, Instant};

use sqlx::PgPool;

use super::keyed;
use crate::store::StoreError;
use crate::store::look::{Looks, WALK};

/// How often it is looked while the last pick left nothing behind it: who was overtaken waits for nothing but a look then.
const END: Duration = Duration::from_millis(50);
/// How long the first pick waits for the first look: nobody may have looked while the destination was closed.
const BEGINNING: Duration = Duration::from_millis(50);
/// How long there is no pick after one that left no room. Whoever picked at once would take one place after the other as it
/// becomes free, and keep the horizon locked.
const FULL: Duration = Duration::from_millis(50);
/// When to come back at the earliest for what a look has found.
const LOOKING: Duration = Duration::from_millis(10);

/// A relay's walk through what waits for one destination.
#[derive(Debug, Default)]
pub struct Walk {
    /// When the next pick is worth it; `None`: nobody knows of anything.
    next: Option<Instant>,
    /// Whether it has looked at the beginning.
    has_begun: bool,
    /// Whether the last pick left nothing behind it.
    at_end: bool,
    /// Of a walk whose last pick found nothing.
    last_look: LastLook,
    /// Each answers whether it found somebody.
    looks: Looks<bool>,
    /// Of a destination with limit keys.
    pub(super) keys: keyed::Round,
}

/// The look before it is said that nothing is left.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum LastLook {
    #[default]
    Unneeded,
    UnderWay,
    Ended,
}

impl Walk {
    /// Whether a pick is not too soon after the last one, for who has something new to be handed off.
    #[must_use]
    pub fn may_look(&self) -> bool {
        self.next.is_none_or(|next| next <= Instant::now()) && self.keys.may_look()
    }

    /// How long until the next pick is worth it: at once if the last one found something, and later without room, or while keys
    /// have to wait for their turn; `None` while nobody knows of anything.
    #[must_use]
    pub fn pause(&self) -> Option<Duration> {
        let next = self.next.map(|next| next.saturating_duration_since(Instant::now()));
        next.or_else(|| self.keys.pause())
    }

    /// Forgets what it knows of when to pick, until a pick has told: also if that fails.
    pub(super) fn forget(&mut self) {
        self.next = None;
    }

    /// Of a destination whose receipts have no keys any more.
    pub(super) fn forget_keys(&mut self) {
        self.keys = keyed::Round::default();
    }

    /// Takes up a look that has ended, and begins one if it is time: picks go on beside it.
    pub(super) async fn look_beside(&mut self, pool: &PgPool, destination: &str, only_sent: bool) {
        if !self.has_begun {
            self.has_begun = true;
            self.look(Duration::ZERO, pool, destination, only_sent);
            self.looks.end_within(BEGINNING).await;
        }
        self.looks.ended().await;
        if self.last_look == LastLook::UnderWay && self.looks.under_way_for().is_none() {
            self.last_look = LastLook::Ended;
        }
        let pause = if self.at_end { END } else { WALK };
        self.look(pause, pool, destination, only_sent);
    }

    fn look(&mut self, pause: Duration, pool: &PgPool, destination: &str, only_sent: bool) {
        let (pool, destination) = (pool.clone(), destination.to_owned());
        let look = async move { set_back(&pool, &destination, only_sent).await };
        self.looks.begin_after(pause, look);
    }

    /// There was no room.
    pub(super) fn found_no_room(&mut self) {
        self.next = Some(Instant::now() + FULL);
    }

    /// A pick with `room`, of at most `limit`, has found somebody.
    pub(super) fn picked(&mut self, found: i64, room: i64, limit: i64) {
        let pause = if found >= room && room < limit {
            FULL
        } else {
            Duration::ZERO
        };
        self.next = Some(Instant::now() + pause);
        self.last_look = LastLook::Unneeded;
        // Beside few first calls timers may be left that had their part.
        self.at_end = found < room - room * 3 / 10;
    }

    /// A pick has found nobody: it is looked once more before nothing is known of.
    pub(super) fn picked_nobody(&mut self, pool: &PgPool, destination: &str, only_sent: bool) {
        self.at_end = true;
        if self.last_look == LastLook::Ended {
            self.last_look = LastLook::Unneeded;
            return;
        }
        self.look(Duration::ZERO, pool, destination, only_sent);
        if let Some(looking) = self.looks.under_way_for() {
            self.last_look = LastLook::UnderWay;
            // The longer it takes, the less often.
            self.next = Some(Instant::now() + looking.clamp(LOOKING, WALK));
        }
    }
}

/// Looks for the first who waits for `destination` and stands before where its relays go on, of timers and of first calls, and sets
/// that back to him; answers whether there was one. Who comes to stand there after the look is for the next.
///
/// # Errors
/// When the database does not answer; repeating is harmless.
pub async fn set_back(pool: &PgPool, destination: &str, only_sent: bool) -> Result<bool, StoreError> {
    let set = sqlx::query!(
        r#"
        with horizon as materialized (
            select timers_from, firsts_from, firsts_from_id from horizons where destination = $1
        ), timer as materialized (
            select call_due_at as at from work
            where destination = $1 and call_due_at <= now() and call_due_at < (select timers_from from horizon)
              and (not $2 or coalesce(sent, unresolved or registered))
            order by call_due_at limit 1
        ), first as materialized (
            -- In two parts, for a comparison of rows ends no index scan where the first columns are equal.
            (select first_call_key as key, id from work
             where destination = $1 and first_call_key < (select firsts_from from horizon) and not $2
             order by first_call_key, id limit 1)
            union all
            (select first_call_key, id from work
             where destination = $1 and first_call_key = (select firsts_from from horizon) and id < (select firsts_from_id from horizon) and not $2
             order by id limit 1)
            order by key, id limit 1
        )
        -- Another look may have set it back further meanwhile.
        update horizons set timers_from = least(timers_from, (select at from timer)),
               firsts_from = coalesce((select key from first where (key, id) < (firsts_from, firsts_from_id)), firsts_from),
               firsts_from_id = coalesce((select id from first where (key, id) < (firsts_from, firsts_from_id)), firsts_from_id)
        where destination = $1 and (exists (select from timer) or exists (select from first))
        "#,
        destination,
        only_sent,
    )
    .execute(pool)
    .await?;
    Ok(set.rows_affected() > 0)
}
