//! Signs of life, and the send deadline that follows from them.
//!
//! An instance that was declared dead learns of it at its next heartbeat: its row is gone. It goes on under a new id;
//! what it held belongs to others, and every write under the old id fails its guard.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use sqlx::PgPool;
use time::OffsetDateTime;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::configuration::{Database, Heartbeat};
use crate::store::{self, StoreError, instances};

/// The instance that this process is at present.
pub struct Heart {
    /// A connection of its own: work that fills the process's pool must not make it look dead.
    pool: PgPool,
    service: &'static str,
    rhythm: Heartbeat,
    pulse: Mutex<Pulse>,
}

#[derive(Clone, Copy)]
struct Pulse {
    id: Uuid,
    /// Taken before the last heartbeat that succeeded.
    last: Instant,
    /// By how much the database's clock is ahead of this process's.
    ahead: time::Duration,
}

impl Heart {
    /// Makes this process an instance.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn start(database: &Database, service: &'static str, rhythm: Heartbeat) -> Result<Arc<Self>, StoreError> {
        let pool = store::connect(database.url.expose(), 1, service)?;
        let (id, last) = (Uuid::now_v7(), Instant::now());
        let now = instances::register(&pool, id, service).await?;
        let pulse = Pulse {
            id,
            last,
            ahead: now - OffsetDateTime::now_utc(),
        };
        Ok(Arc::new(Self {
            pool,
            service,
            rhythm,
            pulse: Mutex::new(pulse),
        }))
    }

    /// Beats until `stop`, then leaves the list.
    pub async fn beat(self: Arc<Self>, stop: CancellationToken) {
        while stop
            .run_until_cancelled(tokio::time::sleep(self.rhythm.every))
            .await
            .is_some()
        {
            // An answer that takes longer would come too late to be of use.
            if let Err(error) = timeout(self.rhythm.dead_after / 2, self.once())
                .await
                .unwrap_or(Err(silent()))
            {
                tracing::warn!(%error, "no heartbeat");
            }
        }
        let left = timeout(self.rhythm.every, instances::leave(&self.pool, self.id())).await;
        if let Err(error) = left.unwrap_or(Err(silent())) {
            tracing::warn!(%error, "could not leave the list of instances; a healer will see to it");
        }
    }

    async fn once(&self) -> Result<(), StoreError> {
        let (mut id, mut last) = (self.id(), Instant::now());
        let now = if let Some(now) = instances::beat(&self.pool, id).await? {
            now
        } else {
            let fresh = Uuid::now_v7();
            tracing::warn!(instance = %id, %fresh, "declared dead by a healer; going on as another instance");
            metrics::counter!("chekhov_declared_dead_total").increment(1);
            (id, last) = (fresh, Instant::now());
            instances::register(&self.pool, fresh, self.service).await?
        };
        let ahead = now - OffsetDateTime::now_utc();
        *self.pulse.lock().unwrap_or_else(PoisonError::into_inner) = Pulse { id, last, ahead };
        Ok(())
    }

    /// The database's clock, as far as the last heartbeat tells.
    #[must_use]
    pub fn now(&self) -> OffsetDateTime {
        OffsetDateTime::now_utc() + self.read().ahead
    }

    /// Whether what is claimed now may also be sent: not while heartbeats fail.
    #[must_use]
    pub fn is_strong(&self) -> bool {
        self.read().last.elapsed() < self.rhythm.dead_after / 2
    }

    /// The id to claim with.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.read().id
    }

    /// Whether `owner` may still write a request: it is this instance, and nobody can have declared it dead yet.
    /// Ask right before writing.
    #[must_use]
    pub fn may_send(&self, owner: Uuid) -> bool {
        let pulse = self.read();
        pulse.id == owner && pulse.last.elapsed() < self.rhythm.dead_after
    }

    fn read(&self) -> Pulse {
        *self.pulse.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn silent() -> StoreError {
    StoreError::Unavailable("no answer in time".to_owned())
}
