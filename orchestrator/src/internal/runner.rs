//! Takes one receipt through its internal stages.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use shared::configuration::Configuration;
use shared::life::{Heart, Holding, Holdings};
use shared::pipeline::{Pipeline, Subject, Verdict};
use shared::stage::endpoint::Concurrency;
use shared::stage::next::{self, Holder, Kept};
use shared::stage::{
    Attempt, Ended, Endpoints, LimitKeys, Proofs, Unsaved, Versions, attempt, is_passed_over, spans, unsaved, versions,
    waits,
};
use shared::store::group::Group;
use shared::store::load::Work;
use shared::store::relay::Queued;
use shared::store::step::{self, StepBatch, Stepped, To};
use shared::telemetry::TraceContext;
use shared::telemetry::metrics::InWork;
use sqlx::PgPool;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::relay::HandOff;

/// Room for one receipt in flight.
pub type Slot = OwnedSemaphorePermit;

/// Runs receipts in memory, as many at once as there are slots.
pub struct Runner {
    pub(super) pool: PgPool,
    pub(super) heart: Arc<Heart>,
    pub(super) versions: Arc<Versions>,
    pub(super) backlog_bound: i64,
    /// Told when something may be due, or there is a slot again for what waits.
    pub(super) wake: Notify,
    /// Whether work was left waiting for want of a slot.
    pub(super) starved: AtomicBool,
    pub(super) overloaded: AtomicBool,
    endpoints: Endpoints,
    pub(super) limit_keys: LimitKeys,
    /// Stays empty: what is looked up is external.
    proofs: Proofs,
    steps: Group<StepBatch>,
    slots: Arc<Semaphore>,
    holdings: Holdings,
    tracker: TaskTracker,
    pub(super) due: Arc<Notify>,
    pub(super) hand_off: HandOff,
    stop: CancellationToken,
}

