//! While a destination is closed: one call now and then, by one dispatcher, of another receipt each time.

use std::sync::Arc;
use std::time::Duration;

use shared::destination::{Mode, State};
use shared::stage::{attempt, waits};
use shared::store::{StoreError, claim, load};
use shared::telemetry::TraceContext;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use crate::dispatch::Dispatcher;
use crate::turns::Turns;

/// How long to wait after another dispatcher took the canary, or while the row that closed it is still to be read.
const AGAIN: Duration = Duration::from_millis(500);
/// Spread over the dispatchers, so that they do not all ask at once.
const SPREAD: Duration = Duration::from_millis(50);

/// Probes `dispatcher`'s destination whenever it is closed, until `stop`.
pub async fn run(dispatcher: Arc<Dispatcher>, stop: CancellationToken) {
    let probing = async {
        loop {
            let closed = dispatcher
                .health
                .following
                .until(&dispatcher.destination, |known| known.state() == State::Closed)
                .await;
            let Some(closing) = &closed.closing else { continue };
            let spread = SPREAD.mul_f64(rand::random());
            sleep_until((closing.probe + spread).into()).await;
            let known = dispatcher.gate.known();
            if known.is_none_or(|known| known.version != closed.version) {
                continue;
            }
            // What must not be sent is not claimed.
            let may_call = dispatcher.heart.is_strong() && dispatcher.gate.share(&closed) > 0;
            if may_call && dispatcher.health.take_canary().await {
                if let Err(error) = probe(&dispatcher, closed.mode == Mode::Draining).await {
                    tracing::warn!(%error, destination = %dispatcher.destination, "no canary could be sent");
                    dispatcher.health.nothing().await;
                }
            } else {
                tokio::time::sleep(AGAIN).await;
                dispatcher.health.following.refresh().await;
            }
        }
    };
    stop.run_until_cancelled(probing).await;
}

/// Sends one, and takes its receipt as far as it goes.
async fn probe(dispatcher: &Arc<Dispatcher>, only_sent: bool) -> Result<(), StoreError> {
    let owner = dispatcher.heart.id();
    let claimed = claim::canary(&dispatcher.pool, &dispatcher.destination, owner, only_sent).await?;
    let Some(id) = claimed else {
        dispatcher.health.nothing().await;
        return Ok(());
    };
    let holding = dispatcher.holdings.hold(id);
    let work = {
        let mut connection = dispatcher.pool.acquire().await.map_err(StoreError::from)?;
        load::works(&mut connection, &[id]).await?.pop()
    };
    let Some(work) = work.filter(|work| work.hold.owner == owner) else {
        dispatcher.health.nothing().await;
        return Ok(());
    };
    let of = Arc::clone(dispatcher);
    // A task of its own: the receipt may have more stages, and the destination be closed again meanwhile.
    dispatcher.tracker.spawn(async move {
        let _holding = holding;
        waits::record(&work);
        let trace = TraceContext {
            traceparent: work.traceparent.clone(),
            tracestate: work.tracestate.clone(),
        };
        let turns = Turns::canary(&of.gate, &of.health);
        match of.versions.get(&work.pipeline).await {
            Ok(pipeline) => {
                let subject = attempt::subject(&work, &pipeline);
                of.run(work, &pipeline, subject, None, trace, &turns).await;
            }
            Err(error) => of.without_pipeline(&work, &error).await,
        }
        if turns.is_unsent() {
            of.health.nothing().await;
        }
    });
    Ok(())
}
