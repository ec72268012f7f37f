//! Reads a destination's queue while the destination takes calls, for ever: any error makes the connection, the channel and
//! the consumer anew. While it is closed nothing is read, and what was prefetched goes back.
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
use shared::destination::Destination;
use shared::handoff::{self, Address, Handed, PATIENCE};
use shared::store::StoreError;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::acknowledgements::{Acknowledgements, Delivered};
use crate::dispatch::Dispatcher;
use crate::take::{Live, Untaken};

/// How long a dispatcher that joins others waits: they read the list of dispatchers every second.
const JOIN: Duration = Duration::from_secs(3);
/// How often it is looked whether the queue is to be read, while nobody says so.
const LOOK: Duration = Duration::from_secs(5);
/// How often the watchdog looks.
const WATCH: Duration = Duration::from_secs(5);
/// Deliveries that are taken at once, and receipts of one read of the database.
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
    address: Address,
    queue: String,
    reading: Arc<Reading>,
    stop: CancellationToken,
) {
    // Whoever comes gives the others time to hear of it: until then the concurrency is theirs.
    if dispatcher.gate.known().is_some_and(|known| known.dispatchers.len() > 1)
        && stop.run_until_cancelled(tokio::time::sleep(JOIN)).await.is_none()
    {
        return;
    }
    reading.set(Some("not connected yet".to_owned()));
    let mut pause = Duration::from_millis(100);
    loop {
        // Nothing is wrong with the queue while it is not to be read.
        if !dispatcher
            .gate
            .known()
            .is_some_and(|known| is_read(&dispatcher, &known))
        {
            reading.set(None);
        }
        if stop.run_until_cancelled(until(&dispatcher, true)).await.is_none() {
            return;
        }
        let begun = Instant::now();
        let open = stop.child_token();
        let shut = {
            let (open, of) = (open.clone(), Arc::clone(&dispatcher));
            tokio::spawn(async move {
                until(&of, false).await;
                open.cancel();
            })
        };
        let ended = session(&dispatcher, &address, &queue, &reading, &open).await;
        shut.abort();
        let error = match ended {
            Ok(()) if stop.is_cancelled() => return,
            Ok(()) => continue,
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

/// Whether the queue is to be read: the destination takes calls, and this dispatcher may make some of them.
fn is_read(dispatcher: &Dispatcher, known: &Destination) -> bool {
    known.admits() && dispatcher.gate.share(known) > 0
}

/// Waits until the queue is to be read, or until it is not. Looked at now and then besides: who was taken for dead has another
/// id a moment after it is on the list.
async fn until(dispatcher: &Dispatcher, wanted: bool) {
    let following = &dispatcher.health.following;
    let is = |known: &Destination| is_read(dispatcher, known) == wanted;
    while timeout(LOOK, following.until(&dispatcher.destination, is))
        .await
        .is_err()
    {}
}

async fn session(
    dispatcher: &Arc<Dispatcher>,
    address: &Address,
    queue: &str,
    reading: &Reading,
    stop: &CancellationToken,
) -> Result<(), lapin::Error> {
    let connection = address.connect("chekhov-external-dispatcher consume").await?;
    let (watching, channel, consumer) =
        match timeout(PATIENCE, consume(&connection, dispatcher.gate.prefetch(), queue)).await {
            Ok(consuming) => consuming?,
            Err(_) => return Err(handoff::timed_out()),
        };
    reading.set(None);
    tracing::info!(%queue, prefetch = dispatcher.gate.prefetch(), "reading");

    let acknowledgements = Acknowledgements::new(channel);
    // A task of its own: it goes on while deliveries wait at the gate.
    let acknowledging = tokio::spawn(Arc::clone(&acknowledgements).run());
    // So is reading: the next batch is at hand when this one has had its turns.
    let (batches, mut inbox) = mpsc::channel(1);
    let mut ahead = tokio::spawn(read_ahead(
        Arc::clone(dispatcher),
        consumer,
        Arc::clone(&acknowledgements),
        batches,
    ));
    let mut watch = interval(WATCH);
    let mut heard = Instant::now();
    let result = loop {
        tokio::select! {
            () = stop.cancelled() => break Ok(()),
            batch = inbox.recv() => {
                let Some(batch) = batch else {
                    break Err((&mut ahead).await.unwrap_or_else(|_| gone()));
                };
                match dispatcher.take(batch, stop).await {
                    Ok(()) => {}
                    Err(Untaken::Shut) => break Ok(()),
                    Err(Untaken::Store(error)) => break Err(failed(&error)),
                }
                // Not before: while they waited at the gate nothing could be heard.
                heard = Instant::now();
            }
            _ = watch.tick() => match handoff::declare(&watching, queue).await {
                Ok(ready) if ready > 0 && heard.elapsed() > WATCH * 2 => break Err(gone()),
                Ok(_) => {}
                Err(error) => break Err(error),
            },
        }
    };
    ahead.abort();
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

/// Reads deliveries and what they hand off, a batch ahead of their turns; answers why it ended.
async fn read_ahead(
    dispatcher: Arc<Dispatcher>,
    consumer: Consumer,
    acknowledgements: Arc<Acknowledgements>,
    batches: mpsc::Sender<Vec<Live>>,
) -> lapin::Error {
    let mut deliveries = consumer.ready_chunks(CHUNK);
    while let Some(chunk) = deliveries.next().await {
        let (mut handed, broken) = read(chunk, &acknowledgements);
        while !handed.is_empty() {
            let rest = handed.split_off(handed.len().min(CHUNK));
            match dispatcher.read(handed).await {
                Ok(batch) if batch.is_empty() => {}
                Ok(batch) => {
                    if batches.send(batch).await.is_err() {
                        return gone();
                    }
                }
                Err(error) => return failed(&error),
            }
            handed = rest;
        }
        if let Some(error) = broken {
            return error;
        }
    }
    gone()
}

fn failed(error: &StoreError) -> lapin::Error {
    std::io::Error::other(error.to_string()).into()
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
