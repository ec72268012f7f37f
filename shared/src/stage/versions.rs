//! Compiled pipelines: the current one, and those that receipts under way began with.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::PgPool;

use crate::pipeline::{Pipeline, Source};
use crate::store::{StoreError, pipelines};

/// How long a receipt waits whose version cannot be had: nothing to a receipt, a lifetime to a misplaced version.
pub const RETRY: Duration = Duration::from_mins(1);

/// Why a version cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is stored nowhere, or cannot be compiled any more.
    #[error("pipeline version {version}: {detail}")]
    Unusable {
        /// The version.
        version: String,
        /// What is wrong with it.
        detail: String,
    },
}

/// Every version that this process has met.
pub struct Versions {
    pool: PgPool,
    current: Arc<Pipeline>,
    known: Mutex<HashMap<String, Arc<Pipeline>>>,
}

impl Versions {
    /// Stores `current`, so that what begins on it can finish on it.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn start(pool: PgPool, current: Pipeline) -> Result<Self, StoreError> {
        let source =
            serde_json::to_string(&current.source).map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let requests = current.stages.iter().flat_map(|stage| &stage.requests);
        let longest = requests.filter_map(|request| request.timeout).max().unwrap_or_default();
        pipelines::store(&pool, &current.version, &current.name, &source, longest).await?;
        let current = Arc::new(current);
        let known = Mutex::new(HashMap::from([(current.version.clone(), Arc::clone(&current))]));
        Ok(Self { pool, current, known })
    }

    /// The version that new receipts begin with.
    #[must_use]
    pub fn current(&self) -> &Arc<Pipeline> {
        &self.current
    }

    /// The pipeline of a version, compiled once.
    ///
    /// # Errors
    /// When it is not stored, cannot be compiled, or the database does not answer.
    pub async fn get(&self, version: &str) -> Result<Arc<Pipeline>, Error> {
        if let Some(pipeline) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(version) {
            return Ok(Arc::clone(pipeline));
        }
        let unusable = |detail: String| Error::Unusable {
            version: version.to_owned(),
            detail,
        };
        let source = pipelines::source(&self.pool, version)
            .await?
            .ok_or_else(|| unusable("is not stored".to_owned()))?;
        let source: Source = serde_json::from_str(&source).map_err(|error| unusable(error.to_string()))?;
        let pipeline = Arc::new(Pipeline::compile(source).map_err(|mistakes| unusable(mistakes.to_string()))?);
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(version.to_owned(), Arc::clone(&pipeline));
        Ok(pipeline)
    }
}
