//! Refunds wait for their originals: an API refuses to refund what it does not know.
//!
//! Whatever ends a receipt wakes the refunds that wait for it, in the same statement. One that came to wait at that very
//! moment is missed by it, so whoever makes a refund wait looks again afterwards, and the healer does now and then.

use sqlx::PgPool;
use uuid::Uuid;

use super::StoreError;

/// What is known of a refund's original.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Original {
    /// Nothing: it was registered elsewhere, or is not here yet.
    Unknown,
    /// It is on its way.
    Open(Uuid),
    /// It ended so: `registered`, `rejected` or `cancelled`.
    Ended(String),
    /// It waits for this very refund, or for one that does.
    Circular,
}

/// Looks the original of the refund `id` up.
///
/// # Errors
/// When the database does not answer.
pub async fn find(pool: &PgPool, id: Uuid, merchant: &str, external_id: &str) -> Result<Original, StoreError> {
    let found = sqlx::query!(
        r#"
        with recursive chain as (
            select receipt as id, 1 as n from receipt_keys where merchant = $1 and external_id = $2
            union all
            select work.waits_for, n + 1 from chain join work on work.id = chain.id where work.waits_for is not null and n < 100
        )
        select keys.receipt, finished.state::text as state, work.id is not null as "open!",
               exists (select from chain where chain.id = $3) as "circular!"
        from receipt_keys keys left join work on work.id = keys.receipt left join finished on finished.id = keys.receipt
        where keys.merchant = $1 and keys.external_id = $2
        "#,
        merchant,
        external_id,
        id
    )
    .fetch_optional(pool)
    .await?;
    Ok(match found {
        Some(row) if row.circular => Original::Circular,
        Some(row) if row.open => Original::Open(row.receipt),
        Some(row) => row.state.map_or(Original::Unknown, Original::Ended),
        None => Original::Unknown,
    })
}

/// Wakes the refunds that wait for this original, if it has ended. Answers how many.
///
/// # Errors
/// When the database does not answer; repeating is harmless.
pub async fn wake(pool: &PgPool, original: Uuid) -> Result<u64, StoreError> {
    Ok(sqlx::query!(
        r#"
        with refunds as materialized (
            select work.ctid as place, coalesce(finished.state::text, 'registered') as ended
            from work left join finished on finished.id = work.waits_for
            where work.waits_for = $1 and not exists (select from work original where original.id = $1)
            order by work.id for update of work
        )
        update work set waits_for = null, epoch = work.epoch + 1, moved_at = now(),
            state = case refunds.ended when 'registered' then 'waiting' else 'parked' end::open_state,
            first_call_key = case refunds.ended when 'registered' then coalesce(work.deadline, 'infinity') end,
            reason = case refunds.ended when 'registered' then 'its original is registered' else 'its original was ' || refunds.ended end
        from refunds where work.ctid = refunds.place
        "#,
        original
    )
    .execute(pool)
    .await?
    .rows_affected())
}

/// Originals that have ended while refunds wait for them: nobody woke those. A scan of the refunds that wait.
///
/// # Errors
/// When the database does not answer.
pub async fn missed(pool: &PgPool) -> Result<Vec<Uuid>, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"
        select distinct waits_for as "original!" from work
        where waits_for is not null and not exists (select from work original where original.id = work.waits_for)
        limit 1000
        "#
    )
    .fetch_all(pool)
    .await?)
}
