//! The hand-off to a destination that has limit keys: by keys in turns, each no faster than its limits let it through. A key
//! with a backlog of any length has no more in the horizon than it may send at once, and keeps nobody from going on.
//!
//! Within a key the shares are those of any destination, by lot; over the keys that have their turn the earliest deadline
//! goes first.

use std::time::{Duration, Instant};

use sqlx::PgPool;

use super::{Bounds, PICK, Put, lock_or_begin};
use crate::configuration::Limits;
use crate::destination::pace;
use crate::store::{StoreError, micros, millis};

/// How far ahead of its slot a receipt is handed off: as long as messages take. A dispatcher waits that long, and longer.
const AHEAD: Duration = Duration::from_millis(100);
/// A hand-off keeps its key from the next one for no longer than this: the call, if it is made, says when that may be sent.
const CHARGED: Duration = Duration::from_secs(5);
/// The keys of one look.
const KEYS: i64 = 1000;
/// Of those that wait with a deadline, the keys of so many are looked at in any case.
const URGENT: i64 = 200;
/// The least and the most time until the next look while keys have to wait for their turn.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// How far a relay has come through the keys that something waits for.
#[derive(Debug, Default)]
pub struct Round {
    /// The last key that was looked at; `None`: none yet.
    after: Option<String>,
    /// When the earliest of those that have to wait has its turn.
    soonest: Option<Duration>,
    /// When to look again; `None`: nothing waits.
    next: Option<Instant>,
    /// When somebody looked last.
    looked: Option<Instant>,
}

impl Round {
    /// How long until the next look; `None`: nothing waits.
    pub(super) fn pause(&self) -> Option<Duration> {
        self.next.map(|next| next.saturating_duration_since(Instant::now()))
    }

    /// Whether a look is not too soon after the last one, for who has something new.
    pub(super) fn may_look(&self) -> bool {
        self.looked.is_none_or(|looked| looked.elapsed() >= PAUSE.0)
    }

    /// From the first key again, after a pause.
    fn anew(&mut self, pause: Option<Duration>) {
        *self = Self {
            next: pause.map(|pause| Instant::now() + pause),
            looked: self.looked,
            ..Self::default()
        };
    }
}

