//! Actions upon many receipts: counted first, then carried out at a rate, by whoever has the job's lease.
//!
//! A holder's every batch is one transaction: it [locks](lock) the job if the fence is still its own, moves receipts, and
//! [notes](note) how far it came. Whoever dies in between has done nothing; whoever was paused finds another fence, and
//! undoes what it was about to do. No batch is done before `next_at`, whoever does it.

use std::collections::BTreeMap;
use std::time::Duration;

use sqlx::types::time::OffsetDateTime;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::{StoreError, micros, millis};

/// How far a job has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::Type, serde::Serialize, utoipa::ToSchema)]
#[sqlx(type_name = "job_state", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[schema(as = JobState)]
pub enum State {
    /// It walks through what its filter means, and moves nothing.
    Counting,
    /// It waits to be started.
    Counted,
    /// It moves receipts.
    Running,
    /// It waits to be started again.
    Stopped,
    /// It has come to the end.
    Done,
}

/// How many receipts were not moved, by cause.
pub type Causes = BTreeMap<String, i64>;

/// A job as it stands.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its id, by which it is as old.
    pub id: Uuid,
    /// What is done to each receipt.
    pub action: String,
    /// Of a restart: from where.
    pub stage: Option<String>,
    /// Which receipts, as JSON.
    pub filter: String,
    /// Why.
    pub reason: String,
    /// The token that made it.
    pub who: String,
    /// Receipts a second.
    pub rate: i32,
    /// How far it has come.
    pub state: State,
    /// How far its walk has come; none: it is yet to begin.
    pub cursor: Option<String>,
    /// Entries that the present walk has looked at.
    pub examined: i64,
    /// Receipts that the filter meant when they were counted.
    pub matched: i64,
    /// Of them, those that could have been moved then.
    pub movable: i64,
    /// Receipts that were moved.
    pub moved: i64,
    /// Those that were not, of the present walk: [`Causes`] as JSON.
    pub refused: String,
    /// The present holder's.
    pub fence: i64,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When all were counted.
    pub counted_at: Option<OffsetDateTime>,
    /// When it was started first.
    pub started_at: Option<OffsetDateTime>,
    /// When it came to its end.
    pub ended_at: Option<OffsetDateTime>,
}

/// A job that is to be made.
#[derive(Debug, Clone)]
pub struct New<'a> {
    /// A fresh `UUIDv7`.
    pub id: Uuid,
    /// See [`Job`].
    pub action: &'a str,
    /// See [`Job`].
    pub stage: Option<&'a str>,
    /// See [`Job`].
    pub filter: &'a str,
    /// See [`Job`].
    pub reason: &'a str,
    /// See [`Job`].
    pub who: &'a str,
    /// See [`Job`].
    pub rate: i32,
}

/// Makes a job, which begins to count.
///
/// # Errors
/// When the database does not answer.
pub async fn create(connection: &mut PgConnection, new: New<'_>) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        insert into jobs (id, action, stage, filter, reason, who, rate, state)
        values ($1, $2, $3, $4::text::jsonb, $5, $6, $7, 'counting')
        "#,
        new.id,
        new.action,
        new.stage,
        new.filter,
        new.reason,
        new.who,
        new.rate,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Reads a job.
///
/// # Errors
/// When the database does not answer.
pub async fn read(pool: &PgPool, id: Uuid) -> Result<Option<Job>, StoreError> {
    Ok(sqlx::query_as!(
        Job,
        r#"
        select id, action, stage, filter::text as "filter!", reason, who, rate, state as "state: State", cursor, examined, matched, movable,
               moved, refused::text as "refused!", fence, created_at, counted_at, started_at, ended_at
        from jobs where id = $1
        "#,
        id
    )
    .fetch_optional(pool)
    .await?)
}

/// Reads jobs, the newest first: those that are older than `before`.
///
/// # Errors
/// When the database does not answer.
pub async fn page(pool: &PgPool, before: Option<Uuid>, limit: i64) -> Result<Vec<Job>, StoreError> {
    Ok(sqlx::query_as!(
        Job,
        r#"
        select id, action, stage, filter::text as "filter!", reason, who, rate, state as "state: State", cursor, examined, matched, movable,
               moved, refused::text as "refused!", fence, created_at, counted_at, started_at, ended_at
        from jobs where id < $1 order by id desc limit $2
        "#,
        before.unwrap_or(Uuid::max()),
        limit
    )
    .fetch_all(pool)
    .await?)
}

/// Starts a job that was counted or stopped: its first walk begins at the beginning. One that was stopped while it counted goes
/// on counting. Answers its state then; `None`: it is not to be started.
///
/// # Errors
/// When the database does not answer.
pub async fn start(connection: &mut PgConnection, id: Uuid) -> Result<Option<State>, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"
        update jobs set fence = fence + 1, holder = null, held_until = null,
               state = case when counted_at is null then 'counting' else 'running' end::job_state,
               cursor = case when counted_at is null or started_at is not null then cursor end,
               examined = case when counted_at is null or started_at is not null then examined else 0 end,
               refused = case when counted_at is null or started_at is not null then refused else '{}' end,
               started_at = case when counted_at is null then null else coalesce(started_at, now()) end
        where id = $1 and state in ('counted', 'stopped')
        returning state as "state: State"
        "#,
        id
    )
    .fetch_optional(connection)
    .await?)
}

