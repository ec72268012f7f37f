//! Everything that is kept, and all SQL.
//!
//! The rules of every write here: it is one guarded statement; zero rows mean that somebody else has the
//! receipt now, and the transition is dropped; what was committed is published, acknowledged or called only
//! afterwards. Instants are the database's `now()`, delays are passed as durations.
//!
//! Modules follow the flow: [`accept`], [`claim`], [`step`], [`relay`], [`heal`], [`steer`] and [`operate`] with [`audit`], for many
//! in [`jobs`], [`read`], [`search`]; beside
//! it stand the destinations' rows, [`destinations`], their [`tokens`], their [`limit_keys`], and the [`deadlines`] they are to
//! meet; what waits is counted in [`tallies`], and how old it is [`backlog`] says.

pub mod accept;
pub mod audit;
pub mod backlog;
mod calls;
pub mod claim;
pub mod deadlines;
pub mod destinations;
pub mod error;
pub mod export;
pub mod failures;
pub mod group;
pub mod heal;
pub mod instances;
pub mod jobs;
pub mod limit_keys;
pub mod line;
pub mod load;
mod look;
pub mod operate;
pub mod originals;
pub mod pipelines;
pub mod read;
pub mod record;
pub mod relay;
pub mod search;
pub mod steer;
pub mod step;
pub mod tallies;
pub mod tokens;

pub use error::StoreError;

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgConnection, PgPool};
use uuid::Uuid;

/// Connects to PostgreSQL; the pool opens connections as they are needed and again after an outage. Who writes or reads all
/// the time has a [`line::Line`] beside it.
///
/// # Errors
/// When `url` is not a PostgreSQL URL.
pub fn connect(url: &str, connections: u32, service: &str) -> Result<PgPool, StoreError> {
    let options: PgConnectOptions = url.parse()?;
    let options = options
        .application_name(service)
        // Plans are kept, and a plan made while a table was empty must be as good when it is full: no scan of a table where there
        // is any other way, and statements leave no choice of what is looked up by what (a lateral subquery, a ctid).
        .options([
            ("plan_cache_mode", "force_generic_plan"),
            ("enable_seqscan", "off"),
            // What has no index costs so much then that PostgreSQL would compile it.
            ("jit", "off"),
            // A writer waits for no lock for long.
            ("lock_timeout", "2s"),
            // A process that is paused inside a transaction must not keep its locks from everybody else.
            ("idle_in_transaction_session_timeout", "3s"),
            ("statement_timeout", "30s"),
        ]);
    Ok(PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(5))
        .connect_lazy_with(options))
}

/// Brings the schema up to date and makes the partitions of the coming week.
///
/// One instance does it under a lock, the others wait for it. An older process beside a newer schema goes on: unknown
/// applied migrations are no error.
///
/// # Errors
/// When the database cannot be reached or a migration fails.
pub async fn migrate(url: &str) -> Result<(), StoreError> {
    // Without the limits of everyday statements: a migration takes its time, and so does waiting for one.
    let mut connection = PgConnection::connect(url).await?;
    let mut migrator = sqlx::migrate!("../migrations");
    migrator.set_ignore_missing(true);
    migrator.run(&mut connection).await?;
    sqlx::query!("select create_partitions(7)")
        .execute(&mut connection)
        .await?;
    connection.close().await?;
    Ok(())
}

/// Makes the daily partitions up to a week ahead; harmless to repeat.
///
/// # Errors
/// When the database does not answer.
pub async fn create_partitions(pool: &PgPool) -> Result<(), StoreError> {
    sqlx::query!("select create_partitions(7)").execute(pool).await?;
    Ok(())
}

/// Whether the database answers.
///
/// # Errors
/// Why it does not.
pub async fn ping(pool: &PgPool) -> Result<(), StoreError> {
    sqlx::query_scalar!("select 1 as one").fetch_one(pool).await?;
    Ok(())
}

/// Who may move a receipt: its owner's instance at the epoch of its claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    /// The receipt.
    pub id: Uuid,
    /// The fencing number of the claim.
    pub epoch: i32,
    /// The instance that claimed it.
    pub owner: Uuid,
}

/// A duration as the milliseconds that SQL adds to `now()`.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The same in microseconds.
pub(crate) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
