//! One HTTP exchange: no redirects, no repeats of the client's own, a bounded body.
//!
//! hyper, not reqwest: what that adds to each request (layers for redirects and repeats, two readings of the URL) takes a
//! tenth of an orchestrator's time.

use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Uri};
use http_body_util::Full;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::ClientConfig;

use super::connection::{Connection, Connector, Sent, Unanswered};
use crate::pipeline::Exchange;

/// How long a connection may wait for its next call.
const IDLE: Duration = Duration::from_secs(90);
/// How many may wait so long. Calls come in bursts, and what only the largest of them needed holds 30 KiB each.
const SPARE: usize = 32;
/// How long the others may, and how often is looked.
const SURPLUS: Duration = Duration::from_secs(10);

/// Makes exchanges with one endpoint, on connections that are kept.
pub(super) struct Client {
    connector: Connector,
    origin: Uri,
    kept: Arc<Mutex<Vec<Kept>>>,
    swept: Once,
}

/// The one that was used last is the last of its list.
struct Kept {
    connection: Connection,
    since: Instant,
}

/// What opens connections: with TLS where the URL says so.
pub(super) fn connector(tls: ClientConfig) -> Connector {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.enforce_http(false);
    HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(connector)
}

impl Client {
    /// A client of what is at `origin`.
    pub(super) fn new(connector: Connector, origin: Uri) -> Self {
        Self {
            connector,
            origin,
            kept: Arc::default(),
            swept: Once::new(),
        }
    }

    /// Makes one exchange, which ends within `timeout`.
    pub(super) async fn exchange(
        &self,
        method: &Method,
        target: Uri,
        headers: HeaderMap,
        body: Bytes,
        timeout: Duration,
    ) -> Exchange {
        let mut request = Request::new(Sent::new(Full::new(body)));
        *request.method_mut() = method.clone();
        *request.uri_mut() = target;
        *request.headers_mut() = headers;
        match tokio::time::timeout(timeout, self.answer(request)).await {
            Ok(exchange) => exchange,
            Err(_) => Exchange::Lost {
                error: "no complete answer in time".to_owned(),
            },
        }
    }

    async fn answer(&self, mut request: Request<Sent>) -> Exchange {
        // One that was kept may have been closed meanwhile. As long as nothing was sent on it, another is as good.
        while let Some(connection) = self.take() {
            match self.ask(connection, request).await {
                Ok(exchange) => return exchange,
                Err(Unanswered::Unsent(unsent, _)) => request = *unsent,
                Err(Unanswered::Lost(error)) => return Exchange::Lost { error: cause(&error) },
            }
        }
        // Boxed: it is most of a call's future, and most calls open none.
        let connection = match Box::pin(Connection::open(&self.connector, &self.origin)).await {
            Ok(connection) => connection,
            Err(error) => return Exchange::NotSent { error: cause(&*error) },
        };
        match self.ask(connection, request).await {
            Ok(exchange) => exchange,
            Err(Unanswered::Unsent(_, error)) => Exchange::NotSent { error: cause(&error) },
            Err(Unanswered::Lost(error)) => Exchange::Lost { error: cause(&error) },
        }
    }

    async fn ask(&self, mut connection: Connection, request: Request<Sent>) -> Result<Exchange, Unanswered> {
        let (head, body) = connection.ask(request).await?;
        if connection.is_free() {
            self.keep(connection);
        }
        Ok(Exchange::Answered {
            status: head.status.as_u16(),
            headers: head.headers,
            complete: body.is_some(),
            body: body.unwrap_or_default(),
        })
    }

    /// The one that was used last: those that are not needed grow old.
    fn take(&self) -> Option<Connection> {
        let mut kept = lock(&self.kept);
        let last = kept.pop()?;
        if last.since.elapsed() < IDLE {
            return Some(last.connection);
        }
        // The others are older.
        kept.clear();
        None
    }

    fn keep(&self, connection: Connection) {
        self.swept
            .call_once(|| drop(tokio::spawn(sweep(Arc::downgrade(&self.kept)))));
        lock(&self.kept).push(Kept {
            connection,
            since: Instant::now(),
        });
    }
}

/// Closes what nobody has used for long, as long as there is a client.
async fn sweep(kept: Weak<Mutex<Vec<Kept>>>) {
    loop {
        tokio::time::sleep(SURPLUS).await;
        let Some(kept) = kept.upgrade() else { return };
        close_unused(&mut lock(&kept));
    }
}

fn close_unused(kept: &mut Vec<Kept>) {
    let surplus = kept.len().saturating_sub(SPARE);
    let is_unused = |(at, kept): &(usize, &Kept)| {
        let patience = if *at < surplus { SURPLUS } else { IDLE };
        kept.since.elapsed() >= patience
    };
    let unused = kept.iter().enumerate().take_while(is_unused).count();
    kept.drain(..unused);
}

fn lock(kept: &Mutex<Vec<Kept>>) -> MutexGuard<'_, Vec<Kept>> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The innermost cause, without the URL: a path may carry an id of a receipt.
fn cause(error: &(dyn Error + 'static)) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

#[cfg(test)]
mod tests;
