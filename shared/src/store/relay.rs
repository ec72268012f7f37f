//! From `waiting` to `queued`, within a destination's horizon; committed before anything is published.

mod keyed;

use std::time::{Duration, Instant};

use sqlx::PgPool;
use sqlx::types::time::OffsetDateTime;
use uuid::Uuid;

use super::StoreError;
use crate::configuration::Limits;

/// A receipt put into the horizon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Put {
    /// The receipt.
    pub id: Uuid,
    /// The epoch its claim must find.
    pub epoch: i32,
}

/// How a pick begins. Its commit waits for no disk: a pick that a crash of PostgreSQL takes back leaves the receipt waiting under
/// the epoch before, and its message finds it not queued, or queued anew under that same epoch; then the first of the two
/// messages wins. Every claim is on the disk before anything is sent, and with it the pick before it.
const PICK: &str = "begin; set local synchronous_commit = off";

/// How far a relay has come through what waits for a destination. The next to be queued stand behind those that were queued
/// last: whoever began at the front each time would pass the index entries of all that went before, until they are vacuumed.
#[derive(Debug, Default)]
pub struct Walk {
    /// When it began at the front; `None` if nothing was queued since.
    begun: Option<Instant>,
    /// Whether the last pick found less than it had room for: nothing stands behind it.
    at_end: bool,
    /// `call_due_at` of the last timer, `first_call_key` and id of the last first call. Text, for a key may be infinite.
    timer: Option<String>,
    first: Option<String>,
    first_id: Option<Uuid>,
    /// Of a destination with limit keys.
    keys: keyed::Round,
}

/// A walk begins anew so often: what came to stand before it (an older receipt, an earlier deadline) waits no longer.
pub(super) const WALK: Duration = Duration::from_secs(1);
/// One that came to its end begins anew so soon: who was overtaken in the stages before stands in front of it.
const END: Duration = Duration::from_millis(50);

impl Walk {
    fn is_over(&self) -> bool {
        let lasts = if self.at_end { END } else { WALK };
        self.begun.is_none_or(|begun| begun.elapsed() >= lasts)
    }

    /// Whether a look is not too soon after the last one, for who has something new to be handed off.
    #[must_use]
    pub fn may_look(&self) -> bool {
        self.keys.may_look()
    }

    /// How long until the next look is worth it: at once if the last one found something, so that there is probably more, and
    /// later while keys have to wait for their turn; `None` while nobody knows of anything.
    #[must_use]
    pub fn pause(&self) -> Option<Duration> {
        self.begun.map(|_| Duration::ZERO).or_else(|| self.keys.pause())
    }
}

/// What the message of a receipt in the horizon says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// The receipt.
    pub id: Uuid,
    /// The epoch its claim must find.
    pub epoch: i32,
    /// W3C trace context of its intake.
    pub traceparent: String,
    /// W3C trace state.
    pub tracestate: Option<String>,
}

/// What may be queued for a destination.
#[derive(Debug, Clone, Copy)]
pub struct Bounds<'a> {
    /// The most that are queued, in all.
    pub max_queued: i64,
    /// The most at once.
    pub limit: i64,
    /// Only what was sent and is open there: nothing new is submitted.
    pub only_sent: bool,
    /// What was accepted since then is fresh.
    pub fresh_since: Option<OffsetDateTime>,
    /// Of a destination with limit keys: the limits of each, none if they only take turns.
    pub keys: Option<&'a Limits>,
}

