//! What is on record about calls that register: read before any repeat.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sqlx::PgPool;
use uuid::Uuid;

use super::{StoreError, millis};

/// The bytes of a request that registers, as they were stored before the first send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Send {
    /// The idempotency key.
    pub call_id: String,
    /// HTTP method.
    pub method: String,
    /// Path and query below the destination's URL.
    pub path: String,
    /// Header pairs as a JSON array.
    pub headers: String,
    /// The body.
    pub body: Option<Bytes>,
}

/// What is on record about a call that registers: its bytes, and its answer if one was a success.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// The stored request.
    pub send: Option<Send>,
    /// The value of a recorded success: then it is not sent again.
    pub value: Option<String>,
    /// Whether that success said that the receipt is registered.
    pub registered: bool,
    /// How long ago the request was stored.
    pub age: Duration,
}

/// Reads the record of a call before it is repeated.
///
/// # Errors
/// When the database does not answer.
pub async fn read(pool: &PgPool, receipt: Uuid, call_id: &str) -> Result<Record, StoreError> {
    let send = sqlx::query!(
        r#"select method, path, headers::text as "headers!", body, (extract(epoch from now() - stored_at) * 1000)::bigint as "age_ms!"
           from sends where receipt = $1 and call_id = $2"#,
        receipt,
        call_id
    )
    .fetch_optional(pool)
    .await?;
    let success = sqlx::query!(
        r#"
        select value::text as "value!", registered from calls
        where receipt = $1 and call_id = $2 and registers and value is not null limit 1
        "#,
        receipt,
        call_id
    )
    .fetch_optional(pool)
    .await?;
    Ok(Record {
        age: send.as_ref().map_or(Duration::ZERO, |row| elapsed(row.age_ms)),
        send: send.map(|row| Send {
            call_id: call_id.to_owned(),
            method: row.method,
            path: row.path,
            headers: row.headers,
            body: row.body.map(Bytes::from),
        }),
        registered: success.as_ref().is_some_and(|row| row.registered),
        value: success.map(|row| row.value),
    })
}

/// How long ago a call of this receipt may last have been made whose outcome nobody knows, counted from when its destination
/// opened last: while that is closed no time passes.
///
/// # Errors
/// When the database does not answer.
pub async fn settled(pool: &PgPool, receipt: Uuid) -> Result<Duration, StoreError> {
    let settled = sqlx::query_scalar!(
        r#"
        select (extract(epoch from now() - greatest(work.unknown_at, destinations.opened_at)) * 1000)::bigint as "settled_ms!"
        from work join destinations on destinations.name = work.destination
        where work.id = $1 and work.unknown_at is not null and destinations.closed_at is null
        "#,
        receipt
    )
    .fetch_optional(pool)
    .await?;
    Ok(settled.map_or(Duration::ZERO, elapsed))
}

fn elapsed(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or_default())
}

/// A receipt that is registered, and the call that registered it.
#[derive(Debug, Clone)]
pub struct Reference {
    /// The receipt.
    pub id: Uuid,
    /// The receipt as JSON.
    pub content: Arc<str>,
    /// The call id.
    pub call_id: String,
    /// Every recorded result, oldest first: (stage, `{request: value}` as JSON).
    pub results: Vec<(String, String)>,
}

/// One of the latest receipts that this pipeline, in whatever version, registered at least `ago` ago by a call of `stage`.
///
/// # Errors
/// When the database does not answer.
pub async fn reference(
    pool: &PgPool,
    pipeline: &str,
    stage: &str,
    ago: Duration,
) -> Result<Option<Reference>, StoreError> {
    let found = sqlx::query!(
        r#"
        select r.id, r.content::text as "content!", made.call_id
        from (select id from finished where state = 'registered' and finished_at < now() - $3::bigint * interval '1 ms'
              order by id desc limit 5000) latest
        cross join lateral (
            select call_id from calls where receipt = latest.id and stage = $2 and registers and value is not null
            order by stored_at desc limit 1
        ) made
        join receipts r on r.id = latest.id
        where r.pipeline = $1 or exists (
            select from pipelines mine join pipelines its on its.name = mine.name where mine.version = $1 and its.version = r.pipeline
        )
        limit 1
        "#,
        pipeline,
        stage,
        millis(ago),
    )
    .fetch_optional(pool)
    .await?;
    let Some(row) = found else { return Ok(None) };
    Ok(Some(Reference {
        id: row.id,
        content: row.content.into(),
        call_id: row.call_id,
        results: super::read::results(pool, row.id).await?,
    }))
}
