//! What is shown of a receipt.

use sqlx::PgPool;
use sqlx::types::time::OffsetDateTime;
use uuid::Uuid;

use super::StoreError;

/// A receipt as an operator sees it.
#[derive(Debug, Clone)]
pub struct View {
    /// Our id.
    pub id: Uuid,
    /// Merchant id.
    pub merchant: String,
    /// The caller's id.
    pub external_id: String,
    /// Version of its pipeline: of the current one, if it was reopened.
    pub pipeline: String,
    /// The receipt as JSON.
    pub content: String,
    /// W3C trace context.
    pub traceparent: String,
    /// To be registered by then.
    pub deadline: Option<OffsetDateTime>,
    /// When it was accepted.
    pub accepted_at: OffsetDateTime,
    /// Its state, open or final.
    pub state: String,
    /// The stage's index, while it is open.
    pub position: Option<i16>,
    /// The stage it ended at.
    pub last_stage: Option<String>,
    /// Where its next external stage goes.
    pub destination: Option<String>,
    /// Why it waits, or ended.
    pub reason: Option<String>,
    /// A refund: the receipt that it waits for.
    pub waits_for: Option<Uuid>,
    /// Until when it waits.
    pub due_at: Option<OffsetDateTime>,
    /// When it ended.
    pub finished_at: Option<OffsetDateTime>,
}

/// One call of its history.
#[derive(Debug, Clone)]
pub struct PastCall {
    /// Stage name.
    pub stage: String,
    /// Request name.
    pub request: String,
    /// The stage's attempt.
    pub attempt: i32,
    /// The idempotency key.
    pub call_id: String,
    /// When it began.
    pub started_at: OffsetDateTime,
    /// How long it took.
    pub duration_ms: i32,
    /// What it came to.
    pub outcome: String,
    /// HTTP status.
    pub status: Option<i16>,
    /// Why it failed.
    pub error: Option<String>,
    /// `Retry-After`.
    pub retry_after_s: Option<i32>,
    /// Whether it is of a request that registers.
    pub registers: bool,
}

/// Reads one receipt.
///
/// # Errors
/// When the database does not answer.
pub async fn receipt(pool: &PgPool, id: Uuid) -> Result<Option<View>, StoreError> {
    Ok(sqlx::query_as!(
        View,
        r#"
        select r.id, r.merchant, r.external_id, coalesce(w.pipeline, r.pipeline) as "pipeline!", r.content::text as "content!", r.traceparent, r.deadline, r.accepted_at,
               coalesce(w.state::text, f.state::text, 'waiting') as "state!", w.position as "position?", f.stage as last_stage,
               w.destination as "destination?",
               coalesce(w.reason, f.reason) as reason, w.waits_for as "waits_for?", coalesce(w.internal_due_at, w.call_due_at) as due_at,
               f.finished_at as "finished_at?"
        from receipts r left join work w on w.id = r.id left join finished f on f.id = r.id
        where r.id = $1
        "#,
        id
    )
    .fetch_optional(pool)
    .await?)
}

/// The id of a business key.
///
/// # Errors
/// When the database does not answer.
pub async fn id_of(pool: &PgPool, merchant: &str, external_id: &str) -> Result<Option<Uuid>, StoreError> {
    Ok(sqlx::query_scalar!(
        "select receipt from receipt_keys where merchant = $1 and external_id = $2",
        merchant,
        external_id
    )
    .fetch_optional(pool)
    .await?)
}

/// The state of a receipt, open or final.
///
/// # Errors
/// When the database does not answer.
pub async fn state(pool: &PgPool, id: Uuid) -> Result<Option<String>, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"
        select state::text as "state!" from work where id = $1
        union all select state::text from finished where id = $1 limit 1
        "#,
        id
    )
    .fetch_optional(pool)
    .await?)
}

/// Its results, oldest first: (stage, `{request: value}`).
///
/// # Errors
/// When the database does not answer.
pub async fn results(pool: &PgPool, id: Uuid) -> Result<Vec<(String, String)>, StoreError> {
    Ok(sqlx::query!(
        r#"select stage, result::text as "value!" from calls where receipt = $1 and result is not null order by stored_at"#,
        id
    )
    .fetch_all(pool)
    .await?
    .into_iter()
    .map(|row| (row.stage, row.value))
    .collect())
}

/// Its calls, oldest first, at most a thousand.
///
/// # Errors
/// When the database does not answer.
pub async fn history(pool: &PgPool, id: Uuid) -> Result<Vec<PastCall>, StoreError> {
    Ok(sqlx::query_as!(
        PastCall,
        r#"
        select stage, request, attempt, call_id, started_at, duration_ms, outcome, status, error, retry_after_s, registers
        from calls where receipt = $1 and request <> '' order by started_at limit 1000
        "#,
        id
    )
    .fetch_all(pool)
    .await?)
}
