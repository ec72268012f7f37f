//! Receipts that are posted steadily all along, as careful clients do.

use std::time::Duration;

use anyhow::Context;
use end_to_end::{Api, Posted, fixture, fresh, read};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval};

use crate::plan::POSTED;

/// How long a client repeats its post.
const PATIENCE: Duration = Duration::from_mins(1);
/// So many items at most: the hardest receipt of the fixture alone takes longer than all others.
const ITEMS: usize = 10;

/// Posting in the background.
#[derive(Debug)]
pub struct Fresh {
    posting: JoinHandle<anyhow::Result<Vec<Posted>>>,
    stop: watch::Sender<bool>,
}

impl Fresh {
    /// Posts to each of `apis` in turn until [`stop`](Self::stop) is called.
    pub fn start(apis: Vec<Api>) -> anyhow::Result<Self> {
        let mut templates = read(&fixture("valid.ndjson"))?;
        templates.retain(|receipt| receipt["items"].as_array().is_some_and(|items| items.len() <= ITEMS));
        let (stop, stopped) = watch::channel(false);
        let posting = tokio::spawn(post(apis, templates, stopped));
        Ok(Self { posting, stop })
    }

    /// Ends it; answers all that was accepted.
    ///
    /// # Errors
    /// When a post was refused or not answered.
    pub async fn stop(self) -> anyhow::Result<Vec<Posted>> {
        self.stop.send_replace(true);
        self.posting.await?
    }
}

async fn post(
    apis: Vec<Api>,
    templates: Vec<Value>,
    mut stopped: watch::Receiver<bool>,
) -> anyhow::Result<Vec<Posted>> {
    let mut pace = interval(Duration::from_secs(1) / POSTED);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut posts, mut posted) = (JoinSet::new(), Vec::new());
    let mut to = apis.iter().cycle().cloned();
    // A round of templates at a time: external ids are of a run and a round.
    'rounds: loop {
        for receipt in fresh(&templates, templates.len()) {
            tokio::select! {
                _ = pace.tick() => {}
                _ = stopped.changed() => break 'rounds,
            }
            let Some(api) = to.next() else { break 'rounds };
            posts.spawn(async move { one(&api, &receipt).await });
            while let Some(accepted) = posts.try_join_next() {
                posted.push(accepted??);
            }
        }
    }
    while let Some(accepted) = posts.join_next().await {
        posted.push(accepted??);
    }
    Ok(posted)
}

async fn one(api: &Api, receipt: &Value) -> anyhow::Result<Posted> {
    let answer = api.post_until_answered(receipt, PATIENCE).await?;
    anyhow::ensure!(
        answer.is_accepted(),
        "a post was answered {}: {}",
        answer.status,
        answer.body
    );
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(Posted {
        id: answer.id().context("an answer without an id")?.to_owned(),
        merchant: text(&receipt["merchant"]["id"]),
        external_id: text(&receipt["external_id"]),
    })
}
