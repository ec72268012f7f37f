//! Instances are replaced one after the other while receipts are posted: nobody's post fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use end_to_end::{Answer, Api, Invariants, Options, Posted, Stack, eventually};
use serde_json::Value;
use tokio::time::Instant;

use super::{all_registered, quick, receipts};

/// A client as a load balancer makes one: an instance that refuses is left alone for as long as it says, and the receipt is
/// posted to the next one. A connection refused, or a 503 with `Retry-After`, is a refusal; anything else but acceptance is a
/// failed post.
struct Client {
    instances: Vec<(Api, Instant)>,
    turn: usize,
}

impl Client {
    async fn post(&mut self, receipt: &Value) -> Result<Posted, String> {
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            self.turn += 1;
            let turn = self.turn % self.instances.len();
            if let Some(earliest) = self.instances.iter().map(|(_, open_at)| *open_at).min() {
                tokio::time::sleep_until(earliest).await;
            }
            let (api, open_at) = &mut self.instances[turn];
            if Instant::now() < *open_at {
                continue;
            }
            let closed = match api.post(receipt).await {
                Ok(answer) if answer.is_accepted() => {
                    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                    return Ok(Posted {
                        id: answer.id().unwrap_or_default().to_owned(),
                        merchant: text(&receipt["merchant"]["id"]),
                        external_id: text(&receipt["external_id"]),
                    });
                }
                Ok(Answer {
                    status: 503,
                    retry_after: Some(seconds),
                    ..
                }) => Duration::from_secs(seconds),
                Ok(answer) => return Err(format!("{}: {}", answer.status, answer.body)),
                Err(error)
                    if error
                        .downcast_ref::<reqwest::Error>()
                        .is_some_and(reqwest::Error::is_connect) =>
                {
                    Duration::from_secs(1)
                }
                Err(error) => return Err(format!("{error:#}")),
            };
            *open_at = Instant::now() + closed;
        }
        Err("nobody took it".to_owned())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_fails_no_post() {
    let options = Options {
        orchestrators: 2,
        dispatchers: 2,
        ..quick()
    };
    let mut stack = Stack::start(&options).await.unwrap();
    let invariants = Invariants::watch(&stack.database);
    let apis: Vec<Api> = stack.orchestrators.iter().map(|member| member.api.clone()).collect();
    let (done, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|client| {
            let (apis, done, count) = (apis.clone(), Arc::clone(&done), Arc::clone(&count));
            tokio::spawn(async move {
                let instances = apis.into_iter().map(|api| (api, Instant::now())).collect();
                let mut client = Client {
                    instances,
                    turn: client,
                };
                let mut posted = Vec::new();
                for receipt in receipts(2_000) {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    posted.push(client.post(&receipt).await);
                    count.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(40)).await;
                }
                posted
            })
        })
        .collect();

    let directory = stack.directory().to_path_buf();
    for member in stack.orchestrators.iter_mut().chain(&mut stack.dispatchers) {
        let before = count.load(Ordering::Relaxed);
        eventually(Duration::from_secs(30), "receipts are posted", async || {
            count.load(Ordering::Relaxed) >= before + 20
        })
        .await;
        let status = member.process.terminate(Duration::from_secs(25)).await.unwrap();
        assert!(status.success(), "{}", member.process.last_words());
        member.restart(&directory).await.unwrap();
    }
    done.store(true, Ordering::Relaxed);
    for client in clients {
        for posted in client.await.unwrap() {
            stack.posted.push(posted.unwrap());
        }
    }
    stack.settled(Duration::from_mins(1)).await;
    all_registered(&stack).await;
    invariants.hold().await;
}
