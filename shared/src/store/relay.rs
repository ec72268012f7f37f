//! From `waiting` to `queued`, within a destination's horizon; committed before anything is published.

mod keyed;
mod walk;

use sqlx::PgPool;
use sqlx::types::time::OffsetDateTime;
use uuid::Uuid;

use super::StoreError;
use crate::configuration::Limits;

pub use walk::{Walk, set_back};

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
    walk.forget();
    if let Some(limits) = bounds.keys {
        return keyed::queue(pool, destination, bounds, limits, &mut walk.keys).await;
    }
    walk.forget_keys();
    walk.look_beside(pool, destination, bounds.only_sent).await;
    let Some(Picked { room, put }) = pick(pool, destination, bounds).await? else {
        walk.found_no_room();
        return Ok(Vec::new());
    };
    match i64::try_from(put.len()).unwrap_or(i64::MAX) {
        0 => walk.picked_nobody(pool, destination, bounds.only_sent),
        found => walk.picked(found, room, bounds.limit),
    }
    Ok(put)
}

/// What a pick had room for, and what it found.
struct Picked {
    room: i64,
    put: Vec<Put>,
}

/// Goes on where the last pick ended, or where a look found somebody before that; `None` without room.
async fn pick(pool: &PgPool, destination: &str, bounds: Bounds<'_>) -> Result<Option<Picked>, StoreError> {
    let mut transaction = pool.begin_with(PICK).await?;
    let queued = lock_or_begin(&mut transaction, destination).await?;
    let room = (bounds.max_queued - queued).min(bounds.limit);
    if room <= 0 {
        return Ok(None);
    }
    // Less than ten places have no three tenths: then by lot.
    let lot = || if room < 10 { rand::random::<f64>() } else { 0.0 };
    let put = sqlx::query_as!(
        Put,
        r#"
        with horizon as materialized (
            select * from horizons where destination = $1
        ), fresh as materialized (
            -- While somebody waits whom they would have to wait for.
            select ctid as at from work
            where destination = $1 and first_call_key = 'infinity' and not $3 and id >= uuid_from($4)
              and case when $4::timestamptz is not null then (
                  select id from work
                  where destination = $1 and first_call_key is not null
                    and (first_call_key, id) >= ((select firsts_to from horizon), (select firsts_to_id from horizon))
                  order by first_call_key, id limit 1
              ) end < uuid_from(now() - interval '5 s')
            order by id desc limit floor($2::bigint * 0.3 + $5::float8)::bigint for update skip locked
        ), shares as materialized (
            -- Without first calls timers have all of it.
            select rest, rest - case when exists (
                select from work
                where destination = $1 and first_call_key is not null and not $3
                  and (first_call_key, id) >= ((select firsts_from from horizon), (select firsts_from_id from horizon))
            ) then floor(rest * 0.3 + $6::float8)::bigint else 0 end as timers
            from (select $2::bigint - count(*) as rest from fresh) t
        ), timers as materialized (
            select ctid as at, call_due_at from work
            where destination = $1 and call_due_at <= now() and call_due_at >= (select timers_from from horizon)
              and (not $3 or coalesce(sent, unresolved or registered))
            order by call_due_at limit (select timers from shares) for update skip locked
        ), firsts as materialized (
            select ctid as at, first_call_key, id from work
            where destination = $1 and first_call_key is not null and not $3
              and (first_call_key, id) >= ((select firsts_from from horizon), (select firsts_from_id from horizon))
            order by first_call_key, id limit (select rest from shares) - (select count(*) from timers) for update skip locked
        ), ended as materialized (
            -- Whether nobody is left of those they went by.
            select timers_count < timers as timers_ended, firsts_count < rest - timers_count and not $3 as firsts_ended
            from shares
            cross join (select count(*) as timers_count from timers) t
            cross join (select count(*) as firsts_count from firsts) f
        ), passed as materialized (
            select ended.*, (select max(call_due_at) from timers) as timer, key, id
            from ended left join (select first_call_key as key, id from firsts order by first_call_key desc, id desc limit 1) last on true
        ), come as materialized (
            select passed.*, timers_from, firsts_from, firsts_from_id, greatest(timers_to, timer) as timers_to,
                   case when (key, id) > (firsts_to, firsts_to_id) then key else firsts_to end as firsts_to,
                   case when (key, id) > (firsts_to, firsts_to_id) then id else firsts_to_id end as firsts_to_id
            from horizon cross join passed
        ), due as (
            select at, row_number() over () as place from (select at from timers union all select at from firsts union all select at from fresh) t
        ), moved as (
            update work set state = 'queued', epoch = epoch + 1, call_due_at = null, first_call_key = null, moved_at = now()
            from due where work.ctid = due.at
            returning work.id, work.epoch, due.place
        ), counted as (
            -- Whoever set them back, they are where they had come to once nobody is left before that.
            update horizons set put = put + (select count(*) from moved),
                   timers_to = come.timers_to, firsts_to = come.firsts_to, firsts_to_id = come.firsts_to_id,
                   timers_from = case when timers_ended then come.timers_to else coalesce(timer, come.timers_from) end,
                   firsts_from = case when firsts_ended then come.firsts_to else coalesce(key, come.firsts_from) end,
                   firsts_from_id = case when firsts_ended then come.firsts_to_id else coalesce(id, come.firsts_from_id) end
            from come
            where destination = $1 and (
                exists (select from moved) or timers_ended and come.timers_from < come.timers_to
                or firsts_ended and (come.firsts_from, come.firsts_from_id) < (come.firsts_to, come.firsts_to_id)
            )
        )
        select id as "id!", epoch as "epoch!" from moved order by place
        "#,
        destination,
        room,
        bounds.only_sent,
        bounds.fresh_since,
        lot(),
        lot(),
    )
    .fetch_all(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(Some(Picked { room, put }))
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
