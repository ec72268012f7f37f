//! Puts the orchestrator together, and takes it apart again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use shared::configuration::Configuration;
use shared::destination::Following;
use shared::life::{self, Heart, Holdings};
use shared::pipeline::{Pipeline, Source};
use shared::stage::{Endpoints, LimitKeys, Versions};
use shared::store::{self, group::Group};
use shared::telemetry::metrics::{self, PrometheusHandle};
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::intake::{self, Intake};
use crate::internal::Runner;
use crate::{deadlines, healer, internal, relay};

/// How long an orchestrator that stops goes on answering.
const DRAIN: Duration = Duration::from_secs(2);

/// Runs an orchestrator until `stop`.
///
/// # Errors
/// When it cannot start, or a part of it ends by itself.
pub async fn run(configuration: Configuration, stop: CancellationToken) -> anyhow::Result<()> {
    let handle = metrics::install()?;
    let pipeline = Pipeline::compile(Source::read(&configuration.pipeline)?)?;
    let (services, destinations) = configuration.targets();
    pipeline.check_targets(&services, &destinations)?;
    let endpoints = Endpoints::new(&configuration, false)?;
    // Ports first: what cannot be served must not be started.
    let listener = listen("intake.listen", configuration.intake.listen).await?;
    let metrics_listener = listen("orchestrator.metrics", configuration.orchestrator.metrics).await?;

    let pool = store::connect(
        configuration.database.url.expose(),
        configuration.database.connections,
        "chekhov-orchestrator",
    )?;
    store::migrate(configuration.database.url.expose())
        .await
        .context("database.url")?;
    let versions = Arc::new(Versions::start(pool.clone(), pipeline).await?);
    let heart = Heart::start(&configuration.database, "chekhov-orchestrator", configuration.heartbeat).await?;
    tracing::info!(instance = %heart.id(), pipeline = %versions.current().version, "started");

    let tracker = TaskTracker::new();
    // The heart beats on until everything in flight has been finished or handed back.
    let last = CancellationToken::new();
    let beating = tokio::spawn(Arc::clone(&heart).beat(last.clone()));
    let due = Arc::new(Notify::new());
    let holdings = Holdings::default();
    let every = configuration.heartbeat.dead_after;
    tokio::spawn(
        holdings
            .clone()
            .watch(pool.clone(), Arc::clone(&heart), every, stop.clone()),
    );
    let following = Following::start(&pool, &configuration).await.context("database.url")?;
    let finished = CancellationToken::new();
    let (hand_off, relaying) = relay::start(
        &configuration,
        pool.clone(),
        Arc::clone(&following),
        Arc::clone(&due),
        stop.clone(),
        finished.clone(),
    );
    let broker = Arc::clone(hand_off.broker());
    let relaying = tokio::spawn(relaying);
    let runner = Arc::new(Runner::new(
        &configuration,
        pool.clone(),
        Arc::clone(&heart),
        Arc::clone(&versions),
        endpoints,
        LimitKeys::new(Arc::clone(&following)),
        holdings.clone(),
        tracker.clone(),
        Arc::clone(&due),
        hand_off,
        stop.clone(),
    ));
    tokio::spawn(internal::claimer::run(Arc::clone(&runner), stop.clone()));
    tokio::spawn(healer::run(
        configuration.clone(),
        pool.clone(),
        Arc::clone(&heart),
        Arc::clone(&broker),
        Arc::clone(&following),
        stop.clone(),
    ));
    tokio::spawn(deadlines::run(pool.clone(), Arc::clone(&following), stop.clone()));
    tokio::spawn(partitions(pool.clone(), stop.clone()));
    tokio::spawn(metrics::upkeep(handle.clone(), last.clone()));

    let intake = Intake {
        accept: Group::start(pool.clone()),
        pool: pool.clone(),
        tokens: intake::auth::Tokens::new(&configuration.intake.tokens),
        runner: Arc::clone(&runner),
        versions,
        broker,
        stop: stop.clone(),
        continue_trace: configuration.intake.continue_trace,
        sampling: configuration.telemetry.ratio(),
        heart: Arc::clone(&heart),
        room: Arc::new(Semaphore::new(intake::ROOM)),
        tracker: tracker.clone(),
        due,
        following,
        destinations,
    };
    tokio::spawn(serve_metrics(metrics_listener, handle, last.clone()));
    let serving = axum::serve(listener, intake::router(Arc::new(intake))).with_graceful_shutdown(drained(stop.clone()));
    let work = async {
        serving.await?;
        tracker.close();
        tracker.wait().await;
        // Whoever finished may have queued its receipt: it is published still.
        finished.cancel();
        relaying.await?;
        anyhow::Ok(())
    };
    life::finish(&stop, work).await.transpose()?;
    last.cancel();
    beating.await?;
    tracing::info!("stopped");
    Ok(())
}

async fn serve_metrics(
    listener: TcpListener,
    handle: PrometheusHandle,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let render = move || std::future::ready(handle.render());
    let router = axum::Router::new().route("/metrics", axum::routing::get(render));
    axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}

/// Some time after `stop`: until then posts are refused with 503, so that nobody's connection is closed under a request, and
/// whoever spreads the load learns from `/readyz` to send no more.
async fn drained(stop: CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(DRAIN).await;
}

async fn listen(key: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("{key} {address}"))
}

/// Makes tomorrow's partitions, today.
async fn partitions(pool: sqlx::PgPool, stop: CancellationToken) {
    while stop
        .run_until_cancelled(tokio::time::sleep(Duration::from_hours(1)))
        .await
        .is_some()
    {
        if let Err(error) = store::create_partitions(&pool).await {
            tracing::error!(%error, "partitions could not be made");
        }
    }
}
