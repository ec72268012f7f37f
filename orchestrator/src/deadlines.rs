//! Shows how many deadlines are at risk, as gauges: each orchestrator counts for all destinations.

use std::sync::Arc;
use std::time::Duration;

use shared::destination::{Destination, Following};
use shared::store::deadlines;
use shared::telemetry::metrics::shown;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

/// How often they are counted.
const ROUND: Duration = Duration::from_secs(20);

/// Counts until `stop`.
pub async fn run(pool: PgPool, following: Arc<Following>, stop: CancellationToken) {
    let counting = async {
        loop {
            let all = following.all();
            let known: Vec<&Destination> = all.iter().map(Arc::as_ref).collect();
            match deadlines::count(&pool, &known).await {
                Ok(counted) => {
                    for (known, counted) in known.into_iter().zip(counted) {
                        show("chekhov_deadlines_at_risk", known, counted.at_risk);
                        show("chekhov_deadlines_passed", known, counted.passed);
                    }
                }
                Err(error) => tracing::warn!(%error, "deadlines could not be counted"),
            }
            tokio::time::sleep(ROUND).await;
        }
    };
    stop.run_until_cancelled(counting).await;
}

fn show(gauge: &'static str, of: &Destination, count: i64) {
    metrics::gauge!(gauge, "destination" => of.name.clone()).set(shown(count));
}
