//! Reads what it takes to work on receipts: content, results so far, counters, trace context.

use std::collections::HashMap;
use std::sync::Arc;

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::step::{Counters, Standing};
use super::{Hold, StoreError};

/// A receipt in work, as its row, its content and its results say.
#[derive(Debug, Clone)]
pub struct Work {
    /// The receipt, its epoch and its owner (the nil id while nobody owns it).
    pub hold: Hold,
    /// Version of the pipeline it began with.
    pub pipeline: String,
    /// Index of the stage to run.
    pub position: usize,
    /// Where its next external stage goes, or ''.
    pub destination: String,
    /// Its key there, '' without one; `None` where nobody has one.
    pub limit_key: Option<String>,
    /// Merchant id.
    pub merchant: String,
    /// The caller's id.
    pub external_id: String,
    /// The receipt as JSON.
    pub content: Arc<str>,
    /// Every recorded result, oldest first: (stage, `{request: value}` as JSON).
    pub results: Vec<(String, String)>,
    /// To be registered by then.
    pub deadline: Option<OffsetDateTime>,
    /// W3C trace context of the intake.
    pub traceparent: String,
    /// W3C trace state.
    pub tracestate: Option<String>,
    /// What its row counts about the stage.
    pub counters: Counters,
    /// What is known about the call that registers.
    pub standing: Standing,
    /// When its row was moved last: taken by its owner, or queued.
    pub moved_at: OffsetDateTime,
    /// What it waited for before that; `None`: its owner took it on.
    pub wait: Option<Wait>,
}

/// What a receipt waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// When it began.
    pub since: OffsetDateTime,
    /// `timer`, `turn`, `queue`, `original` or `person`.
    pub kind: String,
    /// Why, where something went wrong; in our words alone.
    pub reason: Option<String>,
}

impl Work {
    /// The external id of the receipt that this one refunds.
    #[must_use]
    pub fn original(&self) -> Option<String> {
        #[derive(serde::Deserialize)]
        struct Refund {
            original_external_id: Option<String>,
        }
        // Most have none, and are not read for it.
        if !self.content.contains("\"original_external_id\"") {
            return None;
        }
        serde_json::from_str::<Refund>(&self.content).ok()?.original_external_id
    }

    /// The trace id of its intake.
    #[must_use]
    pub fn trace_id(&self) -> &str {
        self.traceparent.get(3..35).unwrap_or_default()
    }
}

/// Reads the receipts of `ids` that are open, in no order.
///
/// # Errors
/// When the database does not answer.
pub async fn works(connection: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<Work>, StoreError> {
    let (Some(first), Some(last)) = (ids.iter().min(), ids.iter().max()) else {
        return Ok(Vec::new());
    };
    // Partitions outside of the range are not even looked at, and the receipt is found by its own, however plans change.
    let rows = sqlx::query!(
        r#"
        select w.id, w.pipeline, w.position, w.destination, w.epoch, w.owner, w.attempt, w.failures, w.polls, w.undeclared,
               w.reissues, w.spent_ms, w.unresolved, w.registered, w.absents, coalesce(w.sent, w.unresolved or w.registered) as "sent!", w.deadline, w.limit_key,
               w.moved_at, w.wait_began, w.wait_kind::text as wait_kind, w.wait_reason,
               r.merchant as "merchant!", r.external_id as "external_id!", r.content::text as "content!",
               r.traceparent as "traceparent!", r.tracestate
        from work w
        cross join lateral (select * from receipts where id = w.id and id between $2 and $3 limit 1) r
        where w.id = any($1)
        "#,
        ids,
        first,
        last,
    )
    .fetch_all(&mut *connection)
    .await?;
    let later: Vec<Uuid> = rows.iter().filter(|row| row.position > 0).map(|row| row.id).collect();
    let mut results: HashMap<Uuid, Vec<(String, String)>> = HashMap::new();
    if !later.is_empty() {
        let found = sqlx::query!(
            r#"select receipt, stage, result::text as "value!" from calls
               where receipt = any($1) and receipt between $2 and $3 and result is not null order by stored_at"#,
            &later,
            first,
            last,
        )
        .fetch_all(&mut *connection)
        .await?;
        for row in found {
            results.entry(row.receipt).or_default().push((row.stage, row.value));
        }
    }
    Ok(rows
        .into_iter()
        .map(|row| Work {
            hold: Hold {
                id: row.id,
                epoch: row.epoch,
                owner: row.owner.unwrap_or_default(),
            },
            pipeline: row.pipeline,
            position: usize::try_from(row.position).unwrap_or_default(),
            destination: row.destination,
            limit_key: row.limit_key,
            merchant: row.merchant,
            external_id: row.external_id,
            content: row.content.into(),
            results: results.remove(&row.id).unwrap_or_default(),
            deadline: row.deadline,
            traceparent: row.traceparent,
            tracestate: row.tracestate,
            counters: Counters {
                attempt: row.attempt,
                failures: row.failures,
                polls: row.polls,
                undeclared: row.undeclared,
                reissues: row.reissues,
                spent_ms: row.spent_ms,
            },
            standing: Standing {
                unresolved: row.unresolved,
                registered: row.registered,
                sent: row.sent,
                absents: row.absents,
            },
            moved_at: row.moved_at,
            wait: row.wait_began.zip(row.wait_kind).map(|(since, kind)| Wait {
                since,
                kind,
                reason: row.wait_reason,
            }),
        })
        .collect())
}
