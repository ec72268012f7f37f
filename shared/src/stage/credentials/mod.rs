//! The credentials of a destination that gives out tokens: one token for all dispatchers, kept in the database (`seal`) and
//! in memory, fetched (`fetch`) by one process at a time (`renewal`), before its end or once it is refused.
//!
//! A call looks at memory alone: the database is asked only by who has no token that is good, or one that was refused.

mod fetch;
mod renewal;
mod seal;

pub use fetch::Failure;
pub use renewal::{NoToken, Renewer};
pub use seal::{Place, Seal, Unsealable};

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue};
use tokio::sync::Notify;

use crate::configuration::{Secret, SecretKey, TokenSource};
use crate::pipeline::{Extract, ExtractError};

/// A token is renewed when so much of its life is over.
const RENEWED: f64 = 0.8;

/// A token as it is sent.
pub struct Token {
    /// Which one: rises with each that is fetched, by whomever.
    pub version: i64,
    header: HeaderValue,
    /// From then on it is to be renewed.
    renew: Instant,
    /// From then on it is good for nothing.
    end: Instant,
}

/// The credentials of one destination, as this process has them.
pub struct Credentials {
    destination: String,
    source: TokenSource,
    token: Extract,
    expires_in: Option<Extract>,
    seal: Seal,
    current: Mutex<Option<Arc<Token>>>,
    /// Whoever has it looks for a newer token, the others wait for what is found.
    renewing: tokio::sync::Mutex<()>,
    failed: Mutex<Failed>,
    /// The highest version that a call was answered well with.
    proven: AtomicI64,
    /// The highest version that could not be opened.
    sealed_otherwise: AtomicI64,
    /// Told when a token is used that is to be renewed.
    due: Notify,
}

/// Fetches that failed while this process waited for them.
#[derive(Debug, Default)]
struct Failed {
    count: u64,
    last: Option<Failure>,
}

/// Why a destination's credentials cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// A filter.
    #[error(transparent)]
    Filter(#[from] ExtractError),
    /// The key.
    #[error(transparent)]
    Key(#[from] Unsealable),
}

impl Credentials {
    /// Those of a destination, from its configuration.
    ///
    /// # Errors
    /// When a filter or the key cannot be used.
    pub fn new(destination: &str, source: &TokenSource, key: &SecretKey) -> Result<Self, Unusable> {
        Ok(Self {
            destination: destination.to_owned(),
            token: Extract::compile(&source.token)?,
            expires_in: source.expires_in().map(Extract::compile).transpose()?,
            source: source.clone(),
            seal: Seal::new(key)?,
            current: Mutex::default(),
            renewing: tokio::sync::Mutex::default(),
            failed: Mutex::default(),
            proven: AtomicI64::new(0),
            sealed_otherwise: AtomicI64::new(0),
            due: Notify::new(),
        })
    }

    /// The header that has the token, and its value.
    #[must_use]
    pub fn header<'a>(&'a self, token: &Token) -> (&'a HeaderName, HeaderValue) {
        (&self.source.header, token.header.clone())
    }

    /// The newest token that this process knows, good or not.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Token>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The newest one, unless its life is over.
    #[must_use]
    pub fn good(&self) -> Option<Arc<Token>> {
        self.current().filter(|token| Instant::now() < token.end)
    }

    /// Waits until a token is used that is to be renewed.
    pub async fn due(&self) {
        self.due.notified().await;
    }

    /// A call with this version was answered well.
    pub fn prove(&self, version: i64) {
        self.proven.fetch_max(version, Ordering::Relaxed);
    }

    /// Whether this version, or a later one, was answered well with.
    #[must_use]
    pub fn is_proven(&self, version: i64) -> bool {
        self.proven.load(Ordering::Relaxed) >= version
    }

    /// The token as it is sent, which was of an age at some instant; `None` if it cannot be sent.
    fn token(
        &self,
        version: i64,
        token: &Secret,
        (at, age): (Instant, Duration),
        life: Duration,
    ) -> Option<Arc<Token>> {
        let mut header = HeaderValue::from_str(&format!("{}{}", self.source.prefix, token.expose())).ok()?;
        header.set_sensitive(true);
        Some(Arc::new(Token {
            version,
            header,
            renew: at + life.mul_f64(RENEWED).saturating_sub(age),
            end: at + life.saturating_sub(age),
        }))
    }

    /// Takes in a token, unless there is a newer one.
    fn learn(&self, token: &Arc<Token>) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_none_or(|known| known.version < token.version) {
            *current = Some(Arc::clone(token));
        }
    }
}

impl Token {
    fn is_due(&self) -> bool {
        Instant::now() >= self.renew
    }
}
