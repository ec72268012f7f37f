//! The closed loop: so many receipts under way, and room for a new one with each that is done. It is the simulator that counts
//! what is done: which receipt it was does not matter, and nothing that is measured is asked.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::ledger::Ledger;

/// Receipts under way, counted until it is dropped.
#[derive(Debug)]
pub struct UnderWay {
    room: Arc<Semaphore>,
    done: watch::Receiver<u64>,
    looking: JoinHandle<()>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

impl UnderWay {
    /// How often the simulator is asked: room is made half of it late on average.
    pub const LOOK: Duration = Duration::from_millis(20);

    /// Room for `most`; what was done before does not count.
    ///
    /// # Errors
    /// When the simulator does not answer.
    pub async fn begin(ledger: &Ledger, most: usize) -> anyhow::Result<Self> {
        let before = ledger.done().await?;
        let room = Arc::new(Semaphore::new(most));
        let (seen, done) = watch::channel(0);
        let looking = tokio::spawn(look(ledger.clone(), before, Arc::clone(&room), seen));
        Ok(Self { room, done, looking })
    }

    /// Waits until there is room for one more, and takes it.
    ///
    /// # Errors
    /// When the simulator answers no longer.
    pub async fn enter(&self) -> anyhow::Result<()> {
        self.room
            .acquire()
            .await
            .context("nobody counts what is done")?
            .forget();
        Ok(())
    }

    /// Waits until so many are done.
    ///
    /// # Errors
    /// When the simulator answers no longer.
    pub async fn until(&self, count: u64) -> anyhow::Result<()> {
        let mut done = self.done.clone();
        let turned = done.wait_for(|done| *done >= count).await;
        turned.map(drop).context("nobody counts what is done")
    }
}

/// Makes room for as many as were done since the last look, and says how many are.
async fn look(ledger: Ledger, before: u64, room: Arc<Semaphore>, seen: watch::Sender<u64>) {
    let mut look = interval(UnderWay::LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let Ok(done) = ledger.done().await else {
            return room.close();
        };
        let done = done.saturating_sub(before);
        room.add_permits(usize::try_from(done.saturating_sub(*seen.borrow())).unwrap_or_default());
        seen.send_if_modified(|seen| {
            let more = done > *seen;
            *seen = done.max(*seen);
            more
        });
    }
}
