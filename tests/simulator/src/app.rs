//! The simulator as a whole: its state, its routes, and how it is served.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::connection::{Connection, CuttableListener};
use crate::faults::Faults;
use crate::fiscal::Fiscal;
use crate::internal::Internal;
use crate::ledger::Ledger;
use crate::orange::Orange;
use crate::route::Api;
use crate::settings::{Limiter, Settings};
use crate::tls::{Certificates, TlsListener};
use crate::ways::Ways;
use crate::{control, service};

/// The whole state; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Simulator {
    pub(crate) state: Arc<State>,
}

/// What the simulator remembers. Each part has a lock of its own, held only for look-ups and inserts.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) settings: Mutex<Settings>,
    pub(crate) limiters: Mutex<BTreeMap<Api, Limiter>>,
    pub(crate) faults: Mutex<Faults>,
    pub(crate) ledger: Mutex<Ledger>,
    pub(crate) fiscal: Mutex<Fiscal>,
    pub(crate) orange: Mutex<Orange>,
    pub(crate) internal: Mutex<Internal>,
    pub(crate) ways: Mutex<Ways>,
}

impl State {
    /// Forgets every call, registration and number. Settings, faults and tokens stay.
    pub(crate) fn forget(&self) {
        // The order of the locks is the one registering takes them in.
        let mut fiscal = lock(&self.fiscal);
        let mut orange = lock(&self.orange);
        let mut ledger = lock(&self.ledger);
        fiscal.forget();
        *orange = Orange::default();
        ledger.forget();
        *lock(&self.internal) = Internal::default();
        *lock(&self.ways) = Ways::default();
    }
}

/// The routes: control under `/ledger`, `/calls`, `/ways`, `/done`, `/faults`, `/settings`, `/tokens`; everything else is a simulated service.
///
/// Served other than by [`serve`], faults that close a connection answer an empty 500 instead.
pub fn router(simulator: Simulator) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/ledger", get(control::summary).delete(control::forget))
        .route("/ledger/{*receipt}", get(control::receipt))
        .route("/calls", get(control::calls))
        .route("/ways", get(control::ways))
        .route("/done", get(control::done))
        .route(
            "/faults",
            get(control::faults)
                .put(control::set_faults)
                .delete(control::clear_faults),
        )
        .route("/settings", get(control::settings).put(control::set_settings))
        .route("/tokens", get(control::tokens).delete(control::revoke))
        .fallback(service::handle)
        .with_state(simulator)
}

/// Serves the simulator on a listener until the future is dropped.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(listener: TcpListener, simulator: Simulator) -> io::Result<()> {
    let service = router(simulator).into_make_service_with_connect_info::<Connection>();
    axum::serve(CuttableListener(listener), service).await
}

/// Serves the same simulator to clients that have a certificate.
///
/// # Errors
/// When the certificates cannot be used, or the listener fails for good.
pub async fn serve_tls(listener: TcpListener, certificates: &Certificates, simulator: Simulator) -> io::Result<()> {
    let listener = TlsListener::start(CuttableListener(listener), certificates)?;
    let service = router(simulator).into_make_service_with_connect_info::<Connection>();
    axum::serve(listener, service).await
}

/// Locks, also after a panic elsewhere: every part is left consistent between statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Now, in milliseconds since the epoch.
pub(crate) fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Now, in microseconds since the epoch.
pub(crate) fn unix_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
