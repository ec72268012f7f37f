//! Prometheus metrics of a process.

use std::time::Duration;

use metrics::{Gauge, Label};
pub use metrics_exporter_prometheus::PrometheusHandle;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use tokio_util::sync::CancellationToken;

/// How often histograms are drained.
const UPKEEP: Duration = Duration::from_secs(5);

/// Installs the recorder of this process.
///
/// # Errors
/// When there is one already.
pub fn install() -> Result<PrometheusHandle, super::Error> {
    PrometheusBuilder::new()
        .set_buckets(&[
            0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
        ])
        .and_then(|builder| {
            builder.set_buckets_for_metric(
                Matcher::Suffix("_rows".to_owned()),
                &[1.0, 4.0, 16.0, 64.0, 128.0, 256.0],
            )
        })
        .and_then(metrics_exporter_prometheus::PrometheusBuilder::install_recorder)
        .inspect(|_| super::described::describe())
        .map_err(|error| super::Error(error.to_string()))
}

/// A receipt that this process works on at `stage`, `doing` what its state says, until this is dropped.
#[must_use]
pub struct InWork(Gauge);

impl InWork {
    /// One more.
    pub fn at(doing: &'static str, stage: &str) -> Self {
        let gauge = metrics::gauge!("chekhov_receipts_in_work", "state" => doing, "stage" => stage.to_owned());
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for InWork {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// What the attempts of a stage may come to.
const OUTCOMES: [&str; 7] = ["success", "retry", "poll", "reject", "unknown", "reissue", "park"];

/// Begins the series of the stages that this process works on (`doing` what) at zero: a rate needs a value before the first
/// event, and an alert a series.
pub fn begin_stages<'a>(doing: &'static str, stages: impl Iterator<Item = &'a str>) {
    for stage in stages {
        metrics::gauge!("chekhov_receipts_in_work", "state" => doing, "stage" => stage.to_owned()).set(0.0);
        for outcome in OUTCOMES {
            begin_counter("chekhov_attempts_total", &[("stage", stage), ("outcome", outcome)]);
        }
        for ended in ["registered", "rejected", "parked"] {
            begin_counter("chekhov_receipts_ended_total", &[("state", ended), ("stage", stage)]);
        }
    }
}

/// Begins a counter at zero.
pub fn begin_counter(counter: &'static str, labels: &[(&'static str, &str)]) {
    let labels: Vec<Label> = labels
        .iter()
        .map(|(key, value)| Label::new(*key, (*value).to_owned()))
        .collect();
    metrics::counter!(counter, labels).increment(0);
}

/// A whole number as a gauge shows it.
#[must_use]
pub fn shown(count: i64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "exact up to nine million billions")]
    let shown = count as f64;
    shown
}

/// Drains what histograms gather, until `stop`: without it they grow for as long as nobody reads them.
pub async fn upkeep(handle: PrometheusHandle, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(UPKEEP)).await.is_some() {
        handle.run_upkeep();
    }
}
