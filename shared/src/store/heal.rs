//! Mending what its holder lost: the receipts of a dead owner, and those whose message is taken for lost.
//!
//! Both scan `work` once: owners and states stand in no index, because a death is rare and every step is not.

use std::time::Duration;

use sqlx::PgPool;
use uuid::Uuid;

use super::{StoreError, millis};

/// Declares `dead` dead, whose counter stood at `beat` all along (`None`: it is on no list). Its row goes, so that it learns
/// of it at its next heartbeat, and its internal work is due again for any orchestrator. Its external work stays until
/// [`take_over_calls`]. Answers the number of receipts, or `None` if it beat after all.
///
/// # Errors
/// When the database does not answer; repeating is harmless.
pub async fn take_over_internal(pool: &PgPool, dead: Uuid, beat: Option<i64>) -> Result<Option<u64>, StoreError> {
    let mut transaction = pool.begin().await?;
    sqlx::query!("delete from instances where id = $1 and beat = $2", dead, beat)
        .execute(&mut *transaction)
        .await?;
    let lives = sqlx::query_scalar!(
        r#"select exists (select from instances where id = $1) as "lives!""#,
        dead
    )
    .fetch_one(&mut *transaction)
    .await?;
    if lives {
        return Ok(None);
    }
    let taken = sqlx::query!(
        r#"
        with held as materialized (
            select id from work where owner = $1 and state = 'running' order by id for update
        )
        update work set state = 'waiting', owner = null, epoch = epoch + 1, internal_due_at = now(), moved_at = now(),
               reason = 'its orchestrator died; taken over', wait_began = now(), wait_kind = 'timer', wait_reason = 'its orchestrator died'
        from held where work.id = held.id
        "#,
        dead
    )
    .execute(&mut *transaction)
    .await?
    .rows_affected();
    transaction.commit().await?;
    Ok(Some(taken))
}

/// Takes the external work of `dead` over, once its send deadline and the request's timeout have passed. An open call
/// stays unresolved. Answers the number of receipts.
///
/// # Errors
/// When the database does not answer; repeating is harmless.
pub async fn take_over_calls(pool: &PgPool, dead: Uuid) -> Result<u64, StoreError> {
    Ok(sqlx::query!(
        r#"
        with held as materialized (
            select id from work where owner = $1 and state = 'dispatching' order by id for update
        )
        update work set state = 'waiting', owner = null, epoch = epoch + 1, call_due_at = now(), moved_at = now(),
               unknown_at = case when unresolved then now() end, absents = 0,
               reason = 'its dispatcher died; taken over', wait_began = now(), wait_kind = 'timer', wait_reason = 'its dispatcher died'
        from held where work.id = held.id
        "#,
        dead
    )
    .execute(pool)
    .await?
    .rows_affected())
}

/// Owners of receipts that are on no list of instances: they died while nobody watched.
///
/// # Errors
/// When the database does not answer.
pub async fn unlisted_owners(pool: &PgPool) -> Result<Vec<Uuid>, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"
        select distinct owner as "owner!" from work
        where owner is not null and not exists (select from instances where instances.id = work.owner)
        "#
    )
    .fetch_all(pool)
    .await?)
}

/// How messages are known to be lost. A queue keeps its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// The queue has been empty for longer than any delivery is held.
    Empty,
    /// Later ones were claimed.
    Passed,
}

/// Takes messages of `destination` for lost that were queued `age` ago (queue empty), or `age` before what has been claimed
/// of later ones: their receipts wait again, due now, and a message that comes after all is stale. Answers their number.
/// A scan of `work`.
///
/// # Errors
/// When the database does not answer; repeating is harmless.
pub async fn requeue_lost(
    pool: &PgPool,
    healer: Uuid,
    destination: &str,
    age: Duration,
    evidence: Evidence,
) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"
        with held as materialized (
            select id from work
            where destination = $2 and state = 'queued'
              and moved_at < case when $4 then now() else (select max(passed) from horizon_taken where destination = $2) end
                             - $3::bigint * interval '1 ms'
            order by id for update
        ), moved as (
            update work set state = 'waiting', epoch = epoch + 1, call_due_at = now(), moved_at = now(),
                   reason = 'its message was lost; queued again',
                   wait_began = coalesce(wait_began, moved_at), wait_kind = coalesce(wait_kind, 'queue'), wait_reason = 'its message was lost'
            from held where work.id = held.id
            returning work.id
        ), taken as (
            insert into horizon_taken (destination, instance, taken)
            select $2, $1, count(*) from moved having count(*) > 0
            on conflict (destination, instance) do update set taken = horizon_taken.taken + excluded.taken
        )
        select count(*) as "count!" from moved
        "#,
        healer,
        destination,
        millis(age),
        evidence == Evidence::Empty,
    )
    .fetch_one(pool)
    .await?)
}

/// A receipt that an instance owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owned {
    /// The receipt.
    pub id: Uuid,
    /// The epoch of the claim.
    pub epoch: i32,
}

/// Everything that `owner` owns. A scan of `work`.
///
/// # Errors
/// When the database does not answer.
pub async fn owned(pool: &PgPool, owner: Uuid) -> Result<Vec<Owned>, StoreError> {
    Ok(
        sqlx::query_as!(Owned, "select id, epoch from work where owner = $1", owner)
            .fetch_all(pool)
            .await?,
    )
}

/// Gives back what `owner` owns and does not know of: due now, for anybody. An open call stays unresolved. Answers the number
/// of receipts.
///
/// # Errors
/// When the database does not answer; repeating is harmless.
pub async fn give_back(pool: &PgPool, owner: Uuid, strays: &[Owned]) -> Result<u64, StoreError> {
    Ok(sqlx::query!(
        r#"
        with given as (
            select * from unnest($2::uuid[], $3::int[]) as t (id, epoch)
        ), held as materialized (
            select work.id from work join given using (id) where work.epoch = given.epoch and work.owner = $1
            order by work.id for update of work
        )
        update work set state = 'waiting', owner = null, epoch = epoch + 1, moved_at = now(),
               internal_due_at = case when state = 'running' then now() end,
               call_due_at = case when state = 'dispatching' then now() end,
               unknown_at = case when unresolved then now() end, absents = 0,
               reason = 'its owner had forgotten it; given back', wait_began = now(), wait_kind = 'timer',
               wait_reason = 'its owner had forgotten it'
        from held where work.id = held.id
        "#,
        owner,
        &strays.iter().map(|stray| stray.id).collect::<Vec<_>>(),
        &strays.iter().map(|stray| stray.epoch).collect::<Vec<_>>(),
    )
    .execute(pool)
    .await?
    .rows_affected())
}
