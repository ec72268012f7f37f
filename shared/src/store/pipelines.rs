//! The versions of pipelines, kept as long as a receipt may finish on one.

use std::time::Duration;

use sqlx::PgPool;

use super::{StoreError, millis};

/// Stores a version, with the longest time limit that a request of it sets for itself; harmless to repeat.
///
/// # Errors
/// When the database does not answer.
pub async fn store(
    pool: &PgPool,
    version: &str,
    name: &str,
    source: &str,
    longest: Duration,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into pipelines (version, name, source, longest_timeout_ms) values ($1, $2, $3::text::json, $4) on conflict do nothing",
        version,
        name,
        source,
        millis(longest)
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// The longest time limit that a request of any version sets for itself.
///
/// # Errors
/// When the database does not answer.
pub async fn longest_timeout(pool: &PgPool) -> Result<Duration, StoreError> {
    let longest = sqlx::query_scalar!("select max(longest_timeout_ms) from pipelines")
        .fetch_one(pool)
        .await?;
    Ok(Duration::from_millis(
        longest.and_then(|ms| u64::try_from(ms).ok()).unwrap_or_default(),
    ))
}

/// The source of a version, as JSON.
///
/// # Errors
/// When the database does not answer.
pub async fn source(pool: &PgPool, version: &str) -> Result<Option<String>, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"select source::text as "source!" from pipelines where version = $1"#,
        version
    )
    .fetch_optional(pool)
    .await?)
}
