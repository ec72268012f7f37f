//! Slots, and what is done in one: a receipt goes on through its stages while they succeed, internal and external ones alike.
//! When one has to wait its slot is free.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shared::life::{Heart, Holding, Holdings};
use shared::pipeline::{Pipeline, Stage, Subject, Verdict};
use shared::stage::endpoint::Concurrency;
use shared::stage::next::{self, Holder, Kept};
use shared::stage::{
    Admission, Attempt, Endpoints, LimitKeys, Proofs, Unmade, Unsaved, Versions, attempt, sends, spans, unsaved,
    versions, waits,
};
use shared::store::group::Group;
use shared::store::load::Work;
use shared::store::record::Send;
use shared::store::step::{self, StepBatch, Stepped, To};
use shared::telemetry::TraceContext;
use sqlx::PgPool;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;
use uuid::Uuid;

use crate::opening::{Opening, OpeningBatch};
use crate::queue::Queue;
use crate::turns::{Turn, Turns};

/// Room for one receipt at work.
pub type Slot = OwnedSemaphorePermit;

/// How long ago a receipt may have come through a stage that others are said to pass.
const OF_LATE: Duration = Duration::from_mins(1);

/// Takes receipts through their stages, as many at once as there are slots.
pub struct Engine {
    pub pool: PgPool,
    pub heart: Arc<Heart>,
    pub versions: Arc<Versions>,
    pub queue: Queue,
    pub endpoints: Endpoints,
    pub limit_keys: LimitKeys,
    pub proofs: Proofs,
    pub turns: Turns,
    /// Writers as many as Chekhov's two processes have: of the steps of internal stages,
    pub internal: Group<StepBatch>,
    /// of external ones,
    pub external: Group<StepBatch>,
    /// and of what is stored before a call.
    pub openings: Group<OpeningBatch>,
    pub slots: Arc<Semaphore>,
    pub holdings: Holdings,
    pub tracker: TaskTracker,
    /// When a receipt last came through each stage.
    pub passed: Mutex<BTreeMap<String, Instant>>,
    pub stop: CancellationToken,
}

impl Engine {
    /// A slot, if one is free and the process is not stopping.
    pub fn free_slot(&self) -> Option<Slot> {
        if self.stop.is_cancelled() {
            return None;
        }
        Arc::clone(&self.slots).try_acquire_owned().ok()
    }

    /// A slot for a receipt that comes now: behind everybody who waits for one.
    pub fn slot_for_new(&self) -> Option<Slot> {
        if self.queue.is_behind() { None } else { self.free_slot() }
    }

    /// Takes a receipt in hand that this process owns, or is about to.
    pub fn hold(&self, id: Uuid) -> Holding {
        self.holdings.hold(id)
    }

    /// Runs a receipt that this process owns.
    pub fn start(self: &Arc<Self>, work: Work, slot: Slot, holding: Holding) {
        let engine = Arc::clone(self);
        self.tracker.spawn(async move {
            engine.run(work).await;
            drop((slot, holding));
            engine.queue.freed();
        });
    }

    async fn run(&self, mut work: Work) {
        waits::record(&work);
        let pipeline = match self.versions.get(&work.pipeline).await {
            Ok(pipeline) => pipeline,
            Err(error) => {
                tracing::error!(receipt.id = %work.hold.id, %error, "no pipeline to go on with");
                let reason = format!("its pipeline cannot be used: {error}");
                let step = next::hand_back(&work, To::WaitInternal(versions::RETRY), reason);
                self.commit(&self.internal, Unsaved::with(None, &work, step)).await;
                return;
            }
        };
        let mut subject = attempt::subject(&work, &pipeline);
        let mut unsaved = None;
        while let Some(stage) = pipeline.stages.get(work.position) {
            let Some(kept) = self.stage(&work, &pipeline, stage, &mut subject, &mut unsaved).await else {
                return;
            };
            kept.apply(&mut work);
        }
    }

