//! Taking receipts for work: the epoch rises, an owner is set.

use sqlx::types::time::OffsetDateTime;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::group::Batch;
use super::look::{Looks, WALK};
use super::record::Send;
use super::{Hold, StoreError};

/// How far an orchestrator has come through what is due, and its looks for what came to stand before that.
#[derive(Debug, Default)]
pub struct Walk {
    /// `internal_due_at` of the last that was claimed; `None`: it begins with the first that is due.
    from: Option<OffsetDateTime>,
    /// Each answers when the first that it found is due.
    looks: Looks<Option<OffsetDateTime>>,
}

/// Claims up to `limit` receipts whose internal work is due, the longest due first.
///
/// # Errors
/// When the database does not answer. What it claimed all the same has an owner that does not know of it.
pub async fn internal(pool: &PgPool, owner: Uuid, limit: i64, walk: &mut Walk) -> Result<Vec<Uuid>, StoreError> {
    if let Some(Some(before)) = walk.looks.ended().await {
        walk.from = walk.from.map(|from| from.min(before));
    }
    if let Some(from) = walk.from {
        let pool = pool.clone();
        walk.looks
            .begin_after(WALK, async move { first(&pool, Some(from)).await });
    }
    loop {
        let is_from_first = walk.from.is_none();
        let Some(from) = (match walk.from {
            Some(from) => Some(from),
            None => first(pool, None).await?,
        }) else {
            return Ok(Vec::new());
        };
        let rows = sqlx::query!(
            r#"
            with due as materialized (
                select ctid as place, internal_due_at as at from work
                where internal_due_at <= now() and internal_due_at >= $3
                order by internal_due_at limit $2 for update skip locked
            )
            update work set state = 'running', owner = $1, epoch = epoch + 1, internal_due_at = null, moved_at = now()
            from due where work.ctid = due.place
            returning work.id, (select max(at) from due) as last
            "#,
            owner,
            limit,
            from,
        )
        .fetch_all(pool)
        .await?;
        // At the end it begins anew.
        let is_full = i64::try_from(rows.len()).is_ok_and(|found| found == limit);
        walk.from = rows.last().and_then(|row| row.last).filter(|_| is_full);
        if !rows.is_empty() || is_from_first {
            return Ok(rows.into_iter().map(|row| row.id).collect());
        }
    }
}

/// When the first is due of those due by now, and before `before`.
async fn first(pool: &PgPool, before: Option<OffsetDateTime>) -> Result<Option<OffsetDateTime>, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"
        select internal_due_at as "at!" from work where internal_due_at <= now() and internal_due_at < coalesce($1::timestamptz, 'infinity')
        order by internal_due_at limit 1
        "#,
        before,
    )
    .fetch_optional(pool)
    .await?)
}

/// What any orchestrator may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// Internal work is due.
    pub internal: bool,
    /// Nobody is at a job that is under way.
    pub job: bool,
}

/// What is due for anybody, where `walk` goes on first: one look, so that an idle orchestrator takes no lock.
///
/// # Errors
/// When the database does not answer.
pub async fn due(pool: &PgPool, walk: &Walk) -> Result<Due, StoreError> {
    Ok(sqlx::query_as!(
        Due,
        r#"
        select exists (select from work where internal_due_at <= now() and internal_due_at >= $1)
               or exists (select from work where internal_due_at <= now()) as "internal!",
               exists (select from jobs where state in ('counting', 'running') and (holder is null or held_until <= now())) as "job!"
        "#,
        walk.from,
    )
    .fetch_one(pool)
    .await?)
}

/// How many receipts wait for an orchestrator, counted up to `bound`.
///
/// # Errors
/// When the database does not answer.
pub async fn internal_backlog(pool: &PgPool, bound: i64) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"select count(*) as "count!" from (select from work where internal_due_at is not null limit $1) t"#,
        bound
    )
    .fetch_one(pool)
    .await?)
}

