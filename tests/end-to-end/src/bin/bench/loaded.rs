//! The closed loop through Chekhov: a receipt is posted for each that is done.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use end_to_end::{Poster, Receipts, Stack, UnderWay};
use serde::Deserialize;
use sqlx::{Connection, PgConnection};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

/// How long a run waits for a receipt: one that is rejected or parked is never done.
const STUCK: Duration = Duration::from_mins(1);

/// What a run took.
#[derive(Debug)]
pub struct Took {
    /// From the first post until no receipt is open any longer.
    pub whole: Duration,
    accepted: Vec<Accepted>,
}

/// What each of its receipts took.
#[derive(Debug)]
pub struct Times {
    /// From its post to its 202.
    pub acknowledgement: Vec<Duration>,
    /// From its acceptance to the end of its last internal stage, by the database's clock.
    pub early: Vec<Duration>,
    /// From its post to the transaction that ended it, by the database's clock.
    pub way: Vec<Duration>,
}

/// What a post is answered.
#[derive(Debug, Deserialize)]
struct Answer {
    id: Uuid,
}

#[derive(Debug)]
struct Accepted {
    id: Uuid,
    begun: SystemTime,
    acknowledgement: Duration,
}

/// Takes `count` receipts from post to end, `concurrency` at once. One thread posts them: handing them from one to another would
/// cost more than posting, at the expense of what is measured.
pub fn run(stack: &Stack, receipts: &Receipts, count: usize, concurrency: usize) -> anyhow::Result<Took> {
    tokio::task::block_in_place(|| {
        let one = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        one.block_on(drive(stack, receipts, count, concurrency))
    })
}

async fn drive(stack: &Stack, receipts: &Receipts, count: usize, concurrency: usize) -> anyhow::Result<Took> {
    let poster = Poster::new(stack.orchestrators[0].api.base())?;
    let mut connection = PgConnection::connect(&stack.database.url()).await?;
    let under_way = UnderWay::begin(&stack.ledger, concurrency).await?;
    let begun = Instant::now();
    let mut posts = JoinSet::new();
    let mut accepted = Vec::with_capacity(count);
    for n in 0..count {
        let entering = async {
            loop {
                tokio::select! {
                    entered = under_way.enter() => break entered,
                    Some(post) = posts.join_next() => accepted.push(post??),
                }
            }
        };
        timeout(STUCK, entering)
            .await
            .context("no receipt is done any more")??;
        posts.spawn(post(poster.clone(), receipts.body(n)));
    }
    while let Some(post) = posts.join_next().await {
        accepted.push(post??);
    }
    let rest = under_way.until(count as u64);
    timeout(STUCK, rest).await.context("some receipts are never done")??;
    // What is done has had its last answer, and is about to be final.
    while sqlx::query_scalar("select exists (select from work)")
        .fetch_one(&mut connection)
        .await?
    {
        sleep(UnderWay::LOOK).await;
    }
    Ok(Took {
        whole: begun.elapsed(),
        accepted,
    })
}

impl Took {
    /// Asks the database when each came to what: apart from the run, which does not pay for it.
    pub async fn times(&self, stack: &Stack) -> anyhow::Result<Times> {
        let ids: Vec<Uuid> = self.accepted.iter().map(|accepted| accepted.id).collect();
        let acknowledgement = self.accepted.iter().map(|accepted| accepted.acknowledgement);
        Ok(Times {
            acknowledgement: acknowledgement.collect(),
            early: early(&stack.database.url(), &ids).await?,
            way: ways(&stack.database.url(), &self.accepted).await?,
        })
    }
}

async fn post(poster: Poster, body: String) -> anyhow::Result<Accepted> {
    let (begun, clock) = (SystemTime::now(), Instant::now());
    let reply = poster.post(body).await?;
    let said = || String::from_utf8_lossy(&reply.body);
    ensure!(reply.status == 202, "a post was answered {}: {}", reply.status, said());
    let answer: Answer = serde_json::from_slice(&reply.body)?;
    Ok(Accepted {
        id: answer.id,
        begun,
        acknowledgement: clock.elapsed(),
    })
}

async fn ways(url: &str, accepted: &[Accepted]) -> anyhow::Result<Vec<Duration>> {
    let mut connection = PgConnection::connect(url).await?;
    let ids: Vec<Uuid> = accepted.iter().map(|accepted| accepted.id).collect();
    let ends: Vec<(Uuid, f64)> =
        sqlx::query_as("select id, extract(epoch from finished_at)::float8 from finished where id = any($1)")
            .bind(ids)
            .fetch_all(&mut connection)
            .await?;
    let ends: HashMap<Uuid, f64> = ends.into_iter().collect();
    let way = |accepted: &Accepted| {
        let end = ends.get(&accepted.id).context("a receipt that did not end")?;
        let begun = accepted.begun.duration_since(UNIX_EPOCH)?.as_secs_f64();
        Ok(Duration::from_secs_f64((end - begun).max(0.0)))
    };
    accepted.iter().map(way).collect()
}

/// From each receipt's acceptance to the end of its last internal stage, by the database's clock.
pub async fn early(url: &str, ids: &[Uuid]) -> anyhow::Result<Vec<Duration>> {
    let mut connection = PgConnection::connect(url).await?;
    let seconds: Vec<f64> = sqlx::query_scalar(
        "select extract(epoch from calls.stored_at - receipts.accepted_at)::float8 from receipts join calls on calls.receipt = receipts.id
         where calls.stage = 'document' and calls.result is not null and receipts.id = any($1)",
    )
    .bind(ids)
    .fetch_all(&mut connection)
    .await?;
    ensure!(
        seconds.len() == ids.len(),
        "results of {} receipts, of {} posted",
        seconds.len(),
        ids.len()
    );
    Ok(seconds
        .into_iter()
        .map(|seconds| Duration::from_secs_f64(seconds.max(0.0)))
        .collect())
}
