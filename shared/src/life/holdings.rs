//! What this process works on, compared now and then with what the database says it owns.
//!
//! A row may have a living owner that does not know of it: after a claim whose answer was lost, or a task that panicked.
//! Nobody else would ever come for it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Heart, Scans};
use crate::store::StoreError;
use crate::store::heal::{self, Owned};

/// The receipts that this process has in hand, and in how many tasks: a fenced one may still be ending when the receipt is
/// claimed again.
#[derive(Debug, Clone, Default)]
pub struct Holdings(Arc<Mutex<HashMap<Uuid, u32>>>);

/// One receipt in hand, until this is dropped.
#[derive(Debug)]
pub struct Holding {
    id: Uuid,
    of: Holdings,
}

impl Holdings {
    /// Takes a receipt in hand: before the claim is committed, or as soon as its id is known.
    #[must_use]
    pub fn hold(&self, id: Uuid) -> Holding {
        *self.lock().entry(id).or_default() += 1;
        Holding { id, of: self.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives strays back until `stop`. One is a row that was owned and not in hand at two looks, `every` apart: a claim that
    /// was just committed is in hand by then.
    pub async fn watch(self, pool: PgPool, heart: Arc<Heart>, every: Duration, stop: CancellationToken) {
        let mut suspects = HashSet::new();
        let (mut scans, mut pause) = (Scans::every(every), every);
        while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
            let begun = Instant::now();
            match self.look(&pool, heart.id(), &suspects).await {
                Ok(found) => suspects = found,
                Err(error) => tracing::warn!(%error, "what is owned could not be read"),
            }
            pause = scans.pause_after(begun.elapsed());
        }
    }

    /// Gives back the suspects that are still not in hand; answers the new ones.
    async fn look(&self, pool: &PgPool, own: Uuid, suspects: &HashSet<Owned>) -> Result<HashSet<Owned>, StoreError> {
        let mut owned = heal::owned(pool, own).await?;
        {
            let held = self.lock();
            owned.retain(|row| !held.contains_key(&row.id));
        }
        let (strays, fresh): (Vec<_>, Vec<_>) = owned.into_iter().partition(|row| suspects.contains(row));
        if !strays.is_empty() {
            let given = heal::give_back(pool, own, &strays).await?;
            tracing::warn!(receipts = given, "strays were given back");
            metrics::counter!("chekhov_strays_total").increment(given);
        }
        Ok(fresh.into_iter().collect())
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        let mut held = self.of.lock();
        if let Some(tasks) = held.get_mut(&self.id) {
            *tasks -= 1;
            if *tasks == 0 {
                held.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_in_hand_until_the_last_of_its_tasks_ends() {
        let (holdings, id) = (Holdings::default(), Uuid::now_v7());
        let (first, second) = (holdings.hold(id), holdings.hold(id));
        drop(first);
        assert!(holdings.lock().contains_key(&id));
        drop(second);
        assert!(holdings.lock().is_empty());
    }
}