/// Queues what the next keys may send at once, and waits for `destination`.
///
/// # Errors
/// When the database does not answer. What was queued all the same is found by the healer.
#[expect(clippy::too_many_lines, reason = "one statement")]
pub(super) async fn queue(
    pool: &PgPool,
    destination: &str,
    bounds: Bounds<'_>,
    limits: &Limits,
    round: &mut Round,
) -> Result<Vec<Put>, StoreError> {
    // Little room would be used up by a look at every key: better a little later, and more of them at once.
    let worth = (bounds.max_queued / 4).clamp(1, bounds.limit);
    if bounds.max_queued - super::depth(pool, destination).await? < worth {
        round.next = Some(Instant::now() + PAUSE.0);
        return Ok(Vec::new());
    }
    round.looked = Some(Instant::now());
    let looked = look(pool, destination, round.after.as_deref(), bounds.only_sent).await?;
    if looked.keys.is_empty() {
        let pause = round.after.as_ref().map(|_| round.soonest.unwrap_or(PAUSE.0));
        round.anew(pause.map(|pause| pause.clamp(PAUSE.0, PAUSE.1)));
        return Ok(Vec::new());
    }
    let mut transaction = pool.begin_with(PICK).await?;
    let queued = lock_or_begin(&mut transaction, destination).await?;
    let room = (bounds.max_queued - queued).min(bounds.limit);
    if room <= 0 {
        round.next = Some(Instant::now() + PAUSE.0);
        return Ok(Vec::new());
    }
    let free = lock_keys(&mut transaction, destination, &looked.keys).await?;
    if free.len() < looked.keys.len() {
        // Somebody takes a slot of the others at this moment.
        round.soonest = Some(PAUSE.0);
    }
    let put = sqlx::query_as!(
        Put,
        r#"
        with allowed as materialized (
            select key, random() as lot,
                   case when key = '' or $3::bigint = 0 then $4::bigint
                        else (extract(epoch from now() + $5::bigint * interval '1 microsecond' - greatest(handed_at, now())) * 1000000)::bigint / $3 + 1
                   end as most
            from unnest($2::text[]) as given (name)
            cross join lateral (
                -- What was handed off by other limits counts no more.
                select key, case when handed_for = $8 then handed_at else '-infinity' end as handed_at from limit_keys
                where destination = $1 and key = given.name
            ) keys
            where key = '' or $3 = 0 or handed_at <= now() + $5::bigint * interval '1 microsecond'
        ), timers as materialized (
            select allowed.key, lot, most, at, due, turn, 0.49 as share, case when lot < 0.51 then 2 else 1 end as class
            from allowed cross join lateral (
                select ctid as at, call_due_at as due, row_number() over (order by call_due_at) as turn from work
                where destination = $1 and limit_key = allowed.key and call_due_at <= now() and (not $6 or coalesce(sent, unresolved or registered))
                order by call_due_at limit least(allowed.most, $4, 2 * $4 / (select count(*) from allowed) + 1)
            ) t
        ), firsts as materialized (
            select allowed.key, lot, most, at, due, turn, 0.21 as share, case when lot >= 0.3 and lot < 0.51 then 1 else 3 end as class
            from allowed cross join lateral (
                select ctid as at, first_call_key as due, row_number() over (order by first_call_key, id) as turn from work
                where destination = $1 and limit_key = allowed.key and first_call_key is not null and not $6
                order by first_call_key, id limit least(allowed.most, $4, 2 * $4 / (select count(*) from allowed) + 1)
            ) t
        ), fresh as materialized (
            select allowed.key, lot, most, at, due, turn, 0.3 as share, 1 as class
            from allowed cross join lateral (
                select ctid as at, first_call_key as due, row_number() over (order by id desc) as turn from work
                where destination = $1 and limit_key = allowed.key and first_call_key = 'infinity' and not $6 and id >= uuid_from($7)
                order by id desc limit least(allowed.most, $4, 2 * $4 / (select count(*) from allowed) + 1)
            ) t
            where lot < 0.3
        ), candidates as (
            select distinct on (at) * from (select * from timers union all select * from firsts union all select * from fresh) t order by at, class
        ), placed as (
            select *, row_number() over (partition by key order by class, turn) as nth from candidates
        ), ranked as (
            -- Where room is short every kind has its share of it, and of a kind the earliest goes first.
            select at, nth, (row_number() over (partition by nth, share order by due, lot) - random()) / share as rank from placed where nth <= most
        ), due as (
            select at, row_number() over (order by nth, rank) as place from ranked order by nth, rank limit $4
        ), held as materialized (
            select ctid as at, id from work
            where ctid = any(array(select at from due)) and (call_due_at is not null or first_call_key is not null) for update skip locked
        ), moved as (
            update work set state = 'queued', epoch = epoch + 1, call_due_at = null, first_call_key = null, moved_at = now()
            from held join due using (at) where work.ctid = held.at and work.id = held.id
            returning work.id, work.epoch, work.limit_key, due.place
        ), counted as (
            update horizons set put = put + (select count(*) from moved) where destination = $1
        ), handed as (
            update limit_keys set used_at = now(), handed_for = $8,
                   handed_at = greatest(case when handed_for = $8 then handed_at end, now()) + moved.count * least($3, $9::bigint) * interval '1 microsecond'
            from (select limit_key, count(*) from moved group by limit_key) moved
            where destination = $1 and key = moved.limit_key
        )
        select id as "id!", epoch as "epoch!" from moved order by place
        "#,
        destination,
        &free,
        micros(pace::between(limits)),
        room,
        micros(AHEAD),
        bounds.only_sent,
        bounds.fresh_since,
        limits.to_string(),
        micros(CHARGED),
    )
    .fetch_all(&mut *transaction)
    .await?;
    let next = next_turn(&mut transaction, destination, &looked.keys, limits).await?;
    transaction.commit().await?;
    round.soonest = round.soonest.into_iter().chain(next).min();
    if looked.last.is_some() {
        round.after = looked.last;
        round.next = Some(Instant::now());
    } else if i64::try_from(put.len()).unwrap_or(i64::MAX) == room || limits.0.is_empty() && !put.is_empty() {
        // There is more than room for it, or than a key's part: on with the first keys.
        round.anew(Some(Duration::ZERO));
    } else {
        round.anew(round.soonest.map(|soonest| soonest.clamp(PAUSE.0, PAUSE.1)));
    }
    Ok(put)
}

