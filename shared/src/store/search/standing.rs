//! How receipts stand that an index named: read again by their ids, since indexes say less, and what they said may be over.

use std::collections::HashMap;

use sqlx::PgPool;
use sqlx::types::time::OffsetDateTime;
use uuid::Uuid;

use super::filter::Outcome;
use crate::stage::Versions;
use crate::store::StoreError;

/// What is tested of a receipt.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    pub id: Uuid,
    /// Read only where it is asked for.
    pub merchant: Option<String>,
    pub state: String,
    pub pipeline: String,
    /// While it is open.
    pub position: Option<i16>,
    /// The stage it ended at; of open receipts, once [`name_stages`] has read it.
    pub stage: Option<String>,
    pub destination: Option<String>,
    pub deadline: Option<OffsetDateTime>,
    pub moved_at: OffsetDateTime,
    pub unresolved: bool,
    pub failures: i32,
    pub polls: i32,
    pub undeclared: i32,
}

impl Standing {
    pub fn is_stuck_in(&self, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Unknown => self.unresolved,
            Outcome::Retry => self.failures > 0,
            Outcome::Poll => self.polls > 0,
            Outcome::Undeclared => self.undeclared > 0,
        }
    }
}

/// Reads how `ids` stand, and whose they are if that is asked for. What retention took is left out.
pub(super) async fn read(
    pool: &PgPool,
    ids: &[Uuid],
    with_merchants: bool,
) -> Result<HashMap<Uuid, Standing>, StoreError> {
    let rows = sqlx::query_as!(
        Standing,
        r#"
        select given.id as "id!", r.merchant as "merchant?", coalesce(w.state::text, f.state::text) as "state!", coalesce(w.pipeline, '') as "pipeline!",
               w.position as "position?", f.stage as "stage?", w.destination as "destination?", w.deadline as "deadline?",
               coalesce(w.moved_at, f.finished_at) as "moved_at!", coalesce(w.unresolved, false) as "unresolved!",
               coalesce(w.failures, 0) as "failures!", coalesce(w.polls, 0) as "polls!", coalesce(w.undeclared, 0) as "undeclared!"
        from unnest($1::uuid[]) as given (id)
        left join lateral (select * from work where id = given.id limit 1) w on true
        left join lateral (select * from finished where w.id is null and id = given.id limit 1) f on true
        left join lateral (select merchant from receipts where $2 and id = given.id limit 1) r on true
        where w.id is not null or f.id is not null
        "#,
        ids,
        with_merchants,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

/// Names the stages that open receipts stand at. One whose pipeline cannot be read any more stands at none.
pub(super) async fn name_stages(versions: &Versions, standings: impl Iterator<Item = &mut Standing>) {
    for standing in standings {
        let Some(position) = standing.position.and_then(|position| usize::try_from(position).ok()) else {
            continue;
        };
        let pipeline = versions.get(&standing.pipeline).await.ok();
        standing.stage = pipeline.and_then(|pipeline| Some(pipeline.stages.get(position)?.name.clone()));
    }
}
