//! How a newer token is come by: another process has fetched it, is just doing so, or this one does.
//!
//! Of a process one task at a time looks, and polls while it waits for another process; the others wait for it. What can go
//! wrong, and what guards against it: `store::tokens`.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio::time::sleep;
use uuid::Uuid;

use super::{Credentials, Failure, Place, Token, Unsealable};
use crate::configuration::Secret;
use crate::stage::endpoint::{Admission, Endpoint, Endpoints, Purpose};
use crate::store::StoreError;
use crate::store::tokens::{self, Sealed, Stored};
use crate::telemetry::TraceContext;

/// How often who waits for another process looks whether it has the token.
const POLL: Duration = Duration::from_millis(150);
/// The pause after a fetch that failed.
const PAUSE: Duration = Duration::from_secs(1);
/// What a lease lasts beyond the request: half of it to begin, half of it to store what came.
const MARGIN: Duration = Duration::from_secs(2);
/// A token is young for a tenth of its life, and no longer than this: one that is refused then is not renewed. However many
/// calls are refused, tokens are fetched no faster.
const YOUNG: Duration = Duration::from_secs(10);

/// Who wants a token, and what it is fetched with.
pub struct Renewer<'a> {
    /// Where calls go,
    pub endpoints: &'a Endpoints,
    /// this one too;
    pub endpoint: &'a Endpoint,
    /// when it may.
    pub admission: &'a dyn Admission,
    /// The database.
    pub pool: &'a PgPool,
    /// The instance that holds the lease.
    pub instance: Uuid,
    /// What it is done for.
    pub trace: &'a TraceContext,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum NoToken {
    /// No call may be made for now, nor this one.
    #[error("the destination takes no calls now")]
    Shut,
    /// It could not be fetched.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// The one that was refused has just been fetched.
    #[error("the token has just been fetched")]
    Young,
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It could not be sealed.
    #[error(transparent)]
    Unsealable(#[from] Unsealable),
}

/// What is wanted instead of a token.
#[derive(Debug, Clone, Copy)]
enum Than {
    /// One that is good: this version's life is over, or will soon be.
    Old(i64),
    /// One that is accepted: this version was not.
    Refused(i64),
}

impl Than {
    fn version(self) -> i64 {
        match self {
            Self::Old(version) | Self::Refused(version) => version,
        }
    }
}

