//! Why the store could not do what it was asked.

use sqlx::postgres::PgDatabaseError;

/// An error of the store. Its text never has a row's values: PostgreSQL's detail line is left out.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// PostgreSQL refused the data itself; repeating would not help.
    #[error("PostgreSQL refused a row: SQLSTATE {code}{}", constraint.as_ref().map(|name| format!(", constraint {name}")).unwrap_or_default())]
    Refused {
        /// The SQLSTATE.
        code: String,
        /// The constraint that was broken, if one was.
        constraint: Option<String>,
    },
    /// The database did not answer, or not as it should.
    #[error("PostgreSQL: {0}")]
    Unavailable(String),
    /// Somebody else held a row for too long: the database is well, and repeating may succeed.
    #[error("PostgreSQL: a row is locked: SQLSTATE {0}")]
    Locked(String),
    /// The schema could not be brought up to date.
    #[error("migration: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// The process is stopping.
    #[error("the store is closed")]
    Closed,
}

/// What a failed statement leaves to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Rolled back for a lock: repeat it as it was.
    Locked,
    /// Rolled back for its data: one of its rows is the culprit.
    Data,
    /// Nobody knows whether it was committed: look before repeating.
    Unknown,
}

impl Fate {
    /// Reads the fate of a statement from its error.
    #[must_use]
    pub fn of(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(database) => match database.code().as_deref() {
                Some("40001" | "40P01" | "55P03") => Self::Locked,
                // 54: a value over one of the server's limits, which no repetition would bring under it.
                Some(code) if ["22", "23", "54"].iter().any(|class| code.starts_with(class)) => Self::Data,
                _ => Self::Unknown,
            },
            _ => Self::Unknown,
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database) => {
                let code = database.code().unwrap_or_default().into_owned();
                match Fate::of(&error) {
                    Fate::Data => Self::Refused {
                        code,
                        constraint: database.constraint().map(str::to_owned),
                    },
                    Fate::Locked => Self::Locked(code),
                    Fate::Unknown => Self::Unavailable(format!("SQLSTATE {code}: {}", primary(database.as_ref()))),
                }
            }
            other => Self::Unavailable(other.to_string()),
        }
    }
}

/// The primary message alone: the detail may quote a row.
fn primary(error: &dyn sqlx::error::DatabaseError) -> &str {
    error
        .try_downcast_ref::<PgDatabaseError>()
        .map_or("error", PgDatabaseError::message)
}