impl Runner {
    /// A runner; `due` is told when a receipt may be ready for its destination.
    #[expect(
        clippy::too_many_arguments,
        reason = "the composition root hands over its parts once"
    )]
    #[must_use]
    pub fn new(
        configuration: &Configuration,
        pool: PgPool,
        heart: Arc<Heart>,
        versions: Arc<Versions>,
        endpoints: Endpoints,
        limit_keys: LimitKeys,
        holdings: Holdings,
        tracker: TaskTracker,
        due: Arc<Notify>,
        hand_off: HandOff,
        stop: CancellationToken,
    ) -> Self {
        Self {
            proofs: Proofs::default(),
            limit_keys,
            steps: Group::start(pool.clone()),
            pool,
            heart,
            versions,
            backlog_bound: configuration.intake.backlog,
            wake: Notify::new(),
            starved: AtomicBool::new(false),
            overloaded: AtomicBool::new(false),
            endpoints,
            slots: Arc::new(Semaphore::new(configuration.orchestrator.in_flight.max(1))),
            holdings,
            tracker,
            due,
            hand_off,
            stop,
        }
    }

    /// A slot, if there is room and the process is not stopping.
    #[must_use]
    pub fn slot(&self) -> Option<Slot> {
        if self.stop.is_cancelled() {
            return None;
        }
        let slot = Arc::clone(&self.slots).try_acquire_owned().ok();
        if slot.is_none() {
            self.starved.store(true, Ordering::Relaxed);
        }
        slot
    }

    /// Whether more receipts wait for an orchestrator than the backlog's bound.
    #[must_use]
    pub fn overloaded(&self) -> bool {
        self.overloaded.load(Ordering::Relaxed)
    }

    /// The instance to claim with.
    #[must_use]
    pub fn owner(&self) -> uuid::Uuid {
        self.heart.id()
    }

    /// Looks for due work at once instead of at the next round.
    pub fn look(&self) {
        self.wake.notify_one();
    }

    /// Takes a receipt in hand that this instance owns, or is about to.
    #[must_use]
    pub fn hold(&self, id: uuid::Uuid) -> Holding {
        self.holdings.hold(id)
    }

    /// Runs a receipt that this instance owns.
    pub fn start(self: &Arc<Self>, work: Work, slot: Slot, holding: Holding) {
        let runner = Arc::clone(self);
        // Boxed: it is large, and what takes it on its way into the runtime would move it each time.
        self.tracker.spawn(Box::pin(async move {
            runner.run(work).await;
            drop((slot, holding));
            if runner.starved.load(Ordering::Relaxed) {
                runner.wake.notify_one();
            }
        }));
    }

    async fn run(&self, mut work: Work) {
        waits::record(&work);
        let pipeline = match self.versions.get(&work.pipeline).await {
            Ok(pipeline) => pipeline,
            Err(error) => {
                tracing::error!(receipt.id = %work.hold.id, trace_id = work.trace_id(), %error, "no pipeline to go on with");
                let step = next::hand_back(
                    &work,
                    To::WaitInternal(versions::RETRY),
                    format!("its pipeline cannot be used: {error}"),
                );
                self.commit(&work, Unsaved::with(None, &work, step)).await;
                return;
            }
        };
        let mut subject = attempt::subject(&work, &pipeline);
        let mut unsaved: Option<Unsaved> = None;
        while let Some(stage) = pipeline.stages.get(work.position) {
            if stage.destination().is_some() && !is_passed_over(stage, &subject) {
                let step = self.to_destination(&work, &pipeline).await;
                self.commit(&work, Unsaved::with(unsaved, &work, step)).await;
                return;
            }
            if self.stop.is_cancelled() {
                let reason = "its orchestrator stopped".to_owned();
                let step = next::hand_back(&work, To::WaitInternal(Duration::ZERO), reason);
                self.commit(&work, Unsaved::with(unsaved, &work, step)).await;
                return;
            }
            let context = TraceContext {
                traceparent: work.traceparent.clone(),
                tracestate: work.tracestate.clone(),
            };
            let _in_work = InWork::at("running", &stage.name);
            let span = spans::attempt(&context, &work, stage);
            let attempt = Attempt {
                endpoints: &self.endpoints,
                admission: &Concurrency,
                heart: &self.heart,
                proofs: &self.proofs,
                limit_keys: &self.limit_keys,
                pool: &self.pool,
                opened: None,
                trace: context.of(&span),
            };
            let ended = {
                let running = pin!(attempt::run(&attempt, &work, stage, &mut subject).instrument(span.clone()));
                unsaved::beside(running, &mut unsaved, async |unsaved| self.commit(&work, unsaved).await).await
            };
            let ended = match ended {
                Ok(ended) => ended,
                Err(abandoned) => {
                    spans::abandoned(&span, &abandoned);
                    // Given back, not dropped: if it is still ours nobody else would ever come for it.
                    tracing::warn!(receipt.id = %work.hold.id, trace_id = work.trace_id(), cause = %abandoned.cause, "given back");
                    let step = next::abandon(&work, To::WaitInternal(Duration::ZERO), abandoned);
                    self.commit(&work, Unsaved::with(unsaved, &work, step)).await;
                    return;
                }
            };
            spans::ended(&span, &ended);
            drop(span);
            let Some(kept) = self.settle(&work, &pipeline, ended, &subject, &mut unsaved).await else {
                return;
            };
            kept.apply(&mut work);
        }
    }

    /// Commits what an attempt came to, or leaves it unsaved; answers where the receipt goes on, if it stays here.
    async fn settle(
        &self,
        work: &Work,
        pipeline: &Pipeline,
        ended: Ended,
        subject: &Subject,
        unsaved: &mut Option<Unsaved>,
    ) -> Option<Kept> {
        let stage = &pipeline.stages[work.position];
        let outcome = ended.verdict.name();
        metrics::counter!("chekhov_attempts_total", "stage" => stage.name.clone(), "outcome" => outcome).increment(1);
        let failed = !matches!(ended.verdict, Verdict::Success { .. });
        let mut step = next::step(
            work,
            pipeline,
            stage,
            ended,
            subject,
            Holder::Orchestrator,
            rand::random(),
        );
        if step.to == To::WaitFirstCall {
            step = self.first_call(work, step).await;
        }
        if failed {
            // Not the reason: it may quote what an API said, and that what it was told.
            tracing::info!(receipt.id = %work.hold.id, trace_id = work.trace_id(), stage = %stage.name, outcome, "attempt");
        }
        let kept = Kept::by(&step);
        let all = Unsaved::with(unsaved.take(), work, step);
        if all.may_wait(pipeline, stage) {
            *unsaved = Some(all);
            return kept;
        }
        if self.commit(work, all).await { kept } else { None }
    }

    async fn commit(&self, work: &Work, Unsaved { stood, step, .. }: Unsaved) -> bool {
        let (due, internal) = (
            matches!(step.to, To::WaitFirstCall | To::Queue(_) | To::WaitCall(_)),
            matches!(step.to, To::WaitInternal(_)),
        );
        let destination = step.destination.clone();
        let original = if let To::WaitOriginal(original) = step.to {
            Some(original)
        } else {
            None
        };
        match step::commit(&self.steps, &stood, step).await {
            Ok(Stepped::Moved) => {
                if let Some(original) = original {
                    self.look_again(original).await;
                }
                if due {
                    self.due.notify_one();
                }
                if internal {
                    self.wake.notify_one();
                }
                true
            }
            Ok(Stepped::Queued) => {
                let queued = Queued {
                    id: work.hold.id,
                    epoch: work.hold.epoch + 1,
                    traceparent: work.traceparent.clone(),
                    tracestate: work.tracestate.clone(),
                };
                self.hand_off.publish(&destination, queued).await;
                true
            }
            Ok(Stepped::Stale) => {
                metrics::counter!("chekhov_stale_steps_total").increment(1);
                let (id, trace_id) = (work.hold.id, work.trace_id());
                tracing::warn!(receipt.id = %id, trace_id, "somebody else has the receipt now; the step is dropped");
                false
            }
            Err(error) => {
                let (id, trace_id) = (work.hold.id, work.trace_id());
                tracing::error!(receipt.id = %id, trace_id, %error, "the step could not be stored; it will be given back as a stray");
                false
            }
        }
    }
}