impl Credentials {
    /// A token to call with: the one in memory, if its life is not over.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn ready(&self, by: &Renewer<'_>) -> Result<Arc<Token>, NoToken> {
        let Some(token) = self.good() else {
            return self.newer(Than::Old(self.version()), by).await;
        };
        if token.is_due() {
            self.due.notify_one();
        }
        Ok(token)
    }

    /// Renews the token, if that is still to be done; the old one serves meanwhile.
    ///
    /// # Errors
    /// Why it was not.
    pub async fn renew(&self, by: &Renewer<'_>) -> Result<(), NoToken> {
        match self.current() {
            Some(token) if token.is_due() => self.newer(Than::Old(token.version), by).await.map(drop),
            _ => Ok(()),
        }
    }

    /// A token instead of one that was refused: the current one, if that is newer, else one that is fetched for this.
    ///
    /// # Errors
    /// Why there is none: [`NoToken::Young`], when what was refused is as new as can be.
    pub async fn instead_of(&self, refused: i64, by: &Renewer<'_>) -> Result<Arc<Token>, NoToken> {
        self.newer(Than::Refused(refused), by).await
    }

    async fn newer(&self, than: Than, by: &Renewer<'_>) -> Result<Arc<Token>, NoToken> {
        let failures = self.failed().count;
        let _only = self.renewing.lock().await;
        if let Some(token) = self.good().filter(|token| token.version > than.version()) {
            return Ok(token);
        }
        {
            let failed = self.failed();
            if let Some(failure) = failed.last.clone().filter(|_| failed.count > failures) {
                return Err(failure.into());
            }
        }
        let mut before = None;
        loop {
            let read = Instant::now();
            let stored = tokens::read(by.pool, &self.destination).await?;
            if let Some(token) = self.adopt(&stored, than, read) {
                return Ok(token);
            }
            if matches!(than, Than::Refused(version) if version == stored.version)
                && stored.sealed.as_ref().is_some_and(is_young)
            {
                return Err(NoToken::Young);
            }
            match stored.shut {
                // Somebody waited for the same, and there is none.
                _ if stored.failures > *before.get_or_insert(stored.failures) => return Err(self.fail(&stored, None)),
                Some(tokens::Shut::Paused(left)) if left > 2 * PAUSE => return Err(self.fail(&stored, Some(left))),
                Some(tokens::Shut::Paused(left) | tokens::Shut::Leased(left)) => sleep(left.min(POLL)).await,
                None => {
                    if let Some(token) = self.lead(stored.version, by).await? {
                        return Ok(token);
                    }
                }
            }
        }
    }

    /// Fetches what follows `version`, if nobody else does: then, or if it comes too late with it, there is nothing.
    async fn lead(&self, version: i64, by: &Renewer<'_>) -> Result<Option<Arc<Token>>, NoToken> {
        // The turn first: a lease must not end while its holder waits for one.
        let _permit = by
            .admission
            .admit(by.endpoint, Purpose::Token)
            .await
            .map_err(|_| NoToken::Shut)?;
        let (begun, lease) = (Instant::now(), by.endpoint.timeout() + MARGIN);
        if !tokens::take(by.pool, &self.destination, version, by.instance, lease).await? {
            return Ok(None);
        }
        if begun.elapsed() > MARGIN / 2 {
            return Ok(None);
        }
        // Also after what is stored was lost, or is from a backup: no token that is known has a later version.
        let next = version.max(self.version()) + 1;
        let asked = Instant::now();
        let fetched = self.fetch(by).await.and_then(|fetched| {
            let token = self.token(next, &fetched.token, (asked, Duration::ZERO), fetched.life);
            let token = token.ok_or_else(|| Failure {
                reason: "the token cannot be sent as a header".to_owned(),
                after: None,
            })?;
            Ok((token, fetched))
        });
        let result = if fetched.is_ok() { "fetched" } else { "failed" };
        metrics::counter!("chekhov_tokens_total", "destination" => self.destination.clone(), "result" => result)
            .increment(1);
        match fetched {
            Ok((token, fetched)) => {
                let place = Place {
                    destination: &self.destination,
                    version: token.version,
                };
                let sealed = Sealed {
                    bytes: self.seal.seal(place, &fetched.token)?,
                    age: asked.elapsed(),
                    life: fetched.life,
                };
                if !tokens::store(by.pool, &self.destination, (version, next), by.instance, &sealed).await? {
                    tracing::warn!(destination = %self.destination, "a token came too late: it is dropped");
                    return Ok(None);
                }
                tracing::info!(destination = %self.destination, version = token.version, life = ?fetched.life, "a token was fetched");
                self.learn(&token);
                Ok(Some(token))
            }
            Err(failure) => {
                let reason = failure.reason.as_str();
                tracing::warn!(destination = %self.destination, reason, "no token could be fetched");
                let pause = failure.after.unwrap_or(PAUSE);
                // Should this fail as well, the lease is the pause.
                tokens::fail(by.pool, &self.destination, version, by.instance, pause, reason).await?;
                self.note(&failure);
                Err(failure.into())
            }
        }
    }

    /// The stored token, if it is newer, good, and can be opened.
    fn adopt(&self, stored: &Stored, than: Than, read: Instant) -> Option<Arc<Token>> {
        let sealed = stored.sealed.as_ref().filter(|sealed| sealed.age < sealed.life)?;
        if stored.version <= than.version() {
            return None;
        }
        let secret = self.open(stored.version, sealed)?;
        // Its age was told after it was asked for: it is taken for older than it is.
        let token = self.token(stored.version, &secret, (read, sealed.age), sealed.life)?;
        self.learn(&token);
        Some(token)
    }

    fn open(&self, version: i64, sealed: &Sealed) -> Option<Secret> {
        let place = Place {
            destination: &self.destination,
            version,
        };
        let secret = self.seal.open(place, &sealed.bytes);
        if secret.is_none() && self.sealed_otherwise.fetch_max(version, Ordering::Relaxed) < version {
            tracing::warn!(destination = %self.destination, version, "the token was sealed with another key: it is fetched anew");
        }
        secret
    }

    fn version(&self) -> i64 {
        self.current().map_or(0, |token| token.version)
    }

    /// Another process's failure.
    fn fail(&self, stored: &Stored, after: Option<Duration>) -> NoToken {
        let reason = stored
            .failed_for
            .clone()
            .unwrap_or_else(|| "another process failed".to_owned());
        let failure = Failure { reason, after };
        self.note(&failure);
        failure.into()
    }

    fn note(&self, failure: &Failure) {
        let mut failed = self.failed();
        failed.count += 1;
        failed.last = Some(failure.clone());
    }

    fn failed(&self) -> std::sync::MutexGuard<'_, super::Failed> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_young(sealed: &Sealed) -> bool {
    sealed.age < YOUNG.min(sealed.life / 10)
}
