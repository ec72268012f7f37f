//! Deadlines that are near or have passed: of receipts that are open, counted up to a bound.

use std::time::Duration;

use serde::Serialize;
use sqlx::PgPool;
use sqlx::types::time::OffsetDateTime;
use utoipa::ToSchema;

use super::{StoreError, millis};
use crate::destination::Destination;

/// So many are counted: whether it is more makes no difference to what a person does.
const MOST: i64 = 10_000;
/// No deadline is further away than this: what is longer is cut, so that no instant is past the last one.
const AGES: Duration = Duration::from_hours(24 * 366 * 100);

/// Open receipts for a destination, or on their way there, that must be registered by some time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Deadlines {
    /// Those whose deadline passes within `at_risk` of the settings; at most 10,000 are counted.
    pub at_risk: i64,
    /// Those whose deadline has passed; at most 10,000 are counted.
    pub passed: i64,
    /// The next deadline to pass, however far away.
    #[serde(with = "time::serde::rfc3339::option")]
    pub nearest: Option<OffsetDateTime>,
}

/// Counts for each of `destinations`, in their order.
///
/// # Errors
/// When the database does not answer.
pub async fn count(pool: &PgPool, destinations: &[&Destination]) -> Result<Vec<Deadlines>, StoreError> {
    let ahead = |known: &&Destination| millis(known.settings.at_risk.min(AGES));
    Ok(sqlx::query_as!(
        Deadlines,
        r#"
        select at_risk.count as "at_risk!", passed.count as "passed!",
               (select deadline from work where destination = given.name and deadline >= now() order by deadline limit 1) as nearest
        from unnest($1::text[], $2::bigint[]) with ordinality as given (name, ahead_ms, place)
        cross join lateral (
            select count(*) from (
                select from work
                where destination = given.name and deadline >= now() and deadline < now() + given.ahead_ms * interval '1 ms' limit $3
            ) t
        ) at_risk
        cross join lateral (
            select count(*) from (select from work where destination = given.name and deadline < now() limit $3) t
        ) passed
        order by given.place
        "#,
        &destinations.iter().map(|known| known.name.clone()).collect::<Vec<_>>(),
        &destinations.iter().map(ahead).collect::<Vec<_>>(),
        MOST,
    )
    .fetch_all(pool)
    .await?)
}
