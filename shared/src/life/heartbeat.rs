//! Signs of life, and the send deadline that follows from them.
//!
//! An instance that was declared dead learns of it at its next heartbeat: its row is gone. It goes on under a new id;
//! what it held belongs to others, and every write under the old id fails its guard.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::configuration::Heartbeat;
use crate::store::{StoreError, instances};

/// The instance that this process is at present.
pub struct Heart {
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
}

impl Heart {
    /// Makes this process an instance.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn start(pool: PgPool, service: &'static str, rhythm: Heartbeat) -> Result<Arc<Self>, StoreError> {
        let pulse = Pulse {
            id: Uuid::now_v7(),
            last: Instant::now(),
        };
        instances::register(&pool, pulse.id, service).await?;
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
            let before = Instant::now();
            let id = self.id();
            match instances::beat(&self.pool, id).await {
                Ok(true) => self.set(Pulse { id, last: before }),
                Ok(false) => {
                    let fresh = Uuid::now_v7();
                    tracing::warn!(instance = %id, %fresh, "declared dead by a healer; going on as another instance");
                    metrics::counter!("chekhov_declared_dead_total").increment(1);
                    let before = Instant::now();
                    if instances::register(&self.pool, fresh, self.service).await.is_ok() {
                        self.set(Pulse {
                            id: fresh,
                            last: before,
                        });
                    }
                }
                Err(error) => tracing::warn!(%error, "no heartbeat"),
            }
        }
        if let Err(error) = instances::leave(&self.pool, self.id()).await {
            tracing::warn!(%error, "could not leave the list of instances; a healer will see to it");
        }
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

    /// How long an observer waits after a death before it takes over what may still be in a socket.
    #[must_use]
    pub fn dead_after(&self) -> Duration {
        self.rhythm.dead_after
    }

    fn read(&self) -> Pulse {
        *self.pulse.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, pulse: Pulse) {
        *self.pulse.lock().unwrap_or_else(PoisonError::into_inner) = pulse;
    }
}
