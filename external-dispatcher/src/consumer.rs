//! Reads a destination's queue, for ever: any error makes the connection, the channel and the consumer anew.
//!
//! The library's own recovery stays off: it brings a consumer back without saying so, and hands out deliveries of the
//! dead connection. A watchdog compares what the broker has ready with what arrives, because a consumer can go deaf
//! without an error.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, Consumer};
use shared::handoff::{self, Handed, PATIENCE};
use tokio::time::{Instant, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::acknowledgements::{Acknowledgements, Delivered};
use crate::dispatch::Dispatcher;

/// How often the watchdog looks.
const WATCH: Duration = Duration::from_secs(5);
/// Deliveries that are taken at once.
const CHUNK: usize = 64;

/// Whether a destination's queue is being read.
#[derive(Default)]
pub struct Reading(std::sync::Mutex<Option<String>>);

impl Reading {
    /// Why it is not, if it is not.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    pub(crate) fn set(&self, error: Option<String>) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = error;
    }
}

/// Reads the queue of `dispatcher`'s destination until `stop`.
pub async fn run(
    dispatcher: Arc<Dispatcher>,
    url: shared::configuration::Secret,
    queue: String,
    reading: Arc<Reading>,
    stop: CancellationToken,
) {
    reading.set(Some("not connected yet".to_owned()));
    let mut pause = Duration::from_millis(100);
    loop {
        let begun = Instant::now();
        let error = match session(&dispatcher, url.expose(), &queue, &reading, &stop).await {
            Ok(()) => return,
            Err(error) => error,
        };
        reading.set(Some(error.to_string()));
        tracing::warn!(%error, %queue, "the queue is not being read");
        if begun.elapsed() > Duration::from_secs(10) {
            pause = Duration::from_millis(100);
        }
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

async fn session(
    dispatcher: &Arc<Dispatcher>,
    url: &str,
    queue: &str,
    reading: &Reading,
    stop: &CancellationToken,
) -> Result<(), lapin::Error> {
    let connection = handoff::connect(url, "chekhov-external-dispatcher consume").await?;
    let (watching, channel, consumer) =
        match timeout(PATIENCE, consume(&connection, dispatcher.gate().prefetch(), queue)).await {
            Ok(consuming) => consuming?,
            Err(_) => return Err(handoff::timed_out()),
        };
    reading.set(None);
    tracing::info!(%queue, prefetch = dispatcher.gate().prefetch(), "reading");

    let acknowledgements = Acknowledgements::new(channel);
    // A task of its own: it goes on while deliveries wait at the gate.
    let acknowledging = tokio::spawn(Arc::clone(&acknowledgements).run());
    let mut deliveries = consumer.ready_chunks(CHUNK);
    let mut watch = interval(WATCH);
    let mut heard = Instant::now();
    let result = loop {
        tokio::select! {
            () = stop.cancelled() => break Ok(()),
            chunk = deliveries.next() => {
                let Some(chunk) = chunk else { break Err(gone()) };
                let (handed, failed) = read(chunk, &acknowledgements);
                if !handed.is_empty()
                    && let Err(error) = dispatcher.take(handed, stop).await
                {
                    break Err(std::io::Error::other(error.to_string()).into());
                }
                // Not before: while they waited at the gate nothing could be heard.
                heard = Instant::now();
                if let Some(error) = failed { break Err(error) }
            }
            _ = watch.tick() => match handoff::declare(&watching, queue).await {
                Ok(ready) if ready > 0 && heard.elapsed() > WATCH * 2 => break Err(gone()),
                Ok(_) => {}
                Err(error) => break Err(error),
            },
        }
    };
    acknowledging.abort();
    acknowledgements.flush().await;
    // Deliveries not acknowledged go back to the queue with the connection.
    let _ = timeout(PATIENCE, connection.close(200, "bye".into())).await;
    result
}

/// A consumer, on a channel of its own beside the watchdog's.
async fn consume(
    connection: &Connection,
    prefetch: u16,
    queue: &str,
) -> Result<(Channel, Channel, Consumer), lapin::Error> {
    let watching = connection.create_channel().await?;
    handoff::declare(&watching, queue).await?;
    let channel = connection.create_channel().await?;
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let consumer = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default());
    let consumer = consumer.await?;
    Ok((watching, channel, consumer))
}

fn gone() -> lapin::Error {
    std::io::Error::other("the consumer was cancelled or went deaf").into()
}

/// Reads messages; what cannot be read is logged, counted and acknowledged, since no repeat would make it readable.
fn read(
    chunk: Vec<Result<Delivery, lapin::Error>>,
    acknowledgements: &Arc<Acknowledgements>,
) -> (Vec<(Handed, Delivered)>, Option<lapin::Error>) {
    let mut handed = Vec::with_capacity(chunk.len());
    for delivery in chunk {
        let delivery = match delivery {
            Ok(delivery) => delivery,
            Err(error) => return (handed, Some(error)),
        };
        let receipts = handoff::decode(&delivery.data, &delivery.properties).unwrap_or_else(|error| {
            tracing::error!(%error, "acknowledged unread");
            metrics::counter!("chekhov_unreadable_messages_total").increment(1);
            Vec::new()
        });
        let parts = acknowledgements.received(delivery.delivery_tag, receipts.len());
        handed.extend(receipts.into_iter().zip(parts));
    }
    (handed, None)
}
