//! Follows the destinations' rows: what this instance last knew of each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Destination, Settings, State};
use crate::configuration::Configuration;
use crate::store::{StoreError, destinations};

/// How often they are read.
pub const ROUND: Duration = Duration::from_secs(1);

/// The destinations as this instance knows them.
#[derive(Debug)]
pub struct Following {
    pool: PgPool,
    known: watch::Sender<BTreeMap<String, Arc<Destination>>>,
}

/// Shows its state and its limit.
fn measure(destination: &Destination) {
    let name = &destination.name;
    let is = |yes| if yes { 1.0 } else { 0.0 };
    metrics::gauge!("chekhov_destination_open", "destination" => name.clone()).set(is(destination.admits()));
    for state in State::ALL {
        metrics::gauge!("chekhov_destination_state", "destination" => name.clone(), "state" => state.name())
            .set(is(destination.state() == state));
    }
    metrics::gauge!("chekhov_destination_limit_calls_per_second", "destination" => name.clone())
        .set(destination.settings.limits.per_second().unwrap_or(f64::INFINITY));
}

impl Following {
    /// Declares the destinations of a configuration, and reads them all.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn start(pool: &PgPool, configuration: &Configuration) -> Result<Arc<Self>, StoreError> {
        for (name, destination) in &configuration.destination {
            destinations::declare(pool, name, &Settings::of(destination)).await?;
        }
        let following = Self {
            pool: pool.clone(),
            known: watch::Sender::default(),
        };
        following.learn(destinations::read(pool).await?);
        Ok(Arc::new(following))
    }

    /// What is known of one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<Destination>> {
        self.known.borrow().get(name).cloned()
    }

    /// What is known of all, in the order of their names.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Destination>> {
        self.known.borrow().values().cloned().collect()
    }

    /// Whether calls to it may be made: one that has no row takes none.
    #[must_use]
    pub fn admits(&self, name: &str) -> bool {
        self.known
            .borrow()
            .get(name)
            .is_some_and(|destination| destination.admits())
    }

    /// Takes in what was read; what is older than what is known came late.
    pub fn learn(&self, read: Vec<Destination>) {
        self.known.send_if_modified(|known| {
            let mut changed = false;
            for destination in read {
                let before = known.get(&destination.name);
                let same = before.is_some_and(|before| {
                    before.version == destination.version && before.dispatchers == destination.dispatchers
                });
                if before.is_none_or(|before| before.version <= destination.version) {
                    measure(&destination);
                    changed |= !same;
                    known.insert(destination.name.clone(), Arc::new(destination));
                }
            }
            changed
        });
    }

    /// Waits until `is` holds of a destination.
    pub async fn until(&self, name: &str, is: impl Fn(&Destination) -> bool) -> Arc<Destination> {
        let mut changes = self.known.subscribe();
        let held = changes.wait_for(|known| known.get(name).is_some_and(|destination| is(destination)));
        match held.await.ok().and_then(|known| known.get(name).cloned()) {
            Some(destination) => destination,
            // The sender is `self`: it cannot have gone.
            None => std::future::pending().await,
        }
    }

    /// Reads them now.
    pub async fn refresh(&self) {
        match destinations::read(&self.pool).await {
            Ok(read) => self.learn(read),
            Err(error) => tracing::warn!(%error, "the destinations cannot be followed"),
        }
    }

    /// Follows until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(ROUND)).await.is_some() {
            self.refresh().await;
        }
    }
}
