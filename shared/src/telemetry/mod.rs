//! Logs, traces and metrics.

pub mod context;
pub mod described;
mod export;
pub mod metrics;
pub mod names;
mod sampling;

pub use context::TraceContext;

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::subscriber::Interest;
use tracing_subscriber::filter::{FilterExt, LevelFilter, dynamic_filter_fn, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::configuration::{LogFormat, Telemetry};

/// How long what is left may take to be sent when the process ends.
const FLUSH: Duration = Duration::from_secs(5);

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
        .map(|endpoint| export::provider(endpoint, configuration, service))
        .transpose()?;
    // Spans of a receipt's trace are the collector's. Without hints nothing of what others trace could be left out early.
    let logged = filter_fn(|metadata| !is_traced(metadata)).with_max_level_hint(LevelFilter::TRACE);
    let registry = tracing_subscriber::registry().with(logs.with_filter(filter.and(logged)));
    match &provider {
        Some((provider, valve)) => {
            let (now, remembered) = (Arc::clone(valve), Arc::clone(valve));
            // What others trace of themselves is no part of a receipt's story.
            let wanted = dynamic_filter_fn(move |metadata, _| is_traced(metadata) && now.admits())
                .with_callsite_filter(move |metadata| {
                    if is_traced(metadata) && remembered.admits() {
                        Interest::sometimes()
                    } else {
                        Interest::never()
                    }
                })
                .with_max_level_hint(LevelFilter::INFO);
            let traces = tracing_opentelemetry::layer()
                .with_tracer(provider.tracer("chekhov"))
                .with_location(false)
                .with_threads(false)
                .with_target(false)
                .with_tracked_inactivity(false)
                .with_filter(wanted);
            // For spans that are over when they are recorded: `tracing` has none of those.
            opentelemetry::global::set_tracer_provider(provider.clone());
            registry.with(traces).try_init()
        }
        // No layer at all, not an empty one: that would have every span made for nobody.
        None => registry.try_init(),
    }
    .map_err(|error| Error(error.to_string()))?;
    Ok(Guard {
        provider: provider.map(|(provider, _)| provider),
    })
}

fn is_traced(metadata: &tracing::Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target() == "chekhov"
}

/// Whether spans are made at this moment.
fn is_on() -> bool {
    tracing::span_enabled!(target: "chekhov", tracing::Level::INFO)
}

impl Guard {
    /// Sends what is left, for five seconds at most. It blocks: call it off the runtime's threads.
    pub fn flush(self) {
        if let Some(provider) = self.provider
            && let Err(error) = provider.shutdown_with_timeout(FLUSH)
        {
            tracing::warn!(%error, "spans were lost at the end");
        }
    }
}
