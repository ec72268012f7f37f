//! The work on one handed-off receipt: claim, acknowledge, call, commit the outcome.
//!
//! From the claim's commit on the row, not the message, is the work.

use std::sync::Arc;
use std::time::Duration;

use shared::handoff;
use shared::life::{Heart, Holdings};
use shared::pipeline::{Pipeline, Subject, Verdict};
use shared::stage::next::{self, Holder, Kept};
use shared::stage::{Attempt, Endpoints, LimitKeys, Proofs, Unmade, Versions, attempt, sends, spans, versions, waits};
use shared::store::claim::{Dispatch, DispatchBatch};
use shared::store::group::Group;
use shared::store::line::Line;
use shared::store::load::Work;
use shared::store::record::Send;
use shared::store::step::{self, Standing, Step, StepBatch, Stepped, Stood, To};
use shared::telemetry::TraceContext;
use shared::telemetry::metrics::InWork;
use shared::telemetry::names::{
    MESSAGING_DESTINATION_NAME, MESSAGING_MESSAGE_ID, MESSAGING_OPERATION_NAME, MESSAGING_OPERATION_TYPE,
    MESSAGING_RABBITMQ_DESTINATION_ROUTING_KEY, MESSAGING_SYSTEM, OUTCOME, RECEIPT_ID, SERVER_ADDRESS, SERVER_PORT,
};
use sqlx::PgPool;
use tokio::sync::{Mutex, OwnedSemaphorePermit};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span, info_span};

use crate::gate::{Coming, Gate};
use crate::health::Health;
use crate::take::{Live, stale};
use crate::turns::Turns;

/// Dispatches the receipts of one destination.
pub struct Dispatcher {
    /// The destination's name.
    pub destination: String,
    /// Its queue.
    pub queue: String,
    /// Where that is.
    pub broker: handoff::Address,
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

impl Dispatcher {
    /// Claims a receipt, and takes it as far as it goes.
    pub(super) async fn dispatch(&self, live: Live, place: Option<OwnedSemaphorePermit>, coming: Coming) {
        let Live {
            receipt: handed,
            delivery,
            mut work,
            wanted,
        } = live;
        drop(wanted);
        let span = info_span!(
            target: "chekhov", "process", otel.name = %format_args!("process {}", self.queue), otel.kind = "consumer",
            { MESSAGING_SYSTEM } = "rabbitmq", { MESSAGING_OPERATION_NAME } = "process",
            { MESSAGING_OPERATION_TYPE } = "process", { MESSAGING_DESTINATION_NAME } = %self.queue,
            { MESSAGING_RABBITMQ_DESTINATION_ROUTING_KEY } = %self.queue,
            { MESSAGING_MESSAGE_ID } = %format_args!("{}:{}", handed.id, handed.epoch),
            { SERVER_ADDRESS } = self.broker.host, { SERVER_PORT } = self.broker.port,
            { RECEIPT_ID } = %handed.id, { OUTCOME } = tracing::field::Empty,
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
                Ok(Some(hold)) => {
                    work.hold = hold;
                    waits::record_queued(&work);
                }
                Ok(None) => {
                    Span::current().record(OUTCOME, "stale");
                    return stale(delivery);
                }
                Err(error) => {
                    // Kept, the delivery would hold its place among the prefetched for ever.
                    tracing::error!(receipt.id = %work.hold.id, trace_id = work.trace_id(), %error, "the claim was refused; the healer will queue it again");
                    return delivery.settle();
                }
            }
            delivery.settle();
            match pipeline {
                Ok((subject, pipeline)) => {
                    let turns = Turns::new(&self.gate, &self.health, place, coming);
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
        if let Err(error) = step::commit(&self.steps, &Stood::of(work), step).await {
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
            let _in_work = InWork::at("dispatching", &stage.name);
            let span = spans::attempt(&trace, &work, stage);
            let attempting = Attempt {
                endpoints: &self.endpoints,
                admission: turns,
                heart: &self.heart,
                proofs: &self.proofs,
                limit_keys: &self.limit_keys,
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
                    spans::abandoned(&span, &abandoned);
                    // Given back, not dropped: if it is still ours nobody else would ever come for it.
                    if !matches!(abandoned.cause, Unmade::Shut | Unmade::Limited(_)) {
                        tracing::warn!(receipt.id = %work.hold.id, trace_id = work.trace_id(), cause = %abandoned.cause, "given back");
                    }
                    let untried = work.counters.attempt == 0 && abandoned.calls.is_empty();
                    let to = match abandoned.cause {
                        // Whoever hands off may know nothing of its key.
                        Unmade::Limited(wait) => To::WaitCall(wait),
                        _ if untried && work.standing == Standing::default() => To::WaitFirstCall,
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
            spans::ended(&span, &ended);
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
            match step::commit(&self.steps, &Stood::of(&work), step).await {
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
