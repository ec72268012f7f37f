//! Places whose number may change while they are taken.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Places of one kind.
pub struct Places {
    permits: Arc<Semaphore>,
    /// How many there are: free, taken, and not yet forgotten though they should be.
    size: Mutex<usize>,
}

impl Places {
    /// So many.
    pub fn new(size: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(size)),
            size: Mutex::new(size),
        }
    }

    /// Waits for one.
    pub async fn take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).acquire_owned().await.ok()
    }

    /// Makes it so many: what is taken beyond that goes when it is given back and this is called again.
    pub fn resize(&self, to: usize) {
        let mut size = self.size.lock().unwrap_or_else(PoisonError::into_inner);
        if to > *size {
            self.permits.add_permits(to - *size);
            *size = to;
        } else if to < *size {
            *size -= self.permits.forget_permits(*size - to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn fewer_places_take_hold_as_they_are_given_back() {
        let places = Places::new(3);
        let (a, b) = (places.take().await, places.take().await);
        places.resize(1);
        assert_eq!(places.permits.available_permits(), 0, "two are taken still");
        drop(a);
        places.resize(1);
        drop(b);
        places.resize(1);
        assert_eq!(places.permits.available_permits(), 1);
        places.resize(4);
        assert_eq!(places.permits.available_permits(), 4);
    }
}
