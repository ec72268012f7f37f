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
    /// Since when it has stood as it stands, while it is open.
    pub moved_at: Option<OffsetDateTime>,
    /// Its key at its destination, '' without one.
    pub limit_key: Option<String>,
    /// Whether a call that registers was made for it, and nobody knows what came of it.
    pub unresolved: bool,
    /// Whether its destination said that it is registered.
    pub registered: bool,
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
               w.moved_at as "moved_at?", w.limit_key as "limit_key?", coalesce(w.unresolved, false) as "unresolved!",
               coalesce(w.registered, false) as "registered!", f.finished_at as "finished_at?"
        from receipts r left join work w on w.id = r.id left join finished f on f.id = r.id
        where r.id = $1
        "#,
        id
    )
    .fetch_optional(pool)
    .await?)
}

/// Reads the receipts of `ids`, in their order and without their contents. What retention took is left out.
///
/// # Errors
/// When the database does not answer.
pub async fn several(pool: &PgPool, ids: &[Uuid]) -> Result<Vec<View>, StoreError> {
    Ok(sqlx::query_as!(
        View,
        r#"
        select r.id as "id!", r.merchant as "merchant!", r.external_id as "external_id!", r.pipeline as "pipeline!", '' as "content!",
               r.traceparent as "traceparent!", r.deadline, r.accepted_at as "accepted_at!",
               coalesce(w.state::text, f.state::text, 'waiting') as "state!", w.position as "position?", f.stage as "last_stage?",
               w.destination as "destination?",
               coalesce(w.reason, f.reason) as reason, w.waits_for as "waits_for?", coalesce(w.internal_due_at, w.call_due_at) as due_at,
               w.moved_at as "moved_at?", w.limit_key as "limit_key?", coalesce(w.unresolved, false) as "unresolved!",
               coalesce(w.registered, false) as "registered!", f.finished_at as "finished_at?"
        from unnest($1::uuid[]) with ordinality as given (id, place)
        cross join lateral (select * from receipts where id = given.id limit 1) r
        left join lateral (select * from work where id = given.id limit 1) w on true
        left join lateral (select * from finished where id = given.id limit 1) f on true
        order by given.place
        "#,
        ids
    )
    .fetch_all(pool)
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

/// When a limit key has its next turn to be handed off, if that is still to come.
///
/// # Errors
/// When the database does not answer.
pub async fn turn(pool: &PgPool, destination: &str, key: &str) -> Result<Option<OffsetDateTime>, StoreError> {
    Ok(sqlx::query_scalar!(
        "select handed_at from limit_keys where destination = $1 and key = $2 and handed_at > now()",
        destination,
        key
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

/// The latest thousand of its calls, oldest first.
///
/// # Errors
/// When the database does not answer.
pub async fn history(pool: &PgPool, id: Uuid) -> Result<Vec<PastCall>, StoreError> {
    let mut latest = sqlx::query_as!(
        PastCall,
        r#"
        select stage, request, attempt, call_id, started_at, duration_ms, outcome, status, error, retry_after_s, registers
        from calls where receipt = $1 and request <> '' order by started_at desc, stored_at desc limit 1000
        "#,
        id
    )
    .fetch_all(pool)
    .await?;
    latest.reverse();
    Ok(latest)
}
