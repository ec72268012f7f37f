//! One connection to an endpoint, for one call at a time.
//!
//! Who makes a call drives its connection himself. hyper-util's client has a task for each connection, and for each answer with
//! a body another: they are woken and polled beside the caller, which took 6 % of an orchestrator's time and 9 % of a
//! dispatcher's.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::response::Parts;
use http::{Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::task::coop::unconstrained;
use tower_service::Service;

/// The most of an answer that is read.
const BODY: usize = 1024 * 1024;

/// Opens connections.
pub(super) type Connector = HttpsConnector<HttpConnector>;
type Stream = <Connector as Service<Uri>>::Response;
/// Why a connection could not be opened.
pub(super) type Unopened = <Connector as Service<Uri>>::Error;

/// What a request carries. Boxed: hyper keeps room for 64 requests a connection, which is less by a fifth with it.
pub(super) type Sent = Box<Full<Bytes>>;

/// A connection that is open, as far as was seen.
pub(super) struct Connection {
    requests: SendRequest<Sent>,
    /// `None` once it has ended.
    driven: Option<Box<http1::Connection<Stream, Sent>>>,
}

/// What a request came to that was not answered.
pub(super) enum Unanswered {
    /// Nothing of it was written: here it is again.
    Unsent(Box<Request<Sent>>, hyper::Error),
    /// It may have arrived.
    Lost(hyper::Error),
}

impl Connection {
    /// Opens one, with TLS where the origin wants it.
    pub(super) async fn open(connector: &Connector, origin: &Uri) -> Result<Self, Unopened> {
        let mut connector = connector.clone();
        poll_fn(|cx| connector.poll_ready(cx)).await?;
        let stream = connector.call(origin.clone()).await?;
        let (requests, driven) = http1::handshake(stream).await?;
        Ok(Self {
            requests,
            driven: Some(Box::new(driven)),
        })
    }

    /// Sends a request and reads its answer to the end; the body is `None` if it broke off, or is too large.
    pub(super) async fn ask(&mut self, request: Request<Sent>) -> Result<(Parts, Option<Bytes>), Unanswered> {
        let response = self.requests.try_send_request(request);
        let response = self.drive(response).await.map_err(|mut error| {
            let unsent = error.take_message();
            let error = error.into_error();
            match unsent {
                Some(request) => Unanswered::Unsent(Box::new(request), error),
                None => Unanswered::Lost(error),
            }
        })?;
        let (head, body) = response.into_parts();
        Ok((head, self.read(body).await))
    }

    /// Whether it can take another request: the answer before was read to its end, and the connection stays open.
    pub(super) fn is_free(&mut self) -> bool {
        // The end of the answer may not have been looked at yet.
        (self.requests.is_ready() && self.driven.is_some()) || (self.is_open() && self.requests.is_ready())
    }

    /// Whether it has not ended; looks for what has happened to it.
    pub(super) fn is_open(&mut self) -> bool {
        self.poll(&mut Context::from_waker(Waker::noop()));
        self.driven.is_some()
    }

    async fn read(&mut self, mut body: Incoming) -> Option<Bytes> {
        let mut read = Bytes::new();
        let mut rest = BytesMut::new();
        while let Some(frame) = self.drive(body.frame()).await {
            let Ok(chunk) = frame.ok()?.into_data() else { continue };
            if read.len() + rest.len() + chunk.len() > BODY {
                return None;
            }
            // Most come in one piece.
            if read.is_empty() && rest.is_empty() {
                read = chunk;
            } else {
                rest.extend_from_slice(&std::mem::take(&mut read));
                rest.extend_from_slice(&chunk);
            }
        }
        Some(if rest.is_empty() { read } else { rest.freeze() })
    }

    /// Waits for what the connection brings.
    async fn drive<F: Future>(&mut self, awaited: F) -> F::Output {
        // Nothing but the connection moves what is awaited, so it needs no waker of its own, which would only have the caller
        // polled once more; without one it must not be held up by the task's budget either.
        let mut awaited = pin!(unconstrained(awaited));
        poll_fn(|cx| {
            let mut nobody = Context::from_waker(Waker::noop());
            if let Poll::Ready(output) = awaited.as_mut().poll(&mut nobody) {
                return Poll::Ready(output);
            }
            self.poll(cx);
            awaited.as_mut().poll(&mut nobody)
        })
        .await
    }

    /// Moves it on. When it has ended it is dropped, which tells whoever waits for it.
    fn poll(&mut self, cx: &mut Context<'_>) {
        if let Some(driven) = &mut self.driven
            && Pin::new(driven).poll(cx).is_ready()
        {
            self.driven = None;
        }
    }
}
