//! What a person does to a receipt.

use sqlx::PgPool;
use uuid::Uuid;

use super::StoreError;

/// Cancels a receipt that nobody works on. Never while a call is unresolved, never once it is registered.
/// Answers whether it was moved.
///
/// # Errors
/// When the database does not answer.
pub async fn cancel(pool: &PgPool, id: Uuid, reason: &str) -> Result<bool, StoreError> {
    let moved = sqlx::query_scalar!(
        r#"
        with ended as (
            delete from work where id = $1 and state in ('waiting', 'queued', 'parked') and not unresolved and not registered
            returning id, epoch, state, destination
        ), taken as (
            insert into horizon_taken (destination, instance, taken)
            select destination, '00000000-0000-0000-0000-000000000000', 1 from ended where state = 'queued'
            on conflict (destination, instance) do update set taken = horizon_taken.taken + excluded.taken
        ), closed as (
            insert into finished (id, state, epoch, reason) select id, 'cancelled', epoch + 1, $2 from ended
        )
        select id as "id!" from ended
        "#,
        id,
        reason
    )
    .fetch_optional(pool)
    .await?;
    Ok(moved.is_some())
}

/// Gives a parked receipt another try: it waits, due now, with a fresh budget. `external`: its stage is.
/// Answers whether it was moved.
///
/// # Errors
/// When the database does not answer.
pub async fn release(pool: &PgPool, id: Uuid, external: bool) -> Result<bool, StoreError> {
    let moved = sqlx::query!(
        r#"
        update work set state = 'waiting', epoch = epoch + 1, moved_at = now(), failures = 0, polls = 0, undeclared = 0, spent_ms = 0,
               internal_due_at = case when not $2 then now() end, call_due_at = case when $2 then now() end,
               reason = 'released by an operator'
        where id = $1 and state = 'parked'
        "#,
        id,
        external
    )
    .execute(pool)
    .await?;
    Ok(moved.rows_affected() == 1)
}