/// Claims the receipt that a closed destination is probed with: what is due and what is new in turns (or those that fail by
/// themselves would be the canary each time), nothing whose key has to wait, then what is due later, and if nothing waits one that is queued (a scan of `work`, which only then finds nothing else there). `only_sent`: nothing new.
///
/// # Errors
/// When the database does not answer. What it claimed all the same has an owner that does not know of it.
pub async fn canary(
    pool: &PgPool,
    destination: &str,
    owner: Uuid,
    only_sent: bool,
) -> Result<Option<Uuid>, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"
        with timer as materialized (
            select ctid as place, call_due_at from work where destination = $1 and call_due_at is not null and (not $3 or coalesce(sent, unresolved or registered))
              and not exists (select from limit_keys where destination = $1 and key = work.limit_key and key <> '' and handed_at > now() + interval '250 ms')
            order by call_due_at limit 1 for update skip locked
        ), first as materialized (
            select ctid as place from work where destination = $1 and first_call_key is not null and not $3
              and not exists (select from limit_keys where destination = $1 and key = work.limit_key and key <> '' and handed_at > now() + interval '250 ms')
            order by first_call_key, id limit 1 for update skip locked
        ), queued as materialized (
            select ctid as place from work
            where destination = $1 and state = 'queued' and (not $3 or coalesce(sent, unresolved or registered))
              and not exists (select from timer) and not exists (select from first)
              and (select put > (select coalesce(sum(taken), 0) from horizon_taken where destination = $1) from horizons where destination = $1)
            limit 1 for update skip locked
        ), chosen as (
            select place from (
                select place, case when call_due_at <= now() and (select probes from destinations where name = $1) % 2 = 0 then 1 else 3 end as turn from timer
                union all select place, 2 from first union all select place, 4 from queued
            ) candidates order by turn limit 1
        ), before as (
            select work.id, work.state from work join chosen on work.ctid = chosen.place
        ), claimed as (
            update work set state = 'dispatching', owner = $2, epoch = epoch + 1, call_due_at = null, first_call_key = null, moved_at = now()
            from chosen where work.ctid = chosen.place
            returning work.id
        ), taken as (
            insert into horizon_taken (destination, instance, taken)
            select $1, $2, 1 from before where state = 'queued'
            on conflict (destination, instance) do update set taken = horizon_taken.taken + excluded.taken
        )
        select id from claimed
        "#,
        destination,
        owner,
        only_sent,
    )
    .fetch_optional(pool)
    .await?)
}

/// Hands queued receipts back, whose messages are then stale: those never tried wait for their first call again, the others
/// are due now. Answers how many it were; the rest was somebody else's by then.
///
/// # Errors
/// When the database does not answer; repeating is harmless.
pub async fn hand_back(pool: &PgPool, instance: Uuid, handed: &[(Uuid, i32)], reason: &str) -> Result<i64, StoreError> {
    let mut handed = handed.to_vec();
    handed.sort_unstable();
    Ok(sqlx::query_scalar!(
        r#"
        with held as materialized (
            select work.place, work.tried from unnest($2::uuid[], $3::int[]) as given (id, epoch)
            cross join lateral (
                select ctid as place, attempt > 0 or coalesce(sent, unresolved or registered) as tried
                from work where id = given.id and epoch = given.epoch and state = 'queued' for update
            ) work
        ), moved as (
            update work set state = 'waiting', epoch = epoch + 1, moved_at = now(), reason = $4,
                   wait_began = coalesce(wait_began, moved_at), wait_kind = coalesce(wait_kind, 'queue'), wait_reason = 'handed back',
                   first_call_key = case when not held.tried then coalesce(deadline, 'infinity') end,
                   call_due_at = case when held.tried then now() end
            from held where work.ctid = held.place
            returning work.destination
        ), taken as (
            insert into horizon_taken (destination, instance, taken)
            select destination, $1, count(*) from moved group by destination
            on conflict (destination, instance) do update set taken = horizon_taken.taken + excluded.taken
        )
        select count(*) as "count!" from moved
        "#,
        instance,
        &handed.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
        &handed.iter().map(|(_, epoch)| *epoch).collect::<Vec<_>>(),
        reason,
    )
    .fetch_one(pool)
    .await?)
}

/// A delivery about to be dispatched.
#[derive(Debug, Clone)]
pub struct Dispatch {
    /// The receipt.
    pub id: Uuid,
    /// The message's epoch: the claim's guard.
    pub epoch: i32,
    /// The dispatcher's instance.
    pub owner: Uuid,
    /// The bytes about to be sent, if the request registers: stored with the claim, and the call is unresolved from here on.
    pub send: Option<Send>,
}

/// The writer of dispatchers' claims. Answers the hold, or `None` when the message was stale.
#[derive(Debug)]
pub struct DispatchBatch;

impl Batch for DispatchBatch {
    type Item = Dispatch;
    type Reply = Option<Hold>;
    type Key = Uuid;
    const NAME: &'static str = "dispatch";

    fn key(item: &Dispatch) -> Uuid {
        item.id
    }

