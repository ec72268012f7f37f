//! Prometheus metrics of a process.

use std::time::Duration;

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
        .map_err(|error| super::Error(error.to_string()))
}

/// Drains what histograms gather, until `stop`: without it they grow for as long as nobody reads them.
pub async fn upkeep(handle: PrometheusHandle, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(UPKEEP)).await.is_some() {
        handle.run_upkeep();
    }
}
