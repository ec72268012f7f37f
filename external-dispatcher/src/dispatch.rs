//! The work on one handed-off receipt: read, wait for the gate, claim, acknowledge, call, commit the outcome.
//!
//! From the claim's commit on the row, not the message, is the work. A stale message (another epoch) is acknowledged
//! and counted; it takes no turn at the gate.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use shared::destination::State;
use shared::handoff::Handed;
use shared::life::{Heart, Holdings};
use shared::pipeline::{Pipeline, Subject, Verdict};
use shared::stage::next::{self, Holder, Kept};
use shared::stage::{Attempt, Endpoints, LimitKeys, Proofs, Shut, Unmade, Versions, attempt, sends, versions};
use shared::store::StoreError;
use shared::store::claim::{self, Dispatch, DispatchBatch};
use shared::store::group::Group;
use shared::store::line::Line;
use shared::store::load::{self, Work};
use shared::store::record::Send;
use shared::store::step::{self, Step, StepBatch, Stepped, To};
use shared::telemetry::TraceContext;
use sqlx::PgPool;
use tokio::sync::{Mutex, OwnedSemaphorePermit};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, info_span};

use crate::acknowledgements::Delivered;
use crate::gate::{Coming, Counted, Gate};
use crate::health::Health;
use crate::turns::Turns;

/// How long a read of what was handed off may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a dispatcher whose heartbeats fail looks whether they do still.
const WEAK: Duration = Duration::from_millis(200);
/// Why deliveries were not started.
#[derive(Debug, thiserror::Error)]
pub enum Untaken {
    /// The destination takes no calls now.
    #[error("the destination takes no calls now")]
    Shut,
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Dispatches the receipts of one destination.
pub struct Dispatcher {
    /// The destination's name.
    pub destination: String,
    /// Its queue.
    pub queue: String,
    /// Its gate.
    pub gate: Gate,
    /// What is made of its calls.
    pub health: Arc<Health>,
    /// The database.
    pub pool: PgPool,
    /// The connection that receipts are read on.
    pub line: Mutex<Line>,
    /// This instance.
    pub heart: Arc<Heart>,
    /// Compiled pipelines.
    pub versions: Arc<Versions>,
    /// Where calls go.
    pub endpoints: Arc<Endpoints>,
    /// What look-ups have proved to work.
    pub proofs: Arc<Proofs>,
    /// By what the next destinations count calls.
    pub limit_keys: Arc<LimitKeys>,
    /// The writer of claims.
    pub claims: Group<DispatchBatch>,
    /// The writer of outcomes.
    pub steps: Group<StepBatch>,
    /// What is in hand.
    pub holdings: Holdings,
    /// What is in flight.
    pub tracker: TaskTracker,
    /// Set while the process stops.
    pub stop: CancellationToken,
}

/// A receipt whose message was not stale when it was read.
pub struct Live {
    receipt: Handed,
    delivery: Delivered,
    work: Work,
    wanted: Counted,
}

impl Dispatcher {
    /// Reads what was handed off; what is stale is settled at once, and takes no turn at the gate.
    ///
    /// # Errors
    /// When the database does not answer: unacknowledged, the deliveries go back with their connection.
    pub async fn read(&self, handed: Vec<(Handed, Delivered)>) -> Result<Vec<Live>, StoreError> {
        let ids: Vec<_> = handed.iter().map(|(receipt, _)| receipt.id).collect();
        let works = {
            let mut line = self.line.lock().await;
            let mut connection = line.take().await?;
            let read = tokio::time::timeout(PATIENCE, load::works(&mut connection, &ids));
            let Ok(works) = read.await else {
                return Err(StoreError::Unavailable("no answer in time".to_owned()));
            };
            let works = works?;
            line.keep(connection);
            works
        };
        let mut works: HashMap<_, _> = works.into_iter().map(|work| (work.hold.id, work)).collect();
        let live = |(receipt, delivery): (Handed, Delivered)| {
            // A stale message must leave the row to the live one that may follow it.
            let live = |work: &Work| work.hold.epoch == receipt.epoch && work.hold.owner.is_nil();
            if works.get(&receipt.id).is_some_and(live) {
                works.remove(&receipt.id).map(|work| Live {
                    receipt,
                    delivery,
                    work,
                    wanted: self.gate.want(),
                })
            } else {
                stale(delivery);
                None
            }
        };
        Ok(handed.into_iter().filter_map(live).collect())
    }