/// Stops a job: when this is committed nothing more is moved. Answers whether it was under way.
///
/// # Errors
/// When the database does not answer.
pub async fn stop(connection: &mut PgConnection, id: Uuid) -> Result<bool, StoreError> {
    let stopped = sqlx::query!(
        "update jobs set state = 'stopped', fence = fence + 1, holder = null, held_until = null where id = $1 and state in ('counting', 'running')",
        id
    )
    .execute(connection)
    .await?;
    Ok(stopped.rows_affected() == 1)
}

/// Takes a job that nobody is at, the oldest: for `lease` from here and from each batch.
///
/// # Errors
/// When the database does not answer: then it is nobody's until the lease has ended.
pub async fn take(pool: &PgPool, holder: Uuid, lease: Duration) -> Result<Option<Job>, StoreError> {
    Ok(sqlx::query_as!(
        Job,
        r#"
        update jobs set holder = $1, held_until = now() + $2::bigint * interval '1 ms', fence = fence + 1
        where id = (
            select id from jobs where state in ('counting', 'running') and (holder is null or held_until <= now())
            order by created_at limit 1 for update skip locked
        )
        returning id, action, stage, filter::text as "filter!", reason, who, rate, state as "state: State", cursor, examined, matched, movable,
                  moved, refused::text as "refused!", fence, created_at, counted_at, started_at, ended_at
        "#,
        holder,
        millis(lease),
    )
    .fetch_optional(pool)
    .await?)
}

/// Gives a job back, for anybody.
///
/// # Errors
/// When the database does not answer: then it is nobody's until the lease has ended.
pub async fn give_back(pool: &PgPool, id: Uuid, fence: i64) -> Result<(), StoreError> {
    sqlx::query!(
        "update jobs set holder = null, held_until = null where id = $1 and fence = $2",
        id,
        fence
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Locks a job for a batch, which is to be the transaction's first statement. Answers how long its rate leaves it to wait: then
/// nothing is to be moved in this transaction. `None`: it is somebody else's, or stopped.
///
/// # Errors
/// When the database does not answer.
pub async fn lock(connection: &mut PgConnection, id: Uuid, fence: i64) -> Result<Option<Duration>, StoreError> {
    let wait = sqlx::query_scalar!(
        r#"
        select greatest(ceil(extract(epoch from next_at - now()) * 1000000), 0)::bigint as "wait_us!"
        from jobs where id = $1 and fence = $2 and state in ('counting', 'running') for update
        "#,
        id,
        fence
    )
    .fetch_optional(connection)
    .await?;
    Ok(wait.map(|us| Duration::from_micros(u64::try_from(us).unwrap_or_default())))
}

/// What a batch came to.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// How far the walk has come; none: to its end.
    pub cursor: Option<String>,
    /// Entries that were looked at.
    pub examined: i64,
    /// Receipts that the filter meant.
    pub matched: i64,
    /// Of a count: those that could be moved.
    pub movable: i64,
    /// Of a run: those that were.
    pub moved: i64,
    /// Of the whole walk.
    pub refused: Causes,
    /// How long until the next.
    pub gap: Duration,
}

/// Notes what a batch came to, in its transaction. At the end of its walk a job is counted, or done.
///
/// # Errors
/// When the database does not answer: then the transaction is not to be committed.
pub async fn note(
    connection: &mut PgConnection,
    id: Uuid,
    fence: i64,
    batch: &Batch,
    lease: Duration,
) -> Result<bool, StoreError> {
    let refused = serde_json::to_string(&batch.refused).unwrap_or_else(|_| "{}".to_owned());
    let noted = sqlx::query!(
        r#"
        update jobs set
            cursor = coalesce($3, cursor), examined = examined + $4, moved = moved + $7, refused = $8::text::jsonb,
            matched = matched + case state when 'counting' then $5::bigint else 0 end,
            movable = movable + case state when 'counting' then $6::bigint else 0 end,
            next_at = now() + $9::bigint * interval '1 microsecond',
            held_until = case when $3 is not null then now() + $10::bigint * interval '1 ms' end,
            holder = case when $3 is not null then holder end,
            counted_at = case when $3 is null and state = 'counting' then now() else counted_at end,
            ended_at = case when $3 is null and state = 'running' then now() else ended_at end,
            state = case when $3 is not null then state when state = 'counting' then 'counted' else 'done' end::job_state
        where id = $1 and fence = $2 and state in ('counting', 'running')
        "#,
        id,
        fence,
        batch.cursor,
        batch.examined,
        batch.matched,
        batch.movable,
        batch.moved,
        refused,
        micros(batch.gap),
        millis(lease),
    )
    .execute(connection)
    .await?;
    Ok(noted.rows_affected() == 1)
}

/// How many receipts a job is about.
#[derive(Debug, Clone, Copy)]
pub struct Totals {
    /// See [`Job`].
    pub matched: i64,
    /// See [`Job`].
    pub movable: i64,
    /// See [`Job`].
    pub moved: i64,
}

/// Reads how many receipts a job is about, within a batch's transaction.
///
/// # Errors
/// When the database does not answer.
pub async fn totals(connection: &mut PgConnection, id: Uuid) -> Result<Totals, StoreError> {
    Ok(
        sqlx::query_as!(Totals, "select matched, movable, moved from jobs where id = $1", id)
            .fetch_one(connection)
            .await?,
    )
}
