//! Puts the dispatcher together, and takes it apart again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use shared::configuration::{Configuration, Database};
use shared::destination::Following;
use shared::handoff::{self, Address};
use shared::life::{self, Heart, Holdings};
use shared::pipeline::{Pipeline, Source};
use shared::stage::{Endpoints, LimitKeys, Versions};
use shared::store::destinations::DISPATCHER;
use shared::store::{self, group::Group, line::Line};
use shared::telemetry::metrics;
use shared::tls::listener::{self, Acceptor};
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::canary;
use crate::consumer::{self, Reading};
use crate::dispatch::Dispatcher;
use crate::gate::{Gate, Keys};
use crate::health::Health;
use crate::{renewal, series};

/// Runs a dispatcher until `stop`.
///
/// # Errors
/// When it cannot start.
#[expect(
    clippy::too_many_lines,
    reason = "a list of parts, each begun with what it needs of those before"
)]
pub async fn run(configuration: Configuration, stop: CancellationToken) -> anyhow::Result<()> {
    let handle = metrics::install()?;
    let pipeline = Pipeline::compile(Source::read(&configuration.pipeline)?)?;
    let (services, destinations) = configuration.targets();
    pipeline.check_targets(&services, &destinations)?;
    series::begin(&pipeline, &destinations);
    let endpoints = Arc::new(Endpoints::new(&configuration, configuration.dispatcher.sent_at)?);
    let address = Address::read(&configuration.rabbitmq)?;
    let acceptor = Acceptor::read("dispatcher", configuration.dispatcher.tls.as_ref())?;
    let listener = TcpListener::bind(configuration.dispatcher.listen)
        .await
        .with_context(|| format!("dispatcher.listen {}", configuration.dispatcher.listen))?;

    let pool = database(&configuration.database).await?;
    let versions = Arc::new(Versions::start(pool.clone(), pipeline).await?);
    let heart = Heart::start(&configuration.database, DISPATCHER, configuration.heartbeat).await?;
    tracing::info!(instance = %heart.id(), "started");

    let last = CancellationToken::new();
    let beating = tokio::spawn(Arc::clone(&heart).beat(last.clone()));
    tokio::spawn(metrics::upkeep(handle.clone(), last.clone()));
    let tracker = TaskTracker::new();
    let claims = Group::start(pool.clone());
    let steps = Group::start(pool.clone());
    let takes = Group::start(pool.clone());
    let holdings = Holdings::default();
    let every = configuration.heartbeat.dead_after;
    tokio::spawn(
        holdings
            .clone()
            .watch(pool.clone(), Arc::clone(&heart), every, stop.clone()),
    );
    let following = Following::start(&pool, &configuration).await.context("database.url")?;
    tokio::spawn(Arc::clone(&following).run(stop.clone()));
    let limit_keys = Arc::new(LimitKeys::new(Arc::clone(&following)));
    let mut readings = BTreeMap::new();
    let mut reading = Vec::new();
    for (name, destination) in &configuration.destination {
        let queue = handoff::queue(&configuration.rabbitmq.prefix, name);
        let dispatcher = Arc::new(Dispatcher {
            destination: name.clone(),
            queue: queue.clone(),
            broker: address.clone(),
            gate: Gate::new(
                name,
                Arc::clone(&heart),
                destination.message(),
                Arc::clone(&following),
                pool.clone(),
                Keys::new(name, Arc::clone(&following), takes.clone(), stop.clone()),
            ),
            health: Arc::new(Health::new(
                name,
                destination,
                Arc::clone(&following),
                pool.clone(),
                Arc::clone(&heart),
                tracker.clone(),
            )),
            pool: pool.clone(),
            line: Mutex::new(Line::to(pool.clone())),
            heart: Arc::clone(&heart),
            versions: Arc::clone(&versions),
            endpoints: Arc::clone(&endpoints),
            proofs: Arc::default(),
            limit_keys: Arc::clone(&limit_keys),
            claims: claims.clone(),
            steps: steps.clone(),
            holdings: holdings.clone(),
            tracker: tracker.clone(),
            stop: stop.clone(),
        });
        tokio::spawn(canary::run(Arc::clone(&dispatcher), stop.clone()));
        tokio::spawn(renewal::run(Arc::clone(&dispatcher), stop.clone()));
        let state = Arc::new(Reading::default());
        readings.insert(queue.clone(), Arc::clone(&state));
        reading.push(tokio::spawn(consumer::run(
            dispatcher,
            address.clone(),
            queue,
            state,
            stop.clone(),
        )));
    }

    let watched = Router::new()
        .route("/metrics", get(move || std::future::ready(handle.render())))
        .merge(health(pool, readings));
    let serving = listener::serve(listener, acceptor, watched, stop.clone().cancelled_owned());
    let work = async {
        serving.await?;
        for task in reading {
            task.await?;
        }
        tracker.close();
        tracker.wait().await;
        anyhow::Ok(())
    };
    life::finish(&stop, work).await.transpose()?;
    last.cancel();
    beating.await?;
    tracing::info!("stopped");
    Ok(())
}

/// The database, its schema as this version needs it.
async fn database(database: &Database) -> anyhow::Result<PgPool> {
    let pool = store::connect(database.url.expose(), database.connections, DISPATCHER)?;
    store::migrate(database.url.expose()).await.context("database.url")?;
    Ok(pool)
}

fn health(pool: PgPool, readings: BTreeMap<String, Arc<Reading>>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { StatusCode::OK }))
        .route("/readyz", get(move || ready(pool, readings)))
}

async fn ready(pool: PgPool, readings: BTreeMap<String, Arc<Reading>>) -> (StatusCode, Json<serde_json::Value>) {
    let mut not_ready = Vec::new();
    match tokio::time::timeout(Duration::from_secs(2), store::ping(&pool)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => not_ready.push(format!("postgresql: {error}")),
        Err(_) => not_ready.push("postgresql: no answer in 2 s".to_owned()),
    }
    not_ready.extend(
        readings
            .iter()
            .filter_map(|(queue, reading)| Some(format!("rabbitmq: {queue}: {}", reading.error()?))),
    );
    let status = if not_ready.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(json!({ "not_ready": not_ready })))
}
