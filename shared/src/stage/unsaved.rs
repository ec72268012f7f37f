//! What a receipt's internal stages came to and is not stored yet: it waits a moment for the next one, and a checkpoint has both.
//!
//! Only of stages that [come to the same again](Stage::repeats_alike), and only for internal ones: dead before the checkpoint,
//! they are run again under the same keys. What a stage reads may be another thing next time, so that is stored before anything
//! is sent that follows from it.

use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::join;
use tokio::time::{Instant, sleep_until};

use crate::pipeline::{Pipeline, Stage};
use crate::store::load::Work;
use crate::store::step::{Step, Stood, To};

/// How long results wait at most: longer than a call takes while all cores are busy, so that load makes fewer checkpoints.
const PATIENCE: Duration = Duration::from_millis(250);

/// Steps that are stored as one.
#[derive(Debug)]
pub struct Unsaved {
    /// How the receipt stands in its row.
    pub stood: Stood,
    /// Where they lead, and all that they came to.
    pub step: Step,
    /// When they have to be stored.
    until: Instant,
}

impl Unsaved {
    /// `step` of `work`, after what is `unsaved` of it.
    #[must_use]
    pub fn with(unsaved: Option<Self>, work: &Work, step: Step) -> Self {
        match unsaved {
            Some(unsaved) => Self {
                step: step.after(unsaved.step),
                ..unsaved
            },
            None => Self {
                stood: Stood::of(work),
                step,
                until: Instant::now() + PATIENCE,
            },
        }
    }

    /// Whether it may wait for the next stage: it ends with `stage`. What was learned about the registration never does, since
    /// others act upon it.
    #[must_use]
    pub fn may_wait(&self, pipeline: &Pipeline, stage: &Stage) -> bool {
        let next = usize::try_from(self.step.position).ok();
        let next = next.and_then(|position| pipeline.stages.get(position));
        let is_internal = |stage: &Stage| stage.destination().is_none();
        self.step.to == To::Own
            && self.step.standing == self.stood.standing
            && is_internal(stage)
            && stage.repeats_alike()
            && next.is_some_and(is_internal)
    }
}

/// Lets an attempt come to its end; what is unsaved before it is stored meanwhile, if that takes long. Whether it could be is
/// seen by the next checkpoint: the answer that is on its way has to go on record in any case.
pub async fn beside<T>(
    attempt: Pin<&mut impl Future<Output = T>>,
    unsaved: &mut Option<Unsaved>,
    store: impl AsyncFnOnce(Unsaved) -> bool,
) -> T {
    let Some(until) = unsaved.as_ref().map(|unsaved| unsaved.until) else {
        return attempt.await;
    };
    match select(attempt, pin!(sleep_until(until))).await {
        Either::Left((ended, _)) => ended,
        Either::Right(((), attempt)) => match unsaved.take() {
            Some(unsaved) => join!(attempt, store(unsaved)).0,
            None => attempt.await,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use uuid::Uuid;

    use super::*;
    use crate::pipeline::Source;
    use crate::stage::next;
    use crate::store::Hold;
    use crate::store::step::{Counters, Standing};

    fn at(position: usize) -> Work {
        let (id, owner) = (Uuid::nil(), Uuid::nil());
        Work {
            hold: Hold { id, epoch: 1, owner },
            pipeline: String::new(),
            position,
            destination: "fiscal".to_owned(),
            limit_key: None,
            merchant: String::new(),
            external_id: String::new(),
            content: "{}".into(),
            results: Vec::new(),
            deadline: None,
            traceparent: String::new(),
            tracestate: None,
            counters: Counters::default(),
            standing: Standing::default(),
            moved_at: sqlx::types::time::OffsetDateTime::UNIX_EPOCH,
            wait: None,
        }
    }

    #[test]
    fn what_comes_to_the_same_again_waits_for_the_next_internal_stage() {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/pipeline/receipts.toml");
        let pipeline = Pipeline::compile(Source::read(&shipped).unwrap()).unwrap();
        let waits = |position: usize, standing: Standing| {
            let work = at(position);
            let step = Step {
                to: To::Own,
                position: i16::try_from(position + 1).unwrap(),
                standing,
                ..next::hand_back(&work, To::Park, String::new())
            };
            Unsaved::with(None, &work, step).may_wait(&pipeline, &pipeline.stages[position])
        };
        let names: Vec<&str> = pipeline.stages[..6].iter().map(|stage| stage.name.as_str()).collect();
        assert_eq!(
            names,
            ["validate", "enrich", "calculate", "number", "document", "register"]
        );
        let all: Vec<bool> = (0..6).map(|position| waits(position, Standing::default())).collect();
        assert_eq!(
            all,
            [true, false, true, true, false, false],
            "enrich reads, document is the last"
        );
        let registered = Standing {
            registered: true,
            ..Standing::default()
        };
        assert!(!waits(0, registered), "others act upon it");
    }
}
