//! Signs of life: one row an instance, one counter that rises with each heartbeat.

use sqlx::PgPool;
use uuid::Uuid;

use super::StoreError;

/// Makes the row of a new instance.
///
/// # Errors
/// When the database does not answer.
pub async fn register(pool: &PgPool, id: Uuid, service: &str) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into instances (id, service) values ($1, $2) on conflict do nothing",
        id,
        service
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Beats once. `false`: it was declared dead, and what it had belongs to others.
///
/// # Errors
/// When the database does not answer.
pub async fn beat(pool: &PgPool, id: Uuid) -> Result<bool, StoreError> {
    Ok(sqlx::query!("update instances set beat = beat + 1 where id = $1", id)
        .execute(pool)
        .await?
        .rows_affected()
        == 1)
}

/// Takes an instance off the list when it ends in order.
///
/// # Errors
/// When the database does not answer.
pub async fn leave(pool: &PgPool, id: Uuid) -> Result<(), StoreError> {
    sqlx::query!("delete from instances where id = $1", id)
        .execute(pool)
        .await?;
    Ok(())
}

/// Every instance on the list with its counter.
///
/// # Errors
/// When the database does not answer.
pub async fn beats(pool: &PgPool) -> Result<Vec<(Uuid, i64)>, StoreError> {
    Ok(sqlx::query!("select id, beat from instances")
        .fetch_all(pool)
        .await?
        .into_iter()
        .map(|row| (row.id, row.beat))
        .collect())
}