    /// Starts each when the gate lets it.
    ///
    /// # Errors
    /// When some were not started: unacknowledged, the deliveries go back with their connection.
    pub async fn take(self: &Arc<Self>, mut batch: Vec<Live>, stop: &CancellationToken) -> Result<(), Untaken> {
        if self.gate.known().is_some_and(|known| known.state() == State::Draining) {
            batch = self.drain(batch).await?;
        }
        for live in batch {
            let begin = async {
                let place = self.gate.place().await;
                // What is claimed must be sent at once; while heartbeats fail nothing may be.
                while !self.heart.is_strong() {
                    tokio::time::sleep(WEAK).await;
                }
                Ok((place, self.gate.coming().await?))
            };
            let (place, coming) = match stop.run_until_cancelled(begin).await {
                None => return Ok(()),
                Some(Err(Shut)) => return Err(Untaken::Shut),
                Some(Ok(admitted)) => admitted,
            };
            let dispatcher = Arc::clone(self);
            self.tracker
                .spawn(async move { dispatcher.dispatch(live, place, coming).await });
        }
        Ok(())
    }

    /// While the destination is drained: what was never sent goes back to wait; answers the rest.
    async fn drain(&self, batch: Vec<Live>) -> Result<Vec<Live>, StoreError> {
        let is_sent = |live: &Live| live.work.standing.unresolved || live.work.standing.registered;
        let (sent, back): (Vec<_>, Vec<_>) = batch.into_iter().partition(is_sent);
        let ids: Vec<_> = back.iter().map(|live| (live.receipt.id, live.receipt.epoch)).collect();
        let reason = "handed back while its destination is drained";
        claim::hand_back(&self.pool, self.heart.id(), &ids, reason).await?;
        for live in back {
            live.delivery.settle();
        }
        Ok(sent)
    }

    async fn dispatch(&self, live: Live, _place: Option<OwnedSemaphorePermit>, coming: Coming) {
        let Live {
            receipt: handed,
            delivery,
            mut work,
            wanted,
        } = live;
        drop(wanted);
        let span = info_span!(
            target: "chekhov", "process", otel.name = %format_args!("process {}", self.queue), otel.kind = "consumer",
            messaging.system = "rabbitmq", messaging.operation.name = "process", messaging.operation.type = "process",
            messaging.destination.name = %self.queue, messaging.message.id = %format_args!("{}:{}", handed.id, handed.epoch),
            receipt.id = %handed.id,
        );
        let _holding = self.holdings.hold(handed.id);
        handed.trace.adopt(&span);
        handed.trace.link(&span);
        let trace = handed.trace.of(&span);
        async {
            let pipeline = self.versions.get(&work.pipeline).await;
            // What cannot be stored with the claim is stored by the attempt.
            let pipeline = pipeline.map(|pipeline| (attempt::subject(&work, &pipeline), pipeline));
            let send = match &pipeline {
                Ok((subject, pipeline)) => sends::opening(&self.pool, &work, pipeline, subject)
                    .await
                    .unwrap_or_default(),
                Err(_) => None,
            };
            let claim = Dispatch {
                id: work.hold.id,
                epoch: work.hold.epoch,
                owner: self.heart.id(),
                send: send.clone(),
            };
            match self.claims.commit(claim).await {
                Ok(Some(hold)) => work.hold = hold,
                Ok(None) => return stale(delivery),
                Err(error) => {
                    // Kept, the delivery would hold its place among the prefetched for ever.
                    tracing::error!(receipt.id = %work.hold.id, trace_id = work.trace_id(), %error, "the claim was refused; the healer will queue it again");
                    return delivery.settle();
                }
            }
            delivery.settle();
            match pipeline {
                Ok((subject, pipeline)) => {
                    let turns = Turns::new(&self.gate, &self.health, work.limit_key.clone(), coming);
                    self.run(work, &pipeline, subject, send, trace, &turns).await;
                }
                Err(error) => self.without_pipeline(&work, &error).await,
            }
        }
        .instrument(span)
        .await;
    }