    async fn commit(
        connection: &mut PgConnection,
        items: &[Dispatch],
        again: bool,
    ) -> Result<Vec<Option<Hold>>, sqlx::Error> {
        let mut claimed = sqlx::query_scalar!(
            r#"
            with held as materialized (
                select given.*, work.place, work.queued_at
                from unnest($1::uuid[], $2::int[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bytea[])
                    as given (id, epoch, owner, call_id, method, path, headers, body)
                cross join lateral (
                    select ctid as place, moved_at as queued_at from work
                    where id = given.id and epoch = given.epoch and state = 'queued' for update
                ) work
            ), claimed as (
                update work set state = 'dispatching', owner = held.owner, epoch = work.epoch + 1, moved_at = now(),
                       unresolved = work.unresolved or held.call_id is not null,
                       sent = work.sent or held.call_id is not null
                from held where work.ctid = held.place
                returning held.*, work.destination
            ), stored as (
                insert into sends (receipt, call_id, method, path, headers, body)
                select id, call_id, method, path, headers::json, body from claimed where call_id is not null
                on conflict do nothing
            ), taken as (
                insert into horizon_taken (destination, instance, taken, passed)
                select destination, owner, count(*), max(queued_at) from claimed group by destination, owner
                on conflict (destination, instance) do update
                    set taken = horizon_taken.taken + excluded.taken, passed = greatest(horizon_taken.passed, excluded.passed)
            )
            select id as "id!" from claimed
            "#,
            &items.iter().map(|item| item.id).collect::<Vec<_>>(),
            &items.iter().map(|item| item.epoch).collect::<Vec<_>>(),
            &items.iter().map(|item| item.owner).collect::<Vec<_>>(),
            &items.iter().map(|item| item.send.as_ref().map(|send| send.call_id.as_str())).collect::<Vec<_>>()
                as &[Option<&str>],
            &items.iter().map(|item| item.send.as_ref().map(|send| send.method.as_str())).collect::<Vec<_>>()
                as &[Option<&str>],
            &items.iter().map(|item| item.send.as_ref().map(|send| send.path.as_str())).collect::<Vec<_>>()
                as &[Option<&str>],
            &items.iter().map(|item| item.send.as_ref().map(|send| send.headers.as_str())).collect::<Vec<_>>()
                as &[Option<&str>],
            &items.iter().map(|item| item.send.as_ref().and_then(|send| send.body.as_deref())).collect::<Vec<_>>()
                as &[Option<&[u8]>],
        )
        .fetch_all(&mut *connection)
        .await?;
        if again {
            claimed.extend(already(connection, items).await?);
        }
        Ok(items
            .iter()
            .map(|item| {
                claimed.contains(&item.id).then_some(Hold {
                    id: item.id,
                    epoch: item.epoch + 1,
                    owner: item.owner,
                })
            })
            .collect())
    }
}

/// What an earlier try claimed whose answer was lost. A statement of its own: the one before may have waited for that very
/// try to end, and still sees what was before it.
async fn already(connection: &mut PgConnection, items: &[Dispatch]) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        select work.id from work join unnest($1::uuid[], $2::int[], $3::uuid[]) as given (id, epoch, owner) using (id)
        where work.id = any($1) and work.epoch = given.epoch + 1 and work.owner = given.owner
        "#,
        &items.iter().map(|item| item.id).collect::<Vec<_>>(),
        &items.iter().map(|item| item.epoch).collect::<Vec<_>>(),
        &items.iter().map(|item| item.owner).collect::<Vec<_>>(),
    )
    .fetch_all(connection)
    .await
}

/// Stores the bytes of a request that registers before its first send, by an owner that has the receipt already.
/// Answers whether it is still the owner's; from here on the call is unresolved.
///
/// # Errors
/// When the database does not answer: nothing may be sent then.
pub async fn open_call(pool: &PgPool, hold: Hold, send: &Send) -> Result<bool, StoreError> {
    let opened = sqlx::query_scalar!(
        r#"
        with held as (
            update work set unresolved = true, sent = true where id = $1 and epoch = $2 and owner = $3 returning id
        ), stored as (
            insert into sends (receipt, call_id, method, path, headers, body)
            select id, $4, $5, $6, $7::text::json, $8 from held on conflict do nothing
        )
        select id from held
        "#,
        hold.id,
        hold.epoch,
        hold.owner,
        send.call_id,
        send.method,
        send.path,
        send.headers,
        send.body.as_deref(),
    )
    .fetch_optional(pool)
    .await?;
    Ok(opened.is_some())
}
