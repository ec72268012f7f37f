//! The life of a process: its heartbeat, and how it ends.

pub mod heartbeat;
pub mod holdings;
pub mod scans;

pub use heartbeat::Heart;
pub use holdings::{Holding, Holdings};
pub use scans::Scans;

use std::future::Future;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that is cancelled by SIGTERM or SIGINT.
///
/// # Errors
/// When the signals cannot be caught.
pub fn stop_on_signal() -> std::io::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let cancelled = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping: nothing more is taken; what is in flight is finished");
        cancelled.cancel();
    });
    Ok(stop)
}

/// How long what is in flight may take to finish once the process is told to stop.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(20);

/// Lets `work` end by itself, which it does some time after `stop`; `None` when it did not within the limit.
pub async fn finish<T>(stop: &CancellationToken, work: impl Future<Output = T>) -> Option<T> {
    let limit = async {
        stop.cancelled().await;
        tokio::time::sleep(SHUTDOWN_LIMIT).await;
    };
    tokio::select! {
        ended = work => Some(ended),
        () = limit => {
            tracing::warn!("the shutdown limit has passed; the rest is left to the healer");
            None
        }
    }
}