/// Queues due receipts of `destination`, in the order in which they are to be sent: timers (they were sent before), the longest
/// due first; then first calls, earliest deadline first, then age; then fresh first calls, the newest first. Three tenths of
/// the room are kept for the fresh, and of the rest timers take no more than seven tenths: none of them starves behind the
/// others, however many they are. Answers them in that order.
///
/// At a destination with limit keys: by keys, each at its own pace.
///
/// The horizon's row is locked, so that relays take turns and the bound holds for all of them together.
///
/// # Errors
/// When the database does not answer. What was queued all the same is found by the healer.
pub async fn queue(
    pool: &PgPool,
    destination: &str,
    bounds: Bounds<'_>,
    walk: &mut Walk,
) -> Result<Vec<Put>, StoreError> {
    if let Some(limits) = bounds.keys {
        return keyed::queue(pool, destination, bounds, limits, &mut walk.keys).await;
    }
    if walk.is_over() {
        *walk = Walk::default();
    }
    let mut transaction = pool.begin_with(PICK).await?;
    let queued = lock_or_begin(&mut transaction, destination).await?;
    let room = (bounds.max_queued - queued).min(bounds.limit);
    if room <= 0 {
        return Ok(Vec::new());
    }
    let rows = loop {
        let rows = sqlx::query!(
            r#"
            with fresh as materialized (
                select ctid as at from work
                where destination = $1 and first_call_key = 'infinity' and not $6 and id >= uuid_from($7)
                order by id desc limit $2::bigint * 3 / 10 for update skip locked
            ), timers as materialized (
                select ctid as at, call_due_at from work
                where destination = $1 and call_due_at <= now() and call_due_at >= coalesce($3::text::timestamptz, '-infinity')
                  and (not $6 or coalesce(sent, unresolved or registered))
                order by call_due_at limit ($2::bigint - (select count(*) from fresh)) - ($2::bigint - (select count(*) from fresh)) * 3 / 10 for update skip locked
            ), firsts as materialized (
                select ctid as at, first_call_key, id from work
                where destination = $1 and first_call_key is not null and not $6
                  and (first_call_key, id) > (coalesce($4::text::timestamptz, '-infinity'), coalesce($5::uuid, '00000000-0000-0000-0000-000000000000'))
                order by first_call_key, id
                limit greatest($2::bigint - (select count(*) from timers) - (select count(*) from fresh), 0) for update skip locked
            ), due as (
                select at, row_number() over () as place from (select at from timers union all select at from firsts union all select at from fresh) t
            ), moved as (
                update work set state = 'queued', epoch = epoch + 1, call_due_at = null, first_call_key = null, moved_at = now()
                from due where work.ctid = due.at
                returning work.id, work.epoch, due.place
            ), counted as (
                update horizons set put = put + (select count(*) from moved) where destination = $1
            )
            select moved.id as "id!", moved.epoch as "epoch!", (select max(call_due_at)::text from timers) as timer, last.key as "first?", last.id as "first_id?"
            from moved left join (
                select first_call_key::text as key, id from firsts order by first_call_key desc, id desc limit 1
            ) last on true
            order by moved.place
            "#,
            destination,
            room,
            walk.timer,
            walk.first,
            walk.first_id,
            bounds.only_sent,
            bounds.fresh_since,
        )
        .fetch_all(&mut *transaction)
        .await?;
        if !rows.is_empty() || walk.begun.is_none() {
            break rows;
        }
        // It came to the end: once more from the front.
        *walk = Walk::default();
    };
    transaction.commit().await?;
    match rows.last() {
        None => *walk = Walk::default(),
        Some(last) => {
            walk.begun.get_or_insert_with(Instant::now);
            walk.at_end = i64::try_from(rows.len()).is_ok_and(|found| found < room);
            walk.timer = last.timer.clone().or(walk.timer.take());
            if last.first_id.is_some() {
                (walk.first, walk.first_id) = (last.first.clone(), last.first_id);
            }
        }
    }
    Ok(rows
        .into_iter()
        .map(|row| Put {
            id: row.id,
            epoch: row.epoch,
        })
        .collect())
}

/// Locks a destination's horizon, also one that nothing was ever queued in; answers how many are.
async fn lock_or_begin(connection: &mut sqlx::PgConnection, destination: &str) -> Result<i64, StoreError> {
    if let Some(queued) = lock(connection, destination).await? {
        return Ok(queued);
    }
    sqlx::query!(
        "insert into horizons (destination) values ($1) on conflict do nothing",
        destination
    )
    .execute(&mut *connection)
    .await?;
    Ok(lock(connection, destination).await?.unwrap_or(0))
}

/// Locks a destination's horizon and answers how many are queued, or what was a moment before: what is taken meanwhile only
/// makes it less. `None` while nothing has ever been queued.
async fn lock(connection: &mut sqlx::PgConnection, destination: &str) -> Result<Option<i64>, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"
        with horizon as materialized (
            select put from horizons where destination = $1 for update
        )
        select (put - (select coalesce(sum(taken), 0) from horizon_taken where destination = $1))::bigint as "queued!"
        from horizon
        "#,
        destination
    )
    .fetch_optional(connection)
    .await?)
}

/// What the messages of `put` say, in their order. Read after the commit, so that the horizon's lock is not held for it.
///
/// # Errors
/// When the database does not answer: then they are without a message, and found by the healer.
pub async fn messages(pool: &PgPool, put: &[Put]) -> Result<Vec<Queued>, StoreError> {
    if put.is_empty() {
        return Ok(Vec::new());
    }
    Ok(sqlx::query_as!(
        Queued,
        r#"
        select given.id as "id!", given.epoch as "epoch!", r.traceparent as "traceparent!", r.tracestate
        from unnest($1::uuid[], $2::int[]) with ordinality as given (id, epoch, place)
        cross join lateral (select traceparent, tracestate from receipts where id = given.id limit 1) r
        order by given.place
        "#,
        &put.iter().map(|put| put.id).collect::<Vec<_>>(),
        &put.iter().map(|put| put.epoch).collect::<Vec<_>>(),
    )
    .fetch_all(pool)
    .await?)
}

async fn queued(connection: &mut sqlx::PgConnection, destination: &str) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"
        select (put - (select coalesce(sum(taken), 0) from horizon_taken where destination = $1))::bigint as "queued!"
        from horizons where destination = $1
        "#,
        destination
    )
    .fetch_optional(connection)
    .await?
    .unwrap_or(0))
}

/// How many receipts are queued for `destination`: two counters, no scan.
///
/// # Errors
/// When the database does not answer.
pub async fn depth(pool: &PgPool, destination: &str) -> Result<i64, StoreError> {
    let mut connection = pool.acquire().await?;
    queued(&mut connection, destination).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_at_its_end_begins_anew_sooner_than_one_with_more_before_it() {
        let walk = |age: Duration, at_end: bool| Walk {
            begun: Instant::now().checked_sub(age),
            at_end,
            ..Walk::default()
        };
        assert!(Walk::default().is_over());
        assert!(walk(END, true).is_over());
        assert!(!walk(END, false).is_over());
        assert!(walk(WALK, false).is_over());
    }
}
