//! How old what waits is, found by indexes: a bounded look, whatever the length of a backlog.

use std::time::Duration;

use sqlx::PgPool;

use super::StoreError;
use super::tallies::Kind;

/// So many are counted, as of deadlines: whether it is more makes no difference to what a person does.
const MOST: i64 = 10_000;
/// Of those that wait for their turn or their original, so many that came first are looked at: their order is almost that in
/// which they came to wait.
const FIRST: i64 = 100;

/// What waits for a destination, but for its kept counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Receipts that were handed off and not yet taken.
    pub queued: i64,
    /// Receipts that were ever taken for calls.
    pub taken: i64,
    /// Timers that are due and not handed off; at most 10,000 are counted.
    pub due: i64,
    /// How long the longest has waited, of each kind that waits: past the instant it was due for timers and internal work, since it
    /// came to wait for its turn or its original.
    pub oldest: Vec<(Kind, Duration)>,
}

/// Looks at each of `destinations`, in their order; '' has what is bound for none.
///
/// # Errors
/// When the database does not answer.
pub async fn read(pool: &PgPool, destinations: &[String]) -> Result<Vec<Waiting>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select coalesce((select put from horizons where destination = given.name), 0) as "put!",
               (select coalesce(sum(taken), 0) from horizon_taken where destination = given.name)::bigint as "taken!",
               (select count(*) from (select from work where destination = given.name and call_due_at <= now() limit $2) t) as "due!",
               (select (extract(epoch from now() - call_due_at) * 1000)::bigint from work
                where destination = given.name and call_due_at <= now() order by call_due_at limit 1) as timer_ms,
               (select (extract(epoch from now() - min(moved_at)) * 1000)::bigint from (
                    (select moved_at from work where destination = given.name and first_call_key is not null order by first_call_key, id limit $3)
                    union all
                    (select moved_at from work where destination = given.name and first_call_key = 'infinity' order by first_call_key, id limit $3)
                ) t) as turn_ms
        from unnest($1::text[]) with ordinality as given (name, place) order by given.place
        "#,
        destinations,
        MOST,
        FIRST,
    )
    .fetch_all(pool)
    .await?;
    let mut waiting: Vec<Waiting> = rows
        .into_iter()
        .map(|row| Waiting {
            queued: row.put - row.taken,
            taken: row.taken,
            due: row.due,
            oldest: [(Kind::Timer, row.timer_ms), (Kind::Turn, row.turn_ms)]
                .into_iter()
                .filter_map(|(kind, ms)| Some((kind, age(ms?))))
                .collect(),
        })
        .collect();
    for (destination, kind, ms) in others(pool).await? {
        let place = destinations.iter().position(|name| *name == destination);
        if let Some(waiting) = place.and_then(|place| waiting.get_mut(place)) {
            waiting.oldest.push((kind, age(ms)));
        }
    }
    Ok(waiting)
}

/// What no index finds by destination: the first of those that wait for an orchestrator, or for an original.
async fn others(pool: &PgPool) -> Result<Vec<(String, Kind, i64)>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select destination as "destination!", internal as "internal!", (extract(epoch from now() - min(since)) * 1000)::bigint as "age_ms!" from (
            (select destination, true as internal, internal_due_at as since from work where internal_due_at <= now() order by internal_due_at limit $1)
            union all
            (select destination, false, moved_at from work where waits_for is not null order by waits_for limit $1)
        ) t
        group by destination, internal
        "#,
        FIRST
    )
    .fetch_all(pool)
    .await?;
    let kind = |internal| if internal { Kind::Internal } else { Kind::Original };
    Ok(rows
        .into_iter()
        .map(|row| (row.destination, kind(row.internal), row.age_ms))
        .collect())
}

fn age(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or_default())
}