    /// Gives back what cannot be gone on with.
    pub async fn without_pipeline(&self, work: &Work, error: &versions::Error) {
        tracing::error!(receipt.id = %work.hold.id, trace_id = work.trace_id(), %error, "no pipeline to go on with");
        let reason = format!("its pipeline cannot be used: {error}");
        let step = next::hand_back(work, To::WaitCall(versions::RETRY), reason);
        self.give_back(work, step).await;
    }

    async fn give_back(&self, work: &Work, step: Step) {
        if let Err(error) = step::commit(&self.steps, work, step).await {
            tracing::error!(receipt.id = %work.hold.id, trace_id = work.trace_id(), %error, "it could not be given back");
        }
    }

    /// Runs stages for as long as they are this destination's.
    pub async fn run(
        &self,
        mut work: Work,
        pipeline: &Pipeline,
        mut subject: Subject,
        mut opened: Option<Send>,
        trace: TraceContext,
        turns: &Turns<'_>,
    ) {
        while let Some(stage) = pipeline.stages.get(work.position) {
            let span = attempt::span(&trace, &work, stage);
            let attempting = Attempt {
                endpoints: &self.endpoints,
                admission: turns,
                heart: &self.heart,
                proofs: &self.proofs,
                pool: &self.pool,
                opened: opened.take(),
                trace: trace.of(&span),
            };
            let ended = match attempt::run(&attempting, &work, stage, &mut subject)
                .instrument(span.clone())
                .await
            {
                Ok(ended) => ended,
                Err(abandoned) => {
                    // Given back, not dropped: if it is still ours nobody else would ever come for it.
                    if !matches!(abandoned.cause, Unmade::Shut | Unmade::Limited(_)) {
                        tracing::warn!(receipt.id = %work.hold.id, trace_id = work.trace_id(), cause = %abandoned.cause, "given back");
                    }
                    let untried = work.counters.attempt == 0 && abandoned.calls.is_empty();
                    let to = match abandoned.cause {
                        // Nothing of its key is handed off before it may be sent.
                        _ if untried => To::WaitFirstCall,
                        Unmade::Limited(wait) => To::WaitCall(wait),
                        _ => To::WaitCall(Duration::ZERO),
                    };
                    let step = next::abandon(&work, to, abandoned);
                    return self.give_back(&work, step).await;
                }
            };
            let outcome = ended.verdict.name();
            if matches!(ended.verdict, Verdict::Success { .. }) {
                self.health.passed(&stage.name);
            }
            span.record("chekhov.outcome", outcome);
            drop(span);
            metrics::counter!("chekhov_attempts_total", "stage" => stage.name.clone(), "outcome" => outcome)
                .increment(1);
            let mut step = next::step(
                &work,
                pipeline,
                stage,
                ended,
                &subject,
                Holder::Dispatcher {
                    destination: &self.destination,
                    open: self.gate.known().is_some_and(|known| known.admits()),
                    others_pass: self.health.passes(&stage.name),
                },
                rand::random(),
            );
            if step.to == To::WaitFirstCall {
                step = self.limit_keys.on(step, &work.content);
            }
            if step.to == To::Own && self.stop.is_cancelled() {
                step.to = To::WaitCall(Duration::ZERO);
            }
            if outcome != "success" {
                // Not the reason: it may quote what an API said, and that what it was told.
                tracing::info!(receipt.id = %work.hold.id, trace_id = work.trace_id(), stage = %stage.name, outcome, "attempt");
            }
            let kept = Kept::by(&step);
            match step::commit(&self.steps, &work, step).await {
                Ok(Stepped::Stale) => {
                    metrics::counter!("chekhov_stale_steps_total").increment(1);
                    return tracing::warn!(
                        receipt.id = %work.hold.id, trace_id = work.trace_id(),
                        "somebody else has the receipt now; the step is dropped, its calls are on record"
                    );
                }
                Ok(_) => match kept {
                    Some(kept) => kept.apply(&mut work),
                    None => return,
                },
                Err(error) => {
                    return tracing::error!(
                        receipt.id = %work.hold.id, trace_id = work.trace_id(), %error,
                        "the outcome could not be stored; it will be given back as a stray"
                    );
                }
            }
        }
    }
}

fn stale(delivery: Delivered) {
    metrics::counter!("chekhov_stale_messages_total").increment(1);
    delivery.settle();
}
