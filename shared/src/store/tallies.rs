//! How many receipts wait, and for what: kept by the database with every statement that moves them (see the migration), never
//! counted. Each server process counts in rows of its own; what is, is their sum.

use std::fmt;

use sqlx::PgPool;

use super::StoreError;

/// More rows than this are folded.
const ROWS: i64 = 500;

/// What a receipt that nobody holds waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An orchestrator.
    Internal,
    /// A timer, after which it is called for again.
    Timer,
    /// Its turn: its first call to the destination.
    Turn,
    /// The end of its original.
    Original,
    /// A person.
    Parked,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Internal, Self::Timer, Self::Turn, Self::Original, Self::Parked];

    /// As the database and metrics name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Timer => "timer",
            Self::Turn => "turn",
            Self::Original => "original",
            Self::Parked => "parked",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// So many receipts of one kind stand at one stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// Of the stage, or of the next external one, or ''.
    pub destination: String,
    /// The version of the pipeline.
    pub pipeline: String,
    /// The stage's index in it.
    pub position: i16,
    /// What they wait for.
    pub kind: Kind,
    /// Whether nobody knows what came of a call for them that registers.
    pub unresolved: bool,
    /// How many; not 0.
    pub count: i64,
}

/// Everything that waits; of `destination`, or of all.
///
/// # Errors
/// When the database does not answer.
pub async fn read(pool: &PgPool, destination: Option<&str>) -> Result<Vec<Tally>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select destination, pipeline, position, kind, unresolved, sum(count)::bigint as "count!" from tallies
        where $1::text is null or destination = $1
        group by destination, pipeline, position, kind, unresolved having sum(count) <> 0
        order by destination, pipeline, position, kind, unresolved
        "#,
        destination
    )
    .fetch_all(pool)
    .await?;
    let tallies = rows.into_iter().filter_map(|row| {
        // A kind that a later version counts is not this one's to show.
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == row.kind)?;
        Some(Tally {
            destination: row.destination,
            pipeline: row.pipeline,
            position: row.position,
            kind,
            unresolved: row.unresolved,
            count: row.count,
        })
    });
    Ok(tallies.collect())
}

/// Makes one row of many, where there are many: server processes come and go, and so do versions of pipelines. Rows that
/// somebody has locked are left, so that nobody waits. Answers how many rows were folded.
///
/// # Errors
/// When the database does not answer; repeating is harmless.
pub async fn fold(pool: &PgPool) -> Result<u64, StoreError> {
    let many = sqlx::query_scalar!(
        r#"select count(*) > $1 as "many!" from (select from tallies limit $1::bigint + 1) t"#,
        ROWS
    )
    .fetch_one(pool)
    .await?;
    if !many {
        return Ok(0);
    }
    sqlx::query!("delete from tallies where count = 0 and shard = -1")
        .execute(pool)
        .await?;
    let folded = sqlx::query_scalar!(
        r#"
        with spread as materialized (
            select ctid as place from tallies where shard >= 0 for update skip locked
        ), gone as (
            delete from tallies using spread where tallies.ctid = spread.place returning tallies.*
        ), kept as (
            insert into tallies as t
            select destination, pipeline, position, kind, unresolved, -1, sum(count) from gone
            group by destination, pipeline, position, kind, unresolved order by destination, pipeline, position, kind, unresolved
            on conflict (destination, pipeline, position, kind, unresolved, shard) do update set count = t.count + excluded.count
        )
        select count(*) as "count!" from gone
        "#
    )
    .fetch_one(pool)
    .await?;
    Ok(u64::try_from(folded).unwrap_or_default())
}
