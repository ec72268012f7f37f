//! A connection that somebody keeps: the server process behind it has their statements prepared and their tables at hand,
//! which costs much less than a turn of each of the pool's, and no ping before and after.

use std::time::Duration;

use sqlx::{Connection, PgConnection, PgPool};
use tokio::time::timeout;

/// How long the server may take to let somebody in.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection of its own beside the pool's, opened when it is needed and anew after an error.
#[derive(Debug)]
pub struct Line {
    pool: PgPool,
    connection: Option<PgConnection>,
}

impl Line {
    /// To the server of `pool`.
    #[must_use]
    pub fn to(pool: PgPool) -> Self {
        Self { pool, connection: None }
    }

    /// The connection, to be given back with [`keep`](Self::keep) while it is well.
    ///
    /// # Errors
    /// When the server lets nobody in.
    pub async fn take(&mut self) -> Result<PgConnection, sqlx::Error> {
        match self.connection.take() {
            Some(kept) => Ok(kept),
            None => timeout(PATIENCE, PgConnection::connect_with(&self.pool.connect_options()))
                .await
                .unwrap_or(Err(sqlx::Error::PoolTimedOut)),
        }
    }

    /// Keeps a connection that is well.
    pub fn keep(&mut self, connection: PgConnection) {
        self.connection = Some(connection);
    }
}
