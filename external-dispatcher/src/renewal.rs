//! Renews the destination's token before its life is over, while it is used: nobody waits for it.

use std::sync::Arc;
use std::time::Duration;

use shared::destination::Destination;
use shared::pipeline::To;
use shared::stage::credentials::{NoToken, Renewer};
use shared::stage::endpoint::Endpoint;
use shared::stage::{Admission, Admitted, Purpose, Seen};
use shared::telemetry::TraceContext;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::dispatch::Dispatcher;
use crate::gate::Gate;

/// Spread over the dispatchers, so that the others find what the first has fetched.
const SPREAD: Duration = Duration::from_millis(300);
/// The pause after a failure, while the old token serves.
const AGAIN: Duration = Duration::from_secs(5);

/// Renews the token of `dispatcher`'s destination, if it gives out tokens, until `stop`.
pub async fn run(dispatcher: Arc<Dispatcher>, stop: CancellationToken) {
    let to = To::Destination(dispatcher.destination.clone());
    let Some(endpoint) = dispatcher.endpoints.get(&to) else {
        return;
    };
    let Some(credentials) = endpoint.credentials() else {
        return;
    };
    let renewing = async {
        loop {
            credentials.due().await;
            sleep(SPREAD.mul_f64(rand::random())).await;
            let by = Renewer {
                endpoints: &dispatcher.endpoints,
                endpoint,
                admission: &Turn(&dispatcher.gate),
                pool: &dispatcher.pool,
                instance: dispatcher.heart.id(),
                trace: &TraceContext::root(false),
            };
            match credentials.renew(&by).await {
                // Nobody will call with it either.
                Ok(()) | Err(NoToken::Shut) => {}
                Err(error) => {
                    tracing::warn!(%error, destination = %dispatcher.destination, "the token was not renewed");
                    sleep(AGAIN).await;
                }
            }
        }
    };
    stop.run_until_cancelled(renewing).await;
}

/// A turn at the gate for what is no receipt's.
struct Turn<'a>(&'a Gate);

impl Admission for Turn<'_> {
    fn admit<'a>(&'a self, _endpoint: &'a Endpoint, _call: Purpose<'a>) -> Admitted<'a> {
        Box::pin(async {
            let call = self.0.call().await;
            self.0.turn(Destination::admits).await?;
            Ok(call)
        })
    }

    fn saw(&self, _call: &Seen<'_>) {}
}
