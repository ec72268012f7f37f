//! The hand-off: one quorum queue a destination, messages that carry ids, epochs and trace contexts.

mod address;
pub mod message;

pub use address::Address;
pub use message::{Handed, Unreadable, decode, encode};

use std::time::Duration;

use lapin::Channel;
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};

/// How long the broker may take to answer before the connection is given up and made anew: a blocked connection
/// answers nothing for as long as it is blocked.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The queue of a destination.
#[must_use]
pub fn queue(prefix: &str, destination: &str) -> String {
    format!("{prefix}.{destination}")
}

/// The error of a broker that did not answer.
#[must_use]
pub fn timed_out() -> lapin::Error {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

/// Declares a destination's queue and answers how many messages are ready in it.
///
/// # Errors
/// When the broker refuses, for example because the queue exists as another kind.
pub async fn declare(channel: &Channel, queue: &str) -> Result<u32, lapin::Error> {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let declared = channel.queue_declare(queue.into(), options, arguments);
    match tokio::time::timeout(PATIENCE, declared).await {
        Ok(queue) => Ok(queue?.message_count()),
        Err(_) => Err(timed_out()),
    }
}
