//! The HTTP API: posting receipts, reading them, steering them and their destinations, health.

mod audit;
pub mod auth;
mod destinations;
mod export;
mod failures;
mod health;
mod jobs;
mod openapi;
mod paging;
mod post;
mod problem;
mod read;
mod reason;
mod resolve;
mod search;
mod steer;
mod wait;
mod why;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post as on_post};
use shared::destination::Following;
use shared::life::Heart;
use shared::stage::Versions;
use shared::store::accept::AcceptBatch;
use shared::store::group::Group;
use sqlx::PgPool;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backlogs::Backlogs;
use crate::internal::Runner;
use crate::relay::Broker;

pub use problem::Problem;

/// Posts that may wait for their commit at once.
pub const ROOM: usize = 1024;

/// What the handlers need.
pub struct Intake {
    /// The writer of accepted receipts.
    pub accept: Group<AcceptBatch>,
    /// For reading.
    pub pool: PgPool,
    /// Who may call.
    pub tokens: auth::Tokens,
    /// Runs what was accepted.
    pub runner: Arc<Runner>,
    /// The current pipeline.
    pub versions: Arc<Versions>,
    /// For readiness.
    pub broker: Arc<Broker>,
    /// Set while the process stops.
    pub stop: CancellationToken,
    /// Whether the caller's trace goes on.
    pub continue_trace: bool,
    /// The share of the traces that begin here and are exported.
    pub sampling: f64,
    /// For the database's clock.
    pub heart: Arc<Heart>,
    /// Posts that may wait for their commit at once.
    pub room: Arc<Semaphore>,
    /// What is in flight.
    pub tracker: TaskTracker,
    /// Told when a receipt may be ready for its destination.
    pub due: Arc<Notify>,
    /// Told when a job may be to be taken.
    pub jobs: Arc<Notify>,
    /// The destinations' states.
    pub following: Arc<Following>,
    /// What waits for them.
    pub backlogs: Arc<Backlogs>,
    /// Those of this process's configuration.
    pub destinations: BTreeSet<String>,
    /// Where a trace is looked at: a URL with `{trace_id}` in it.
    pub trace_url: Option<String>,
}

impl Intake {
    /// Whether receipts have limit keys at `destination`.
    fn has_keys(&self, destination: &str) -> bool {
        let known = self.following.get(destination);
        known.is_some_and(|known| known.settings.limit_key.is_some())
    }

    /// Where this trace is looked at.
    fn trace_url(&self, trace_id: &str) -> Option<String> {
        Some(self.trace_url.as_ref()?.replace("{trace_id}", trace_id))
    }
}

/// Every endpoint.
pub fn router(intake: Arc<Intake>) -> Router {
    Router::new()
        .route("/v1/receipts", on_post(post::receipt).get(search::receipts))
        .route("/v1/receipts/{id}", get(read::by_id))
        .route("/v1/receipts/{id}/retry", on_post(steer::retry))
        .route("/v1/receipts/{id}/cancel", on_post(steer::cancel))
        .route("/v1/receipts/{id}/release", on_post(steer::release))
        .route("/v1/receipts/{id}/reopen", on_post(steer::reopen))
        .route("/v1/receipts/{id}/restart", on_post(steer::restart))
        .route("/v1/receipts/{id}/resolve", on_post(resolve::resolve))
        .route("/v1/export", get(export::export))
        .route("/v1/failures", get(failures::failures))
        .route("/v1/jobs", on_post(jobs::create).get(jobs::page))
        .route("/v1/jobs/{id}", get(jobs::one))
        .route("/v1/jobs/{id}/start", on_post(jobs::start))
        .route("/v1/jobs/{id}/stop", on_post(jobs::stop))
        .route("/v1/audit", get(audit::page))
        .route("/v1/destinations", get(destinations::all))
        .route(
            "/v1/destinations/{name}",
            get(destinations::one).patch(destinations::change),
        )
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/openapi.json", get(openapi::document))
        .fallback(problem::no_such_path)
        .method_not_allowed_fallback(problem::no_such_method)
        .layer(middleware::from_fn(measured))
        .layer(middleware::from_fn_with_state(intake.stop.clone(), parting))
        .with_state(intake)
}

/// Tells clients of a stopping process to open no further requests on their connections.
async fn parting(State(stop): State<CancellationToken>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if stop.is_cancelled() {
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Measures every request by route, method and status.
async fn measured(request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let method = request.method().as_str().to_owned();
    let response = next.run(request).await;
    let status = response.status().as_u16().to_string();
    metrics::histogram!("http_server_request_duration_seconds", "http_route" => route, "http_request_method" => method,
        "http_response_status_code" => status)
    .record(begun.elapsed());
    response
}
