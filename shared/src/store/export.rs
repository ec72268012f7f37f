//! How the receipts of a merchant ended that were accepted in a stretch of time, window by window: what is exported is
//! never held whole, and nothing is held between two windows.

use std::collections::HashMap;

use sqlx::PgPool;
use sqlx::types::time::OffsetDateTime;
use uuid::Uuid;

use super::StoreError;

/// The ids that are left: above the first and below the second. An id is as old as its receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// The last that was read.
    pub above: Uuid,
    /// The end.
    pub below: Uuid,
}

/// How one of them ended, or stands.
#[derive(Debug, Clone)]
pub struct Line {
    /// Our id.
    pub id: Uuid,
    /// The caller's id.
    pub external_id: String,
    /// Version of its pipeline.
    pub pipeline: String,
    /// What kind of receipt it is.
    pub kind: String,
    /// Its total.
    pub total: i64,
    /// When it was accepted.
    pub accepted_at: OffsetDateTime,
    /// Its state, open or final.
    pub state: String,
    /// Why it ended so, or waits.
    pub reason: Option<String>,
    /// When it ended.
    pub finished_at: Option<OffsetDateTime>,
    /// What its stages came to, oldest first: (stage, `{request: value}` as JSON).
    pub results: Vec<(String, String)>,
}

/// The next lines of `merchant` in `stretch`, of `examine` receipts of all merchants, and what of the stretch is left: `None`
/// once it is all read. By the ids of everybody's receipts: a day of them is a stretch, a merchant's are strewn over all time.
///
/// # Errors
/// When the database does not answer.
pub async fn window(
    pool: &PgPool,
    merchant: &str,
    stretch: Stretch,
    examine: i64,
) -> Result<(Vec<Line>, Option<Stretch>), StoreError> {
    let seen = sqlx::query!(
        r#"select id, merchant = $1 as "theirs!" from receipts where id > $2 and id < $3 order by id limit $4"#,
        merchant,
        stretch.above,
        stretch.below,
        examine,
    )
    .fetch_all(pool)
    .await?;
    let rest = match seen.last() {
        Some(last) if i64::try_from(seen.len()).unwrap_or(i64::MAX) >= examine => Some(Stretch {
            above: last.id,
            ..stretch
        }),
        _ => None,
    };
    let ids: Vec<Uuid> = seen.into_iter().filter(|row| row.theirs).map(|row| row.id).collect();
    Ok((lines(pool, &ids).await?, rest))
}

async fn lines(pool: &PgPool, ids: &[Uuid]) -> Result<Vec<Line>, StoreError> {
    let (Some(first), Some(last)) = (ids.iter().min(), ids.iter().max()) else {
        return Ok(Vec::new());
    };
    let rows = sqlx::query!(
        r#"
        select r.id as "id!", r.external_id as "external_id!", r.pipeline as "pipeline!", r.accepted_at as "accepted_at!",
               coalesce(r.content->>'type', '') as "kind!", coalesce((r.content->>'total')::bigint, 0) as "total!",
               coalesce(w.state::text, f.state::text, 'waiting') as "state!", coalesce(w.reason, f.reason) as reason,
               f.finished_at as "finished_at?"
        from unnest($1::uuid[]) with ordinality as given (id, place)
        cross join lateral (select * from receipts where id = given.id limit 1) r
        left join lateral (select * from work where id = given.id limit 1) w on true
        left join lateral (select * from finished where id = given.id limit 1) f on true
        order by given.place
        "#,
        ids,
    )
    .fetch_all(pool)
    .await?;
    let registered: Vec<Uuid> = rows
        .iter()
        .filter(|row| row.state == "registered")
        .map(|row| row.id)
        .collect();
    let found = sqlx::query!(
        r#"select receipt, stage, result::text as "value!" from calls
           where receipt = any($1) and receipt between $2 and $3 and result is not null order by stored_at"#,
        &registered,
        first,
        last,
    )
    .fetch_all(pool)
    .await?;
    let mut results: HashMap<Uuid, Vec<(String, String)>> = HashMap::new();
    for row in found {
        results.entry(row.receipt).or_default().push((row.stage, row.value));
    }
    Ok(rows
        .into_iter()
        .map(|row| Line {
            results: results.remove(&row.id).unwrap_or_default(),
            id: row.id,
            external_id: row.external_id,
            pipeline: row.pipeline,
            kind: row.kind,
            total: row.total,
            accepted_at: row.accepted_at,
            state: row.state,
            reason: row.reason,
            finished_at: row.finished_at,
        })
        .collect())
}

/// The ids of what was accepted from `from` on and before `until`.
#[must_use]
pub fn stretch(from: OffsetDateTime, until: OffsetDateTime) -> Stretch {
    let first = super::search::first_id(from);
    Stretch {
        above: Uuid::from_u128(first.saturating_sub(1)),
        below: Uuid::from_u128(super::search::first_id(until)),
    }
}
