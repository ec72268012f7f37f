//! The versions of pipelines, kept as long as a receipt may finish on one.

use sqlx::PgPool;

use super::StoreError;

/// Stores a version; harmless to repeat.
///
/// # Errors
/// When the database does not answer.
pub async fn store(pool: &PgPool, version: &str, name: &str, source: &str) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into pipelines (version, name, source) values ($1, $2, $3::text::json) on conflict do nothing",
        version,
        name,
        source
    )
    .execute(pool)
    .await?;
    Ok(())
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
