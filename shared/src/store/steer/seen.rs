//! Receipts as they stand: what an action upon them is judged by.

use std::collections::{HashMap, HashSet};

use sqlx::PgPool;
use uuid::Uuid;

use crate::store::StoreError;

/// An open receipt.
#[derive(Debug, Clone)]
pub struct Open {
    /// The receipt.
    pub id: Uuid,
    /// Guards the move.
    pub epoch: i32,
    /// Its state.
    pub state: String,
    /// Version of its pipeline.
    pub pipeline: String,
    /// Index of the stage it stands at.
    pub position: i16,
    /// The n of its call ids.
    pub reissues: i32,
    /// A call that registers was sent, or may have been, and nobody knows what came of it.
    pub unresolved: bool,
    /// It is known to be registered.
    pub registered: bool,
    /// Waiting for a timer: whether that is due.
    pub due: Option<bool>,
    /// A refund, waiting for its original.
    pub waits_for_original: bool,
    /// Merchant id.
    pub merchant: String,
    /// The caller's id.
    pub external_id: String,
}

/// A receipt that has ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// The receipt.
    pub id: Uuid,
    /// Guards the move.
    pub epoch: i32,
    /// How.
    pub state: String,
    /// At which stage.
    pub stage: Option<String>,
    /// Version of the pipeline it began with.
    pub pipeline: String,
    /// An answer said that it is registered, or may be, whatever became of the receipt.
    pub doubtful: bool,
}

/// Reads those of `ids` that are open.
///
/// # Errors
/// When the database does not answer.
pub async fn open(pool: &PgPool, ids: &[Uuid]) -> Result<HashMap<Uuid, Open>, StoreError> {
    let rows = sqlx::query_as!(
        Open,
        r#"
        select w.id as "id!", w.epoch as "epoch!", w.state::text as "state!", w.pipeline as "pipeline!", w.position as "position!",
               w.reissues as "reissues!", w.unresolved as "unresolved!", w.registered as "registered!",
               coalesce(w.internal_due_at, w.call_due_at) <= now() as due, w.waits_for is not null as "waits_for_original!",
               r.merchant as "merchant!", r.external_id as "external_id!"
        from unnest($1::uuid[]) as given (id)
        cross join lateral (select * from work where id = given.id limit 1) w
        cross join lateral (select merchant, external_id from receipts where id = given.id limit 1) r
        "#,
        ids
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

/// Reads those of `ids` that have ended.
///
/// # Errors
/// When the database does not answer.
pub async fn ended(pool: &PgPool, ids: &[Uuid]) -> Result<HashMap<Uuid, Ended>, StoreError> {
    let rows = sqlx::query_as!(
        Ended,
        r#"
        select f.id as "id!", f.epoch as "epoch!", f.state::text as "state!", f.stage, r.pipeline as "pipeline!",
               exists (
                   select from calls where receipt = f.id and registers and (registered
                       or stored_at > f.finished_at and outcome in ('success', 'poll', 'unknown', 'park'))
               ) as "doubtful!"
        from unnest($1::uuid[]) as given (id)
        cross join lateral (select * from finished where id = given.id limit 1) f
        cross join lateral (select pipeline from receipts where id = given.id limit 1) r
        "#,
        ids
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

/// Those of `calls` (receipt and call id) that were answered, and not with something that says for certain that nothing was
/// registered: a success, an answer that parked the receipt or that nobody declared.
///
/// # Errors
/// When the database does not answer.
pub async fn doubtful(pool: &PgPool, calls: &[(Uuid, String)]) -> Result<HashSet<Uuid>, StoreError> {
    let found = sqlx::query_scalar!(
        r#"
        select distinct given.receipt as "receipt!" from unnest($1::uuid[], $2::text[]) as given (receipt, call_id)
        cross join lateral (
            select from calls where receipt = given.receipt and call_id = given.call_id and registers
              and (registered or outcome in ('success', 'poll', 'park')
                   or outcome = 'retry' and status is not null and status not in (401, 403, 425, 429, 503) and request not like '%.lookup')
            limit 1
        ) answered
        "#,
        &calls.iter().map(|(receipt, _)| *receipt).collect::<Vec<_>>(),
        &calls.iter().map(|(_, call_id)| call_id.clone()).collect::<Vec<_>>(),
    )
    .fetch_all(pool)
    .await?;
    Ok(found.into_iter().collect())
}
