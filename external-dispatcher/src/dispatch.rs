//! The work on one handed-off receipt: read, wait for the gate, claim, acknowledge, call, commit the outcome.
//!
//! From the claim's commit on the row, not the message, is the work. A stale message (another epoch) is acknowledged
//! and counted; it takes no turn at the gate.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use shared::handoff::Handed;
use shared::life::{Heart, Holdings};
use shared::pipeline::{Pipeline, Subject};
use shared::stage::next::{self, Holder, Kept};
use shared::stage::{Attempt, Endpoints, Versions, attempt, sends, versions};
use shared::store::StoreError;
use shared::store::claim::{Dispatch, DispatchBatch};
use shared::store::group::Group;
use shared::store::line::Line;
use shared::store::load::{self, Work};
use shared::store::step::{self, Step, StepBatch, Stepped, To};
use shared::telemetry::TraceContext;
use sqlx::PgPool;
use tokio::sync::{Mutex, OwnedSemaphorePermit};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, info_span};

use crate::acknowledgements::Delivered;
use crate::gate::{Gate, Turns};

/// How often a dispatcher whose heartbeats fail looks whether they do still.
const WEAK: Duration = Duration::from_millis(200);
/// Receipts of one read of the database.
const CHUNK: usize = 64;

/// Dispatches the receipts of one destination.
pub struct Dispatcher {
    /// The destination's name.
    pub destination: String,
    /// Its queue.
    pub queue: String,
    /// Its gate.
    pub gate: Gate,
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

impl Dispatcher {
    /// The destination's gate.
    #[must_use]
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Starts each of `handed` when the gate lets it.
    ///
    /// # Errors
    /// When the database does not answer: unacknowledged, the deliveries go back with their connection.
    pub async fn take(
        self: &Arc<Self>,
        mut handed: Vec<(Handed, Delivered)>,
        stop: &CancellationToken,
    ) -> Result<(), StoreError> {
        while !handed.is_empty() {
            let rest = handed.split_off(handed.len().min(CHUNK));
            self.begin(handed, stop).await?;
            handed = rest;
        }
        Ok(())
    }

    /// Reads some at once, then starts each.
    async fn begin(
        self: &Arc<Self>,
        handed: Vec<(Handed, Delivered)>,
        stop: &CancellationToken,
    ) -> Result<(), StoreError> {
        let ids: Vec<_> = handed.iter().map(|(receipt, _)| receipt.id).collect();
        let works = {
            let mut line = self.line.lock().await;
            let mut connection = line.take().await?;
            let works = load::works(&mut connection, &ids).await?;
            line.keep(connection);
            works
        };
        let mut works: HashMap<_, _> = works.into_iter().map(|work| (work.hold.id, work)).collect();
        for (receipt, delivery) in handed {
            // A stale message must leave the row to the live one that may follow it.
            let live = |work: &Work| work.hold.epoch == receipt.epoch && work.hold.owner.is_nil();
            let Some(work) = works
                .get(&receipt.id)
                .is_some_and(live)
                .then(|| works.remove(&receipt.id))
                .flatten()
            else {
                stale(delivery);
                continue;
            };
            let begin = async {
                let place = self.gate.place().await;
                self.gate.turn().await;
                // What is claimed must be sent at once; while heartbeats fail nothing may be.
                while !self.heart.is_strong() {
                    tokio::time::sleep(WEAK).await;
                }
                place
            };
            let Some(place) = stop.run_until_cancelled(begin).await else {
                return Ok(());
            };
            let dispatcher = Arc::clone(self);
            self.tracker
                .spawn(async move { dispatcher.dispatch(receipt, delivery, work, place).await });
        }
        Ok(())
    }

    async fn dispatch(
        &self,
        handed: Handed,
        delivery: Delivered,
        mut work: Work,
        _place: Option<OwnedSemaphorePermit>,
    ) {
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
                Ok((subject, pipeline)) => self.run(work, &pipeline, subject, send, trace).await,
                Err(error) => {
                    tracing::error!(receipt.id = %work.hold.id, trace_id = work.trace_id(), %error, "no pipeline to go on with");
                    let reason = format!("its pipeline cannot be used: {error}");
                    let step = next::hand_back(&work, To::WaitCall(versions::RETRY), reason);
                    self.give_back(&work, step).await;
                }
            }
        }
        .instrument(span)
        .await;
    }

    async fn give_back(&self, work: &Work, step: Step) {
        if let Err(error) = step::commit(&self.steps, work, step).await {
            tracing::error!(receipt.id = %work.hold.id, trace_id = work.trace_id(), %error, "it could not be given back");
        }
    }

    /// Runs stages for as long as they are this destination's.
    async fn run(
        &self,
        mut work: Work,
        pipeline: &Pipeline,
        mut subject: Subject,
        mut opened: Option<load::Send>,
        trace: TraceContext,
    ) {
        let turns = Turns::new(&self.gate, true);
        while let Some(stage) = pipeline.stages.get(work.position) {
            let span = attempt::span(&trace, &work, stage);
            let attempting = Attempt {
                endpoints: &self.endpoints,
                admission: &turns,
                heart: &self.heart,
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
                    tracing::warn!(receipt.id = %work.hold.id, trace_id = work.trace_id(), cause = %abandoned.cause, "given back");
                    let step = next::abandon(&work, To::WaitCall(Duration::ZERO), abandoned);
                    return self.give_back(&work, step).await;
                }
            };
            let outcome = ended.verdict.name();
            span.record("chekhov.outcome", outcome);
            drop(span);
            metrics::counter!("chekhov_attempts_total", "stage" => stage.name.clone(), "outcome" => outcome)
                .increment(1);
            let mut step = next::step(
                &work,
                pipeline,
                stage,
                ended,
                Holder::Dispatcher(&self.destination),
                rand::random(),
            );
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
