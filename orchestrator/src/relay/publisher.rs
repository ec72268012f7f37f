//! Publishes with pipelined confirms, on a connection of its own that is made anew for ever.
//!
//! A message stays in memory until it is confirmed and is published again on the next connection: doubled is harmless.
//! A confirm is not bookkeeping; a returned message says that the topology is gone, and it is declared again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lapin::message::BasicReturnMessage;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation, Event};
use shared::handoff::{self, Address, Handed, PATIENCE};
use shared::store::relay::Queued;
use shared::telemetry::TraceContext;
use shared::telemetry::names::{
    ERROR_TYPE, MESSAGING_BATCH_MESSAGE_COUNT, MESSAGING_DESTINATION_NAME, MESSAGING_MESSAGE_ID,
    MESSAGING_OPERATION_NAME, MESSAGING_OPERATION_TYPE, MESSAGING_RABBITMQ_DESTINATION_ROUTING_KEY, MESSAGING_SYSTEM,
    RECEIPT_ID, SERVER_ADDRESS, SERVER_PORT, STATUS,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::field::Empty;
use tracing::{Span, info_span};

use super::bunch::{Bunch, bunches};

/// The most publishes without a confirm.
const WINDOW: usize = 500;
/// How often the queues' depths are read.
const GAUGE: Duration = Duration::from_secs(1);

/// A receipt to publish.
#[derive(Clone)]
pub struct Publication {
    /// Where it goes.
    pub destination: String,
    /// What the message says.
    pub receipt: Queued,
}

/// A destination's queue.
pub struct Queue {
    /// Whose it is.
    pub destination: String,
    /// Its name.
    pub name: String,
    /// The most receipts of one message.
    pub message: usize,
}

/// What is known of the broker.
#[derive(Default)]
pub struct Broker {
    connected: AtomicBool,
    ready: Mutex<BTreeMap<String, u32>>,
    error: Mutex<String>,
}

impl Broker {
    /// Whether messages can be published.
    #[must_use]
    pub fn connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Messages ready for a destination, read within the last seconds; `None` while nothing is known.
    #[must_use]
    pub fn ready(&self, destination: &str) -> Option<u32> {
        if !self.connected() {
            return None;
        }
        self.ready
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(destination)
            .copied()
    }

    /// Why it is not connected.
    #[must_use]
    pub fn error(&self) -> String {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn open(&self) {
        self.connected.store(true, Ordering::Relaxed);
    }

    fn closed(&self, reason: String) {
        self.connected.store(false, Ordering::Relaxed);
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).clear();
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }
}

/// Publishes until the inbox closes; on `stop` what is left is left to the healer.
pub async fn run(
    address: Address,
    queues: Vec<Queue>,
    mut inbox: mpsc::Receiver<Publication>,
    broker: Arc<Broker>,
    stop: CancellationToken,
) {
    let mut unconfirmed: VecDeque<Publication> = VecDeque::new();
    let mut pause = Duration::from_millis(100);
    loop {
        let error = match session(&address, &queues, &mut inbox, &mut unconfirmed, &broker, &stop).await {
            Ok(()) => return,
            Err(error) => error,
        };
        if broker.connected() {
            pause = Duration::from_millis(100);
        }
        broker.closed(error.to_string());
        tracing::warn!(%error, "no broker to publish to");
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

async fn session(
    address: &Address,
    queues: &[Queue],
    inbox: &mut mpsc::Receiver<Publication>,
    unconfirmed: &mut VecDeque<Publication>,
    broker: &Broker,
    stop: &CancellationToken,
) -> Result<(), lapin::Error> {
    let connection = address.connect("chekhov-orchestrator publish").await?;
    let mut events = Box::pin(connection.events_listener());
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    gauge(&channel, queues, broker).await?;
    broker.open();
    tracing::info!("publishing");

    let mut again = std::mem::take(unconfirmed);
    let mut sent: BTreeMap<u64, Bunch> = BTreeMap::new();
    let mut number = 0;
    let mut confirms = FuturesUnordered::new();
    let mut heard = Instant::now();
    let mut blocked = false;
    let mut tick = interval(GAUGE);
    let result = loop {
        let room = WINDOW.saturating_sub(sent.len());
        tokio::select! {
            biased;
            Some(event) = events.next() => match event {
                // The broker is short of memory or disk: it reads nothing more from here until it has some again.
                Event::ConnectionBlocked(reason) => {
                    blocked = true;
                    broker.closed(format!("blocked: {reason}"));
                    tracing::warn!(reason, "the broker takes no messages");
                }
                Event::ConnectionUnblocked => {
                    (blocked, heard) = (false, Instant::now());
                    broker.open();
                }
                _ => {}
            },
            Some((n, outcome)) = confirms.next(), if !confirms.is_empty() => {
                heard = Instant::now();
                let outcome: Result<Confirmation, lapin::Error> = outcome;
                match outcome {
                    Ok(Confirmation::Ack(None) | Confirmation::NotRequested) => drop(sent.remove(&n)),
                    // The returned message may be another than this confirm's: declare the topology, publish what came back.
                    Ok(Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned))) => {
                        sent.remove(&n);
                        metrics::counter!("chekhov_returned_messages_total").increment(1);
                        if let Err(error) = gauge(&channel, queues, broker).await { break Err(error) }
                        again.extend(read(&returned, queues));
                    }
                    Ok(Confirmation::Nack(None)) => again.extend(sent.remove(&n).into_iter().flatten()),
                    Err(error) => break Err(error),
                }
            }
            publications = next(&mut again, inbox, room), if room > 0 && !blocked => {
                if publications.is_empty() { break Ok(()) }
                if sent.is_empty() {
                    heard = Instant::now();
                }
                // One after the other with nothing between: the connection's thread is woken for all of them together.
                let mut bunches = bunches(publications, queues).into_iter();
                let mut failed = None;
                for bunch in bunches.by_ref() {
                    number += 1;
                    let n = number;
                    let published = timeout(PATIENCE, publish(&channel, address, queues, &bunch)).await;
                    sent.insert(n, bunch);
                    match published {
                        Ok(Ok(confirm)) => {
                            confirms.push(async move { (n, confirm.await) });
                            continue;
                        }
                        Ok(Err(error)) => failed = Some(error),
                        // Blocked before it said so: the frame goes out when it is unblocked, and once more from here.
                        Err(_) if connection.status().blocked() => again.extend(sent.remove(&n).into_iter().flatten()),
                        Err(_) => failed = Some(handoff::timed_out()),
                    }
                    break;
                }
                // The rest waits until this connection is unblocked, or for the next one.
                again.extend(bunches.flatten());
                if let Some(error) = failed { break Err(error) }
            }
            _ = tick.tick(), if !blocked => {
                if !sent.is_empty() && heard.elapsed() > PATIENCE { break Err(handoff::timed_out()) }
                if let Err(error) = gauge(&channel, queues, broker).await { break Err(error) }
            }
            // What a blocked broker does not take is left to the healer: stopping does not wait for it.
            () = stop.cancelled(), if blocked || (inbox.is_empty() && again.is_empty() && sent.is_empty()) => break Ok(()),
        }
    };
    // Whatever was not confirmed goes out again on the next connection.
    unconfirmed.extend(sent.into_values().flatten());
    unconfirmed.extend(again);
    let _ = timeout(Duration::from_secs(1), connection.close(200, "bye".into())).await;
    result
}

/// What a returned message handed off, to be published again.
fn read(returned: &BasicReturnMessage, queues: &[Queue]) -> Vec<Publication> {
    let Some(queue) = queues.iter().find(|queue| queue.name == returned.routing_key.as_str()) else {
        return Vec::new();
    };
    let receipts = handoff::decode(&returned.data, &returned.properties).unwrap_or_default();
    let publication = |handed: Handed| Publication {
        destination: queue.destination.clone(),
        receipt: Queued {
            id: handed.id,
            epoch: handed.epoch,
            traceparent: handed.trace.traceparent,
            tracestate: handed.trace.tracestate,
        },
    };
    receipts.into_iter().map(publication).collect()
}

/// What is to be published next, at most `room`; empty once the inbox is closed.
async fn next(
    again: &mut VecDeque<Publication>,
    inbox: &mut mpsc::Receiver<Publication>,
    room: usize,
) -> Vec<Publication> {
    if !again.is_empty() {
        return again.drain(..room.min(again.len())).collect();
    }
    let mut publications = Vec::new();
    inbox.recv_many(&mut publications, room).await;
    publications
}

async fn publish(
    channel: &Channel,
    broker: &Address,
    queues: &[Queue],
    bunch: &Bunch,
) -> Result<lapin::PublisherConfirm, lapin::Error> {
    let queue = queues
        .iter()
        .find(|queue| queue.destination == bunch.destination)
        .map(|queue| queue.name.as_str())
        .unwrap_or_default();
    // Each receipt's trace has its own.
    let hand = |receipt| hand(receipt, queue, broker, bunch.receipts.len());
    let (spans, handed): (Vec<_>, Vec<_>) = bunch.receipts.iter().map(hand).unzip();
    let (body, properties) = handoff::encode(&handed).map_err(std::io::Error::other)?;
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let published = channel
        .basic_publish("".into(), queue.into(), options, &body, properties)
        .await;
    if published.is_err() {
        for span in &spans {
            span.record(STATUS, "ERROR");
            span.record(ERROR_TYPE, "not_sent");
        }
    }
    drop(spans);
    published
}

/// A receipt as its message says it, with the span of its publishing; so many share the message.
fn hand(receipt: &Queued, queue: &str, broker: &Address, together: usize) -> (Span, Handed) {
    let intake = TraceContext {
        traceparent: receipt.traceparent.clone(),
        tracestate: receipt.tracestate.clone(),
    };
    let span = info_span!(
        target: "chekhov", "publish", otel.name = %format_args!("publish {queue}"), otel.kind = "producer",
        otel.status_code = Empty, { MESSAGING_SYSTEM } = "rabbitmq", { MESSAGING_OPERATION_NAME } = "publish",
        { MESSAGING_OPERATION_TYPE } = "send", { MESSAGING_DESTINATION_NAME } = queue,
        { MESSAGING_RABBITMQ_DESTINATION_ROUTING_KEY } = queue, { MESSAGING_BATCH_MESSAGE_COUNT } = Empty,
        { MESSAGING_MESSAGE_ID } = %format_args!("{}:{}", receipt.id, receipt.epoch),
        { SERVER_ADDRESS } = broker.host, { SERVER_PORT } = broker.port, { RECEIPT_ID } = %receipt.id,
        { ERROR_TYPE } = Empty,
    );
    if together > 1 {
        span.record(MESSAGING_BATCH_MESSAGE_COUNT, together);
    }
    intake.adopt(&span);
    let handed = Handed {
        id: receipt.id,
        epoch: receipt.epoch,
        trace: intake.of(&span),
    };
    (span, handed)
}

/// Declares every queue, which also tells how much is ready in it.
async fn gauge(channel: &Channel, queues: &[Queue], broker: &Broker) -> Result<(), lapin::Error> {
    for Queue { destination, name, .. } in queues {
        let ready = handoff::declare(channel, name).await?;
        metrics::gauge!("chekhov_ready_messages", "destination" => destination.clone()).set(f64::from(ready));
        broker
            .ready
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(destination.clone(), ready);
    }
    Ok(())
}
