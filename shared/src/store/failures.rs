//! What failed, in kinds: the latest of each sort of failure, by indexes that hold nothing else or little, up to a bound.

use sqlx::PgPool;
use sqlx::types::time::OffsetDateTime;
use uuid::Uuid;

use super::StoreError;

/// How a receipt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// It waits for a person.
    Parked,
    /// It waits for its next attempt.
    Retried,
    /// It has ended.
    Rejected,
}

/// Failures that are the same to the letter.
#[derive(Debug, Clone)]
pub struct Kind {
    /// Version of the pipeline and index of the stage, of those that are open.
    pub place: Option<(String, i16)>,
    /// The stage, of those that have ended.
    pub stage: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// How many of those that were looked at.
    pub count: i64,
    /// Since when the first of them has stood so.
    pub oldest: OffsetDateTime,
    /// And the last.
    pub latest: OffsetDateTime,
    /// One of them.
    pub example: Uuid,
}

/// What was found of one sort.
#[derive(Debug, Clone)]
pub struct Sample {
    /// How they failed.
    pub failed: Failed,
    /// In kinds.
    pub kinds: Vec<Kind>,
    /// How many entries were looked at, failures or not.
    pub examined: i64,
    /// Whether there are more than were looked at.
    pub more: bool,
}

/// Looks at the latest `most` of each sort; at those of `destination` alone, if one is given, but for what was rejected:
/// of that the stage alone is known.
///
/// # Errors
/// When the database does not answer.
pub async fn sample(pool: &PgPool, destination: Option<&str>, most: i64) -> Result<Vec<Sample>, StoreError> {
    let parked = async {
        match destination {
            Some(destination) => parked_for(pool, destination, most).await,
            None => parked(pool, most).await,
        }
    };
    let calls = async {
        match destination {
            Some(destination) => calls(pool, &[destination.to_owned()], most).await,
            None => calls(pool, &with_timers(pool).await?, most).await,
        }
    };
    let internal = internal(pool, destination, most);
    let (parked, calls, internal, rejected) = tokio::try_join!(parked, calls, internal, rejected(pool, most))?;
    Ok(vec![
        sum(Failed::Parked, parked, most),
        sum(Failed::Retried, calls, most),
        sum(Failed::Retried, internal, most),
        sum(Failed::Rejected, rejected, most),
    ])
}

/// A row of any of the statements. Those that did not fail are counted alone.
struct Row {
    pipeline: Option<String>,
    position: Option<i16>,
    stage: Option<String>,
    reason: Option<String>,
    is_failure: bool,
    count: i64,
    oldest: OffsetDateTime,
    latest: OffsetDateTime,
    example: Uuid,
}

fn sum(failed: Failed, rows: Vec<Row>, most: i64) -> Sample {
    let examined = rows.iter().map(|row| row.count).sum();
    let failures = rows.into_iter().filter(|row| row.is_failure);
    Sample {
        failed,
        kinds: failures
            .map(|row| Kind {
                place: row.pipeline.zip(row.position),
                stage: row.stage,
                reason: row.reason,
                count: row.count,
                oldest: row.oldest,
                latest: row.latest,
                example: row.example,
            })
            .collect(),
        examined,
        more: examined >= most,
    }
}

async fn parked(pool: &PgPool, most: i64) -> Result<Vec<Row>, StoreError> {
    Ok(sqlx::query_as!(
        Row,
        r#"
        select pipeline as "pipeline?", position as "position?", null::text as stage, reason, true as "is_failure!", count(*) as "count!",
               min(parked_at) as "oldest!", max(parked_at) as "latest!", (array_agg(id))[1] as "example!"
        from (
            select pipeline, position, reason, parked_at, id from work where parked_at is not null
            order by parked_at desc, id desc limit $1
        ) latest
        group by pipeline, position, reason
        "#,
        most
    )
    .fetch_all(pool)
    .await?)
}

async fn parked_for(pool: &PgPool, destination: &str, most: i64) -> Result<Vec<Row>, StoreError> {
    Ok(sqlx::query_as!(
        Row,
        r#"
        select pipeline as "pipeline?", position as "position?", null::text as stage, reason, true as "is_failure!", count(*) as "count!",
               min(parked_at) as "oldest!", max(parked_at) as "latest!", (array_agg(id))[1] as "example!"
        from (
            select pipeline, position, reason, parked_at, id from work where destination = $1 and parked_at is not null
            order by parked_at desc, id desc limit $2
        ) latest
        group by pipeline, position, reason
        "#,
        destination,
        most
    )
    .fetch_all(pool)
    .await?)
}

/// The destinations that timers run for: one look each.
async fn with_timers(pool: &PgPool) -> Result<Vec<String>, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"
        with recursive names as (
            (select destination as name from work where call_due_at is not null order by destination limit 1)
            union all
            select (select destination from work where call_due_at is not null and destination > name order by destination limit 1)
            from names where name is not null
        )
        select name as "name!" from names where name is not null
        "#
    )
    .fetch_all(pool)
    .await?)
}

/// The same share of the bound for each of `destinations`: those that are tried again last.
async fn calls(pool: &PgPool, destinations: &[String], most: i64) -> Result<Vec<Row>, StoreError> {
    let share = most / i64::try_from(destinations.len().max(1)).unwrap_or(most);
    Ok(sqlx::query_as!(
        Row,
        r#"
        select pipeline as "pipeline?", position as "position?", null::text as stage, case when is_failure then reason end as reason,
               is_failure as "is_failure!", count(*) as "count!",
               min(moved_at) as "oldest!", max(moved_at) as "latest!", (array_agg(id))[1] as "example!"
        from unnest($1::text[]) as given (name)
        cross join lateral (
            select pipeline, position, reason, failures > 0 as is_failure, moved_at, id from work
            where destination = given.name and call_due_at is not null
            order by call_due_at desc, id desc limit $2
        ) latest
        group by pipeline, position, 4, is_failure
        "#,
        destinations,
        share
    )
    .fetch_all(pool)
    .await?)
}

async fn internal(pool: &PgPool, destination: Option<&str>, most: i64) -> Result<Vec<Row>, StoreError> {
    Ok(sqlx::query_as!(
        Row,
        r#"
        select pipeline as "pipeline?", position as "position?", null::text as stage, case when is_failure then reason end as reason,
               is_failure as "is_failure!", count(*) as "count!",
               min(moved_at) as "oldest!", max(moved_at) as "latest!", (array_agg(id))[1] as "example!"
        from (
            select pipeline, position, reason, failures > 0 and destination = coalesce($1, destination) as is_failure, moved_at, id
            from work where internal_due_at is not null
            order by internal_due_at desc, id desc limit $2
        ) latest
        group by pipeline, position, 4, is_failure
        "#,
        destination,
        most
    )
    .fetch_all(pool)
    .await?)
}

async fn rejected(pool: &PgPool, most: i64) -> Result<Vec<Row>, StoreError> {
    Ok(sqlx::query_as!(
        Row,
        r#"
        select null::text as pipeline, null::smallint as position, stage, case when is_failure then reason end as reason,
               is_failure as "is_failure!", count(*) as "count!",
               min(finished_at) as "oldest!", max(finished_at) as "latest!", (array_agg(id))[1] as "example!"
        from (
            select stage, reason, state = 'rejected' as is_failure, finished_at, id from finished where state <> 'registered'
            order by finished_at desc, id desc limit $1
        ) latest
        group by stage, 4, is_failure
        "#,
        most
    )
    .fetch_all(pool)
    .await?)
}
