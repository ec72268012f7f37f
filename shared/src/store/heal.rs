//! Mending what its holder lost: the receipts of a dead owner, and those whose message is taken for lost.
//!
//! Both scan `work` once: owners and states stand in no index, because a death is rare and every step is not.

use std::time::Duration;

use sqlx::PgPool;
use uuid::Uuid;

use super::{StoreError, millis};

/// Declares `dead` dead: its row goes, so that it learns of it at its next heartbeat, and its internal work is due
/// again for any orchestrator. Its external work stays until [`take_over_calls`]. Answers the number of receipts.
///
/// # Errors
/// When the database does not answer; repeating is harmless.
pub async fn take_over_internal(pool: &PgPool, dead: Uuid) -> Result<u64, StoreError> {
    let mut transaction = pool.begin().await?;
    sqlx::query!("delete from instances where id = $1", dead)
        .execute(&mut *transaction)
        .await?;
    let taken = sqlx::query!(
        r#"
        with held as materialized (
            select id from work where owner = $1 and state = 'running' order by id for update
        )
        update work set state = 'waiting', owner = null, epoch = epoch + 1, internal_due_at = now(), moved_at = now(),
               reason = 'its orchestrator died; taken over'
        from held where work.id = held.id
        "#,
        dead
    )
    .execute(&mut *transaction)
    .await?
    .rows_affected();
    transaction.commit().await?;
    Ok(taken)
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
               reason = 'its dispatcher died; taken over'
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

/// Takes the messages of `destination` that are older than `age` for lost: their receipts wait again, due now, and
/// a message that comes after all is stale. Answers the number of receipts.
///
/// # Errors
/// When the database does not answer; repeating is harmless.
pub async fn requeue_lost(pool: &PgPool, healer: Uuid, destination: &str, age: Duration) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"
        with held as materialized (
            select id from work
            where destination = $2 and state = 'queued' and moved_at < now() - $3 * interval '1 ms'
            order by id for update
        ), moved as (
            update work set state = 'waiting', epoch = epoch + 1, call_due_at = now(), moved_at = now(),
                   reason = 'its message was lost; queued again'
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
        i64_as_f64(millis(age)),
    )
    .fetch_one(pool)
    .await?)
}

/// `interval` is multiplied by a float; the error is far below a millisecond for any age that is asked for.
fn i64_as_f64(value: i64) -> f64 {
    f64::from(i32::try_from(value).unwrap_or(i32::MAX))
}
