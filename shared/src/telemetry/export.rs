//! How spans leave the process: gathered within a bound, sent on a thread of their own, dropped and counted when nobody
//! takes them. While they are dropped none is made: a collector that hangs costs a receipt nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{RetryPolicy, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, Span, SpanData, SpanExporter, SpanProcessor,
};
use uuid::Uuid;

use super::Error;
use super::names::{SERVICE_INSTANCE_ID, SERVICE_VERSION};
use super::sampling::{Failures, Sampling};
use crate::configuration::Telemetry;

/// Finished spans that may wait to be sent: some megabytes.
const QUEUE: usize = 8192;
/// The most of one request.
const BATCH: usize = 512;
/// How long a span waits for others to be sent with.
const GATHER: Duration = Duration::from_secs(2);
/// How long a collector may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Counts what waits to be sent, and says whether more is made.
#[derive(Debug, Default)]
pub(super) struct Valve {
    waiting: AtomicUsize,
    shut: AtomicBool,
}

impl Valve {
    /// Whether spans are to be made now.
    pub(super) fn admits(&self) -> bool {
        !self.shut.load(Ordering::Relaxed)
    }

    /// Every place where spans are made remembers whether it makes any: nothing is asked each time. Answered on a thread aside:
    /// whoever ended a span has other things to do, and it happens seldom.
    fn turn(&self, shut: bool) {
        if self.shut.swap(shut, Ordering::Relaxed) != shut {
            // Without a thread each place is asked as before.
            let _ = std::thread::Builder::new().spawn(tracing::callsite::rebuild_interest_cache);
        }
    }

    /// Room for a finished span. Without any the valve is shut, until half of what waits has gone.
    fn enter(&self) -> bool {
        if self.waiting.fetch_add(1, Ordering::Relaxed) < QUEUE {
            return true;
        }
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.turn(true);
        dropped("queue_full", 1);
        false
    }

    fn leave(&self, count: usize) {
        let before = self.waiting.fetch_sub(count, Ordering::Relaxed);
        if before.saturating_sub(count) <= QUEUE / 2 {
            self.turn(false);
        }
    }
}

fn dropped(reason: &'static str, count: usize) {
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    metrics::counter!("chekhov_spans_dropped_total", "reason" => reason).increment(count);
}

/// Passes spans on while there is room for them.
#[derive(Debug)]
struct Bounded<P> {
    next: P,
    valve: Arc<Valve>,
}

impl<P: SpanProcessor> SpanProcessor for Bounded<P> {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.next.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.valve.enter() {
            self.next.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.next.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.next.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.next.set_resource(resource);
    }
}

/// Sends spans, and counts what became of them.
#[derive(Debug)]
struct Counted<E> {
    next: E,
    valve: Arc<Valve>,
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        self.valve.leave(count);
        let sent = self.next.export(batch).await;
        if sent.is_ok() {
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            metrics::counter!("chekhov_spans_exported_total").increment(count);
        } else {
            dropped("export_failed", count);
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.next.shutdown_with_timeout(timeout)
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.next.shutdown()
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.next.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.next.set_resource(resource);
    }
}

/// What exports to `endpoint`, and whether it takes more.
pub(super) fn provider(
    endpoint: &str,
    configuration: &Telemetry,
    service: &'static str,
) -> Result<(SdkTracerProvider, Arc<Valve>), Error> {
    let valve = Arc::new(Valve::default());
    let exporter = Counted {
        next: exporter(endpoint)?,
        valve: Arc::clone(&valve),
    };
    let gathering = BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE)
        .with_max_export_batch_size(BATCH)
        .with_scheduled_delay(GATHER)
        .build();
    let bounded = Bounded {
        next: BatchSpanProcessor::builder(exporter)
            .with_batch_config(gathering)
            .build(),
        valve: Arc::clone(&valve),
    };
    let resource = Resource::builder().with_service_name(service).with_attributes([
        KeyValue::new(SERVICE_INSTANCE_ID, Uuid::now_v7().to_string()),
        KeyValue::new(SERVICE_VERSION, env!("CARGO_PKG_VERSION")),
    ]);
    let provider = SdkTracerProvider::builder()
        .with_sampler(Sampling::new(configuration.sampling))
        .with_span_processor(Failures::before(bounded))
        .with_resource(resource.build())
        .build();
    Ok((provider, valve))
}

fn exporter(endpoint: &str) -> Result<opentelemetry_otlp::SpanExporter, Error> {
    // A blocking client must not be made on a runtime's thread.
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                opentelemetry_otlp::SpanExporter::builder()
                    .with_http()
                    .with_http_client(client()?)
                    // What was not taken in time is dropped: what comes after it must not wait behind repeats.
                    .with_retry_policy(RetryPolicy::disabled())
                    .with_timeout(PATIENCE)
                    .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
                    .build()
                    .map_err(|error| Error(format!("telemetry.endpoint: {error}")))
            })
            .join()
            .map_err(|_| Error("telemetry.endpoint: the exporter could not be made".to_owned()))?
    })
}

fn client() -> Result<reqwest::blocking::Client, Error> {
    // Whoever comes first installs it; the client panics without one, also towards http.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::blocking::Client::builder()
        .timeout(PATIENCE)
        .build()
        .map_err(|error| Error(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_made_from_when_the_queue_is_full_until_half_of_it_has_gone() {
        let valve = Valve::default();
        for _ in 0..QUEUE {
            assert!(valve.admits() && valve.enter());
        }
        assert!(valve.admits(), "nobody was turned away yet");
        assert!(!valve.enter());
        assert!(!valve.admits());
        valve.leave(QUEUE / 2 - 1);
        assert!(!valve.admits());
        valve.leave(1);
        assert!(valve.admits() && valve.enter());
    }
}
