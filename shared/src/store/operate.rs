//! What a person found out about a call. What a person does to receipts is [`steer`](super::steer).

use sqlx::PgExecutor;
use uuid::Uuid;

use super::StoreError;

/// What a person found out about a call that registers, whose outcome nobody knew.
#[derive(Debug, Clone, Copy)]
pub enum Resolution<'a> {
    /// It is not there: it is made again, as if it never had been.
    Absent,
    /// It is there: what it would have come to, and whether that says that the receipt is registered.
    There {
        /// JSON.
        value: &'a str,
        /// See [`Standing::registered`](super::step::Standing::registered).
        registered: bool,
    },
}

/// The call that is resolved.
#[derive(Debug, Clone, Copy)]
pub struct Resolved<'a> {
    /// The receipt.
    pub id: Uuid,
    /// Its epoch, as it was read: who resolved it saw nothing later.
    pub epoch: i32,
    /// Stage, request and call id.
    pub call: (&'a str, &'a str, &'a str),
    /// Where that call is made, if the receipt stands behind it: its stage's index and destination.
    pub back: Option<(i16, &'a str)>,
    /// Who says so.
    pub by: &'a str,
}

/// Resolves the call that a parked receipt stands at, and gives the receipt another try: it waits, due now, with a fresh
/// budget. What is there goes on record like an answer, and is read before any repeat; what is not there, though it was
/// accepted, is made anew under another call id. Answers whether it was moved.
///
/// # Errors
/// When the database does not answer.
pub async fn resolve(
    executor: impl PgExecutor<'_>,
    resolved: Resolved<'_>,
    resolution: Resolution<'_>,
) -> Result<bool, StoreError> {
    let (value, registered) = match resolution {
        Resolution::Absent => (None, false),
        Resolution::There { value, registered } => (Some(value), registered),
    };
    let (stage, request, call_id) = resolved.call;
    let moved = sqlx::query_scalar!(
        r#"
        with moved as (
            update work set state = 'waiting', epoch = epoch + 1, moved_at = now(), failures = 0, polls = 0, undeclared = 0, spent_ms = 0,
                   unresolved = $7::text is not null, sent = $7::text is not null, absents = 0, unknown_at = case when $7::text is not null then now() end,
                   position = coalesce($10, position), destination = coalesce($11, destination),
                   limit_key = case when $11::text is null then limit_key end,
                   reissues = reissues + case when $10::smallint is null then 0 else 1 end,
                   attempt = case when $10::smallint is null then attempt else 0 end,
                   call_due_at = now(), reason = 'resolved by ' || $6
            where id = $1 and epoch = $2 and state = 'parked' and unresolved
            returning id, attempt
        ), recorded as (
            insert into calls (id, receipt, stage, request, attempt, call_id, started_at, duration_ms, outcome, error, registers, registered, value)
            select $9, id, $3, $4, attempt, $5, now(), 0, case when $7::text is null then 'absent' else 'success' end,
                   'resolved by ' || $6, true, $8, $7::text::json
            from moved
        )
        select id as "id!" from moved
        "#,
        resolved.id,
        resolved.epoch,
        stage,
        request,
        call_id,
        resolved.by,
        value,
        registered,
        Uuid::now_v7(),
        resolved.back.map(|(position, _)| position),
        resolved.back.map(|(_, destination)| destination),
    )
    .fetch_optional(executor)
    .await?;
    Ok(moved.is_some())
}
