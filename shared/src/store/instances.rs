//! Signs of life: one row an instance, one counter that rises with each heartbeat.

use sqlx::PgPool;
use sqlx::types::time::OffsetDateTime;
use uuid::Uuid;

use super::StoreError;

/// Makes the row of a new instance; answers the database's clock.
///
/// # Errors
/// When the database does not answer.
pub async fn register(pool: &PgPool, id: Uuid, service: &str) -> Result<OffsetDateTime, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"insert into instances (id, service) values ($1, $2) returning clock_timestamp() as "now!""#,
        id,
        service
    )
    .fetch_one(pool)
    .await?)
}

/// Beats once; answers the database's clock. `None`: it was declared dead, and what it had belongs to others.
///
/// # Errors
/// When the database does not answer.
pub async fn beat(pool: &PgPool, id: Uuid) -> Result<Option<OffsetDateTime>, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"update instances set beat = beat + 1 where id = $1 returning clock_timestamp() as "now!""#,
        id
    )
    .fetch_optional(pool)
    .await?)
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
