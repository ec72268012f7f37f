//! What operators did, for good: who, what, to what, why, how many, when. A row goes in with what it tells of, in one
//! transaction, and nothing changes it.

use serde_json::Value;
use sqlx::types::time::OffsetDateTime;
use sqlx::{PgConnection, PgPool};

use super::StoreError;

/// Who did something, and why.
#[derive(Debug, Clone)]
pub struct By {
    /// The token's name.
    pub who: String,
    /// The token's role.
    pub role: &'static str,
    /// As it was given.
    pub reason: Option<String>,
    /// The trace id of the request.
    pub trace_id: Option<String>,
}

/// What was done.
#[derive(Debug, Clone)]
pub struct Deed<'a> {
    /// Such as `retry` or `job.start`.
    pub action: &'a str,
    /// A receipt's or a job's id, or a destination's name.
    pub target: &'a str,
    /// Of a job: what it is for.
    pub filter: Option<&'a Value>,
    /// Receipts that were moved.
    pub count: i64,
    /// What else there is to say: no personal data.
    pub detail: Value,
}

/// Puts a deed on record, in the transaction that does it.
///
/// # Errors
/// When the database does not answer: then the transaction is not to be committed.
pub async fn record(connection: &mut PgConnection, by: &By, deed: Deed<'_>) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        insert into audit (who, role, action, target, filter, count, reason, detail, trace_id)
        values ($1, $2, $3, $4, $5::text::jsonb, $6, $7, $8::text::jsonb, $9)
        "#,
        by.who,
        by.role,
        deed.action,
        deed.target,
        deed.filter.map(Value::to_string),
        deed.count,
        by.reason,
        deed.detail.to_string(),
        by.trace_id,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A row of the record.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Rises with each.
    pub id: i64,
    /// When.
    pub at: OffsetDateTime,
    /// Who.
    pub who: String,
    /// With what role.
    pub role: String,
    /// What.
    pub action: String,
    /// To what.
    pub target: String,
    /// Of a job: what it is for, as JSON.
    pub filter: Option<String>,
    /// How many receipts.
    pub count: i64,
    /// Why.
    pub reason: Option<String>,
    /// What else there is to say, as JSON.
    pub detail: String,
    /// The trace id of the request.
    pub trace_id: Option<String>,
}

/// What is looked for in the record.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sought<'a> {
    /// What was done to this.
    pub target: Option<&'a str>,
    /// What was done by this token.
    pub who: Option<&'a str>,
    /// What stands before this entry.
    pub before: Option<i64>,
    /// So many at most.
    pub limit: i64,
}

/// Reads the record, the newest first. Each way of looking has its index, and its statement.
///
/// # Errors
/// When the database does not answer.
pub async fn read(pool: &PgPool, sought: Sought<'_>) -> Result<Vec<Entry>, StoreError> {
    let before = sought.before.unwrap_or(i64::MAX);
    let entries = match (sought.target, sought.who) {
        (Some(target), who) => {
            sqlx::query_as!(
                Entry,
                r#"
                select id, at, who, role, action, target, filter::text, count, reason, detail::text as "detail!", trace_id
                from audit where target = $1 and id < $2 and ($3::text is null or who = $3) order by target desc, id desc limit $4
                "#,
                target,
                before,
                who,
                sought.limit
            )
            .fetch_all(pool)
            .await?
        }
        (None, Some(who)) => {
            sqlx::query_as!(
                Entry,
                r#"
                select id, at, who, role, action, target, filter::text, count, reason, detail::text as "detail!", trace_id
                from audit where who = $1 and id < $2 order by who desc, id desc limit $3
                "#,
                who,
                before,
                sought.limit
            )
            .fetch_all(pool)
            .await?
        }
        (None, None) => {
            sqlx::query_as!(
                Entry,
                r#"
                select id, at, who, role, action, target, filter::text, count, reason, detail::text as "detail!", trace_id
                from audit where id < $1 order by id desc limit $2
                "#,
                before,
                sought.limit
            )
            .fetch_all(pool)
            .await?
        }
    };
    Ok(entries)
}
