//! Puts the orchestrator together, and takes it apart again.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use shared::configuration::{Configuration, Database, Invalid};
use shared::destination::Following;
use shared::handoff::Address;
use shared::life::{self, Heart, Holdings};
use shared::pipeline::{Pipeline, Source};
use shared::stage::{Endpoints, LimitKeys, Versions};
use shared::store::{self, group::Group};
use shared::telemetry::metrics::{self, PrometheusHandle};
use shared::tls::listener::{self, Acceptor};
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backlogs::Backlogs;
use crate::intake::{self, Intake};
use crate::internal::Runner;
use crate::jobs::{self, Jobs};
use crate::relay::{self, Broker};
use crate::{deadlines, healer, internal, series};

/// How long an orchestrator that stops goes on answering.
const DRAIN: Duration = Duration::from_secs(2);

/// Runs an orchestrator until `stop`.
///
/// # Errors
/// When it cannot start, or a part of it ends by itself.
#[expect(
    clippy::too_many_lines,
    reason = "a list of parts, each begun with what it needs of those before"
)]
pub async fn run(configuration: Configuration, stop: CancellationToken) -> anyhow::Result<()> {
    let handle = metrics::install()?;
    let (pipeline, destinations) = read_pipeline(&configuration)?;
    let endpoints = Endpoints::new(&configuration, false)?;
    let files = files(&configuration)?;
    // Ports first: what cannot be served must not be started.
    let listener = listen("intake.listen", configuration.intake.listen).await?;
    let metrics_listener = listen("orchestrator.metrics", configuration.orchestrator.metrics).await?;

    let pool = database(&configuration.database).await?;
    let versions = Arc::new(Versions::start(pool.clone(), pipeline).await?);
    let heart = Heart::start(&configuration.database, "chekhov-orchestrator", configuration.heartbeat).await?;
    tracing::info!(instance = %heart.id(), pipeline = %versions.current().version, "started");

    let tracker = TaskTracker::new();
    // The heart beats on until everything in flight has been finished or handed back.
    let last = CancellationToken::new();
    let beating = tokio::spawn(Arc::clone(&heart).beat(last.clone()));
    let due = Arc::new(Notify::new());
    let holdings = Holdings::default();
    let following = Following::start(&pool, &configuration).await.context("database.url")?;
    let finished = CancellationToken::new();
    let (hand_off, relaying) = relay::start(
        &configuration,
        files.address,
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
    let asked = Arc::new(Notify::new());
    tokio::spawn(internal::claimer::run(
        Arc::clone(&runner),
        Arc::clone(&asked),
        stop.clone(),
    ));
    tokio::spawn(watch(
        &configuration,
        &pool,
        &heart,
        &broker,
        &following,
        holdings,
        stop.clone(),
    ));
    let backlogs = observe(&pool, &following, &versions, &stop);
    let jobs = Jobs {
        pool: pool.clone(),
        versions: Arc::clone(&versions),
        heart: Arc::clone(&heart),
        wake: Arc::clone(&asked),
        due: Arc::clone(&due),
    };
    tracker.spawn(jobs::run(jobs, stop.clone()));
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
        jobs: asked,
        following,
        backlogs,
        destinations,
        trace_url: configuration.telemetry.trace_url.clone(),
    };
    let shown = serve_metrics(metrics_listener, files.metrics_acceptor, handle, last.clone());
    tokio::spawn(shown);
    let router = intake::router(Arc::new(intake));
    let serving = listener::serve(listener, files.acceptor, router, drained(stop.clone()));
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

/// The pipeline, and the destinations that it may name. Its series begin.
fn read_pipeline(configuration: &Configuration) -> anyhow::Result<(Pipeline, BTreeSet<String>)> {
    let pipeline = Pipeline::compile(Source::read(&configuration.pipeline)?)?;
    let (services, destinations) = configuration.targets();
    pipeline.check_targets(&services, &destinations)?;
    series::begin(&pipeline, &destinations);
    Ok((pipeline, destinations))
}

/// Shows what waits and what is at risk, until `stop`.
fn observe(
    pool: &PgPool,
    following: &Arc<Following>,
    versions: &Arc<Versions>,
    stop: &CancellationToken,
) -> Arc<Backlogs> {
    let backlogs = Arc::new(Backlogs::new(pool.clone(), Arc::clone(following), Arc::clone(versions)));
    tokio::spawn(Arc::clone(&backlogs).run(stop.clone()));
    backlogs
}

/// The database, its schema up to date.
async fn database(configuration: &Database) -> anyhow::Result<PgPool> {
    let url = configuration.url.expose();
    let pool = store::connect(url, configuration.connections, "chekhov-orchestrator")?;
    store::migrate(url).await.context("database.url")?;
    Ok(pool)
}

/// All that looks after what nobody has in hand, until `stop`.
fn watch(
    configuration: &Configuration,
    pool: &PgPool,
    heart: &Arc<Heart>,
    broker: &Arc<Broker>,
    following: &Arc<Following>,
    holdings: Holdings,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let (pool, every) = (pool.clone(), configuration.heartbeat.dead_after);
    let (heart, broker, following) = (Arc::clone(heart), Arc::clone(broker), Arc::clone(following));
    let configuration = configuration.clone();
    async move {
        tokio::join!(
            holdings.watch(pool.clone(), Arc::clone(&heart), every, stop.clone()),
            healer::run(
                configuration,
                pool.clone(),
                heart,
                broker,
                Arc::clone(&following),
                stop.clone()
            ),
            deadlines::run(pool.clone(), following, stop.clone()),
            partitions(pool, stop),
        );
    }
}

/// What TLS needs of files: of the broker, of both listeners.
pub struct Files {
    address: Address,
    acceptor: Option<Acceptor>,
    metrics_acceptor: Option<Acceptor>,
}

/// Reads the files that TLS needs.
///
/// # Errors
/// Those that cannot be used, each with its key.
pub fn files(configuration: &Configuration) -> Result<Files, Invalid> {
    Ok(Files {
        address: Address::read(&configuration.rabbitmq)?,
        acceptor: Acceptor::read("intake", configuration.intake.tls.as_ref())?,
        metrics_acceptor: Acceptor::read("orchestrator", configuration.orchestrator.tls.as_ref())?,
    })
}

async fn serve_metrics(
    listener: TcpListener,
    acceptor: Option<Acceptor>,
    handle: PrometheusHandle,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let render = move || std::future::ready(handle.render());
    let router = axum::Router::new().route("/metrics", axum::routing::get(render));
    listener::serve(listener, acceptor, router, stop.cancelled_owned()).await
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