/// The keys of one look.
struct Looked {
    keys: Vec<String>,
    /// The last of them in order, if there may be more.
    last: Option<String>,
}

/// The next keys that something waits for, found one by one in the index, each with a row; and those of the earliest deadlines.
async fn look(pool: &PgPool, destination: &str, after: Option<&str>, only_sent: bool) -> Result<Looked, StoreError> {
    let rows = sqlx::query!(
        r#"
        with recursive firsts(key, n) as (
            (select limit_key, 1::bigint from work
             where destination = $1 and limit_key >= $2 and first_call_key is not null and not $3 order by limit_key limit 1)
            union all
            select (select limit_key from work where destination = $1 and limit_key > firsts.key and first_call_key is not null order by limit_key limit 1), n + 1
            from firsts where key is not null and n < $4
        ), timers(key, n) as (
            (select limit_key, 1::bigint from work
             where destination = $1 and limit_key >= $2 and call_due_at is not null order by limit_key limit 1)
            union all
            select (select limit_key from work where destination = $1 and limit_key > timers.key and call_due_at is not null order by limit_key limit 1), n + 1
            from timers where key is not null and n < $4
        ), next as (
            select key from (select key from firsts union select key from timers) t where key is not null order by key limit $4
        ), urgent as (
            select distinct limit_key as key from (
                select limit_key from work where destination = $1 and first_call_key < 'infinity' and not $3 order by first_call_key, id limit $5
            ) t where limit_key is not null
        ), every as materialized (
            select key, true as in_order from next union all select key, false from urgent where key not in (select key from next)
        ), known as (
            insert into limit_keys (destination, key) select $1, key from every order by key on conflict do nothing
        )
        select key as "key!", in_order as "in_order!" from every order by key
        "#,
        destination,
        // The next after it.
        after.map_or_else(String::new, |after| format!("{after}\u{1}")),
        only_sent,
        KEYS,
        URGENT,
    )
    .fetch_all(pool)
    .await?;
    let mut in_order = rows.iter().filter(|row| row.in_order);
    let full = i64::try_from(in_order.clone().count()).unwrap_or_default() == KEYS;
    let last = in_order.next_back().filter(|_| full).map(|row| row.key.clone());
    Ok(Looked {
        keys: rows.into_iter().map(|row| row.key).collect(),
        last,
    })
}

/// Locks those keys that nobody else has locked: nobody waits for a process that is paused in the middle of it.
async fn lock_keys(
    connection: &mut sqlx::PgConnection,
    destination: &str,
    keys: &[String],
) -> Result<Vec<String>, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"
        select row.key as "key!" from unnest($2::text[]) as given (name)
        cross join lateral (
            select key from limit_keys where destination = $1 and key = given.name for update skip locked
        ) row
        "#,
        destination,
        keys,
    )
    .fetch_all(connection)
    .await?)
}

/// How long until the first of the keys that have to wait has its turn.
async fn next_turn(
    connection: &mut sqlx::PgConnection,
    destination: &str,
    keys: &[String],
    limits: &Limits,
) -> Result<Option<Duration>, StoreError> {
    let next = sqlx::query_scalar!(
        r#"
        select (extract(epoch from min(row.handed_at) - now()) * 1000)::bigint from unnest($2::text[]) as given (name)
        cross join lateral (
            select handed_at from limit_keys
            where destination = $1 and key = given.name and key <> '' and handed_for = $3 and handed_at > now()
        ) row
        "#,
        destination,
        keys,
        limits.to_string(),
    )
    .fetch_one(connection)
    .await?;
    let until = |ms: i64| Duration::from_millis(u64::try_from(ms - millis(AHEAD)).unwrap_or_default());
    Ok(next.map(until))
}
