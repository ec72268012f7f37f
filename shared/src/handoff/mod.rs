//! The hand-off: one quorum queue a destination, messages that carry ids, epochs and trace contexts.

pub mod message;

pub use message::{Handed, Unreadable, decode, encode};

use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties};

/// How long the broker may take to answer before the connection is given up and made anew: a blocked connection
/// answers nothing for as long as it is blocked.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The queue of a destination.
#[must_use]
pub fn queue(prefix: &str, destination: &str) -> String {
    format!("{prefix}.{destination}")
}

/// Connects without recovery by the library: whoever holds the connection makes it anew, with everything on it.
///
/// # Errors
/// When the broker does not answer in [`PATIENCE`] or refuses.
pub async fn connect(url: &str, name: &str) -> Result<Connection, lapin::Error> {
    let properties = ConnectionProperties::default().with_connection_name(name.to_owned().into());
    match tokio::time::timeout(PATIENCE, Connection::connect(url, properties)).await {
        Ok(connected) => connected,
        Err(_) => Err(timed_out()),
    }
}

/// The error of a broker that did not answer.
#[must_use]
pub fn timed_out() -> lapin::Error {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

/// Where a broker is, without the secrets of its URL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Address {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// Where the broker of an AMQP URL is.
#[must_use]
pub fn address(url: &str) -> Address {
    url.parse::<AMQPUri>()
        .map(|uri| Address {
            host: uri.authority.host,
            port: uri.authority.port,
        })
        .unwrap_or_default()
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
