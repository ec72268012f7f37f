//! The HTTP API: posting receipts, reading them, health.

pub mod auth;
mod health;
mod openapi;
mod post;
mod problem;
mod read;
mod steer;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post as on_post};
use shared::stage::Versions;
use shared::store::accept::AcceptBatch;
use shared::store::group::Group;
use sqlx::PgPool;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::internal::Runner;
use crate::relay::Broker;

pub use problem::Problem;

/// The largest body of a post.
const BODY: usize = 256 * 1024;

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
    /// Whether traces are exported: then new ones are sampled.
    pub exporting: bool,
    /// Told when a receipt may be ready for its destination.
    pub due: Arc<Notify>,
}

/// Every endpoint.
pub fn router(intake: Arc<Intake>) -> Router {
    Router::new()
        .route("/v1/receipts", on_post(post::receipt).get(read::by_key))
        .route("/v1/receipts/{id}", get(read::by_id))
        .route("/v1/receipts/{id}/cancel", on_post(steer::cancel))
        .route("/v1/receipts/{id}/release", on_post(steer::release))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/openapi.json", get(openapi::document))
        .fallback(problem::no_such_path)
        .method_not_allowed_fallback(problem::no_such_method)
        .layer(DefaultBodyLimit::max(BODY))
        .with_state(intake)
}
