//! Logs, traces and metrics.

pub mod context;
pub mod described;
pub mod metrics;

pub use context::TraceContext;

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::filter::{FilterExt, LevelFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};
use uuid::Uuid;

use crate::configuration::{LogFormat, Telemetry};

/// Keeps the export of traces going; [`Guard::flush`] it before the process ends.
pub struct Guard {
    provider: Option<SdkTracerProvider>,
}

/// Telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("telemetry: {0}")]
pub struct Error(String);

/// Starts logging, and the export of traces if an endpoint is set.
///
/// # Errors
/// When the filter or the endpoint cannot be used, or telemetry was started before.
pub fn start(configuration: &Telemetry, service: &'static str) -> Result<Guard, Error> {
    let filter = EnvFilter::try_new(configuration.filter.as_deref().unwrap_or("info"))
        .map_err(|error| Error(format!("telemetry.filter: {error}")))?;
    let logs = match configuration.format {
        LogFormat::Json => tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(std::io::stderr)
            .boxed(),
        LogFormat::Human => tracing_subscriber::fmt::layer().with_writer(std::io::stderr).boxed(),
    };
    let provider = configuration
        .endpoint
        .as_deref()
        .map(|endpoint| provider(endpoint, service))
        .transpose()?;
    // Spans of a receipt's trace are the collector's. Without hints nothing of what others trace could be left out early.
    let logged = filter_fn(|metadata| !is_traced(metadata)).with_max_level_hint(LevelFilter::TRACE);
    let registry = tracing_subscriber::registry().with(logs.with_filter(filter.and(logged)));
    match &provider {
        Some(provider) => {
            let traces = tracing_opentelemetry::layer()
                .with_tracer(provider.tracer("chekhov"))
                .with_location(false)
                .with_threads(false)
                .with_tracked_inactivity(false)
                // What others trace of themselves is no part of a receipt's story.
                .with_filter(filter_fn(is_traced).with_max_level_hint(LevelFilter::INFO));
            registry.with(traces).try_init()
        }
        // No layer at all, not an empty one: that would have every span made for nobody.
        None => registry.try_init(),
    }
    .map_err(|error| Error(error.to_string()))?;
    Ok(Guard { provider })
}

fn is_traced(metadata: &tracing::Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target() == "chekhov"
}

fn provider(endpoint: &str, service: &'static str) -> Result<SdkTracerProvider, Error> {
    // The exporter has a thread and a blocking client of its own: a slow collector never slows a receipt.
    let exporter = std::thread::scope(|scope| {
        scope
            .spawn(|| {
                opentelemetry_otlp::SpanExporter::builder()
                    .with_http()
                    .with_http_client(reqwest_blocking()?)
                    .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
                    .build()
                    .map_err(|error| Error(format!("telemetry.endpoint: {error}")))
            })
            .join()
            .map_err(|_| Error("telemetry.endpoint: the exporter could not be made".to_owned()))?
    })?;
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(
            Resource::builder()
                .with_service_name(service)
                .with_attribute(opentelemetry::KeyValue::new(
                    "service.instance.id",
                    Uuid::now_v7().to_string(),
                ))
                .build(),
        )
        .build())
}

fn reqwest_blocking() -> Result<reqwest::blocking::Client, Error> {
    // Whoever comes first installs it; the client panics without one, also towards http.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::blocking::Client::builder()
        .timeout(std::time::Duration::from_secs(5))
        .build()
        .map_err(|error| Error(error.to_string()))
}

impl Guard {
    /// Sends what is left. Blocks for seconds if the collector hangs: call it off the runtime's threads.
    pub fn flush(self) {
        if let Some(provider) = self.provider
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "spans were lost at the end");
        }
    }
}