    /// Runs the stage that a receipt is at; answers where it goes on, if it stays in its slot.
    async fn stage(
        &self,
        work: &Work,
        pipeline: &Pipeline,
        stage: &Stage,
        subject: &mut Subject,
        unsaved: &mut Option<Unsaved>,
    ) -> Option<Kept> {
        let steps = match stage.destination() {
            Some(_) => &self.external,
            None => &self.internal,
        };
        if self.stop.is_cancelled() {
            let step = next::hand_back(work, To::WaitInternal(Duration::ZERO), "the engine stopped".to_owned());
            self.commit(steps, Unsaved::with(unsaved.take(), work, step)).await;
            return None;
        }
        // Before anything is stored for its call.
        if let Some(destination) = stage.destination()
            && let Some(later) = self.turns.later(destination, work.hold.id)
        {
            let step = next::hand_back(work, To::WaitInternal(later), format!("its turn at {destination}"));
            self.commit(steps, Unsaved::with(unsaved.take(), work, step)).await;
            return None;
        }
        let context = TraceContext {
            traceparent: work.traceparent.clone(),
            tracestate: work.tracestate.clone(),
        };
        let span = spans::attempt(&context, work, stage);
        let turn = Turn {
            turns: &self.turns,
            receipt: work.hold.id,
        };
        let admission: &dyn Admission = if stage.destination().is_some() {
            &turn
        } else {
            &Concurrency
        };
        let attempting = Attempt {
            endpoints: &self.endpoints,
            admission,
            heart: &self.heart,
            proofs: &self.proofs,
            limit_keys: &self.limit_keys,
            pool: &self.pool,
            opened: self.open(work, pipeline, subject).await?,
            trace: context.of(&span),
        };
        let ended = {
            let running = pin!(attempt::run(&attempting, work, stage, subject).instrument(span.clone()));
            // What is unsaved is of internal stages.
            let store = async |unsaved| self.commit(&self.internal, unsaved).await;
            unsaved::beside(running, unsaved, store).await
        };
        let ended = match ended {
            Ok(ended) => ended,
            Err(abandoned) => {
                spans::abandoned(&span, &abandoned);
                let delay = match abandoned.cause {
                    Unmade::Limited(later) => later,
                    _ => Duration::ZERO,
                };
                // Given back, not dropped: if it is still ours nobody else would ever come for it.
                let step = next::abandon(work, To::WaitInternal(delay), abandoned);
                self.commit(steps, Unsaved::with(unsaved.take(), work, step)).await;
                return None;
            }
        };
        spans::ended(&span, &ended);
        drop(span);
        let outcome = ended.verdict.name();
        let succeeded = matches!(ended.verdict, Verdict::Success { .. });
        if succeeded {
            self.note_passed(&stage.name);
        } else {
            // Not the reason: it may quote what an API said, and that what it was told.
            tracing::info!(receipt.id = %work.hold.id, trace_id = work.trace_id(), stage = %stage.name, outcome, "attempt");
        }
        let holder = match stage.destination() {
            None => Holder::Orchestrator,
            Some(destination) => Holder::Dispatcher {
                destination,
                // There is no breaker: what fails is the receipt's attempt, whoever's fault it is.
                open: true,
                others_pass: self.others_pass(&stage.name),
            },
        };
        let mut step = next::step(work, pipeline, stage, ended, subject, holder, rand::random());
        step.to = in_one_queue(step.to, succeeded);
        if step.to == To::Own && self.stop.is_cancelled() {
            step.to = To::WaitInternal(Duration::ZERO);
        }
        let kept = Kept::by(&step);
        let all = Unsaved::with(unsaved.take(), work, step);
        if all.may_wait(pipeline, stage) {
            *unsaved = Some(all);
            return kept;
        }
        if self.commit(steps, all).await { kept } else { None }
    }

    /// Stores what has to be stored before the call that a stage registers by, if it does; `None`: the receipt is somebody
    /// else's now.
    async fn open(&self, work: &Work, pipeline: &Pipeline, subject: &Subject) -> Option<Option<Send>> {
        // What cannot be read now is stored by the attempt.
        let sends = sends::opening(&self.pool, work, pipeline, subject).await;
        let Some(send) = sends.unwrap_or_default() else {
            return Some(None);
        };
        let opening = Opening {
            hold: work.hold,
            send: send.clone(),
        };
        match self.openings.commit(opening).await {
            Ok(true) => Some(Some(send)),
            Ok(false) => {
                tracing::warn!(receipt.id = %work.hold.id, "somebody else has the receipt now");
                None
            }
            Err(error) => {
                tracing::error!(receipt.id = %work.hold.id, %error, "its call could not be opened");
                let reason = format!("its call could not be opened: {error}");
                let step = next::hand_back(work, To::WaitInternal(versions::RETRY), reason);
                self.commit(&self.external, Unsaved::with(None, work, step)).await;
                None
            }
        }
    }

    fn note_passed(&self, stage: &str) {
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        match passed.get_mut(stage) {
            Some(last) => *last = Instant::now(),
            None => drop(passed.insert(stage.to_owned(), Instant::now())),
        }
    }

    fn others_pass(&self, stage: &str) -> bool {
        let passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        passed.get(stage).is_some_and(|last| last.elapsed() < OF_LATE)
    }

    async fn commit(&self, steps: &Group<StepBatch>, Unsaved { stood, step, .. }: Unsaved) -> bool {
        let id = step.hold.id;
        let due = if let To::WaitInternal(delay) = step.to {
            Some(delay)
        } else {
            None
        };
        match step::commit(steps, &stood, step).await {
            Ok(Stepped::Moved) => {
                if let Some(delay) = due {
                    self.queue.due_in(delay);
                }
                true
            }
            Ok(Stepped::Stale | Stepped::Queued) => {
                tracing::warn!(receipt.id = %id, "somebody else has the receipt now; the step is dropped");
                false
            }
            Err(error) => {
                tracing::error!(receipt.id = %id, %error, "the step could not be stored; it will be given back as a stray");
                false
            }
        }
    }
}

/// Where a step leads when nothing is handed off: on in its slot, or back into the one queue.
fn in_one_queue(to: To, succeeded: bool) -> To {
    match to {
        To::WaitFirstCall | To::Queue(_) | To::WaitInternal(_) | To::WaitCall(_) if succeeded => To::Own,
        To::WaitCall(delay) => To::WaitInternal(delay),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_succeeds_goes_on_and_all_else_waits_in_one_queue() {
        let second = Duration::from_secs(1);
        assert_eq!(in_one_queue(To::WaitFirstCall, true), To::Own);
        assert_eq!(in_one_queue(To::WaitInternal(Duration::ZERO), true), To::Own);
        assert_eq!(in_one_queue(To::Registered, true), To::Registered);
        assert_eq!(in_one_queue(To::WaitCall(second), false), To::WaitInternal(second));
        assert_eq!(in_one_queue(To::WaitInternal(second), false), To::WaitInternal(second));
        assert_eq!(in_one_queue(To::Park, false), To::Park);
    }
}
