//! Which of the receipts that an index named are meant: tested by how they stand, since indexes say less, and what they said
//! may be over.

use std::collections::HashSet;

use sqlx::PgPool;
use uuid::Uuid;

use super::filter::{Filter, Ids};
use crate::stage::Versions;
use crate::store::StoreError;

/// Where a receipt stands.
struct Place {
    id: Uuid,
    /// Version of the pipeline and index of the stage, while it is open.
    pipeline: Option<String>,
    position: Option<i16>,
    /// The stage it ended at.
    stage: Option<String>,
}

/// Those of `ids` that `filter` means. What retention took is none of them.
pub(super) async fn of(
    pool: &PgPool,
    versions: &Versions,
    filter: &Filter,
    ids: &[Uuid],
) -> Result<HashSet<Uuid>, StoreError> {
    let places = places(pool, filter, ids).await?;
    let Some(stage) = &filter.stage else {
        return Ok(places.into_iter().map(|place| place.id).collect());
    };
    let mut meant = HashSet::new();
    for place in places {
        let id = place.id;
        if name(versions, place).await.as_ref() == Some(stage) {
            meant.insert(id);
        }
    }
    Ok(meant)
}

/// Tests all but the stage where the rows are: most are not meant where few are. Merchants are read last, and only if asked for.
async fn places(pool: &PgPool, filter: &Filter, ids: &[Uuid]) -> Result<Vec<Place>, StoreError> {
    let Ids(above, below) = filter.ids();
    Ok(sqlx::query_as!(
        Place,
        r#"
        select given.id as "id!", w.pipeline as "pipeline?", w.position as "position?", f.stage as "stage?"
        from unnest($1::uuid[]) as given (id)
        left join lateral (select * from work where id = given.id limit 1) w on true
        left join lateral (select * from finished where w.id is null and id = given.id limit 1) f on true
        left join lateral (select merchant from receipts where $4::text is not null and id = given.id limit 1) r on true
        where given.id > $2 and given.id < $3
          and (w.id is not null or f.id is not null)
          and ($5::text is null or coalesce(w.state::text, f.state::text) = $5)
          and ($6::text is null or w.destination = $6)
          and case $7::text when 'unknown' then w.unresolved when 'retry' then w.failures > 0 when 'poll' then w.polls > 0
                            when 'undeclared' then w.undeclared > 0 else true end
          and ($8::timestamptz is null or w.deadline < $8)
          and ($9::timestamptz is null or coalesce(w.moved_at, f.finished_at) < $9)
          and ($4 is null or r.merchant = $4)
        "#,
        ids,
        above,
        below,
        filter.merchant,
        filter.state.map(super::State::name),
        filter.destination,
        filter.outcome.map(super::Outcome::name),
        filter.deadline_before,
        filter.moved_before,
    )
    .fetch_all(pool)
    .await?)
}

/// The stage of a place. An open receipt whose pipeline cannot be read any more stands at none.
async fn name(versions: &Versions, place: Place) -> Option<String> {
    let Some((pipeline, position)) = place.pipeline.zip(place.position) else {
        return place.stage;
    };
    let pipeline = versions.get(&pipeline).await.ok()?;
    Some(pipeline.stages.get(usize::try_from(position).ok()?)?.name.clone())
}
