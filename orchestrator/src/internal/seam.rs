//! The seam: from the internal stages to the first call of a destination.

use std::time::Duration;

use shared::pipeline::Pipeline;
use shared::stage::next;
use shared::store::load::Work;
use shared::store::originals::{self, Original};
use shared::store::step::{Standing, Step, To};
use uuid::Uuid;

use super::Runner;

/// How long until a refund's original is looked for again, when the database did not answer.
const AGAIN: Duration = Duration::from_secs(1);

impl Runner {
    /// The step of a receipt whose stage is external after all, as one reissued, claimed at the seam, or accepted for a
    /// pipeline that begins there.
    pub(super) async fn to_destination(&self, work: &Work, pipeline: &Pipeline) -> Step {
        let step = Step {
            destination: next::bound_for(pipeline, work.position).to_owned(),
            ..next::hand_back(work, To::WaitFirstCall, "its next stage is external".to_owned())
        };
        if work.counters.attempt > 0 || work.counters.reissues > 0 || work.standing != Standing::default() {
            let step = Step {
                to: To::WaitCall(Duration::ZERO),
                ..step
            };
            return self.limit_keys.on(step, &work.content);
        }
        self.first_call(work, step).await
    }

    /// The step to the first call: a refund waits for its original; anything else is queued at once, if there is room beside who
    /// waits there.
    pub(super) async fn first_call(&self, work: &Work, step: Step) -> Step {
        let step = self.limit_keys.on(step, &work.content);
        if step.to == To::Park {
            return step;
        }
        let original = match work.original() {
            None => Ok(Original::Unknown),
            Some(external_id) => originals::find(&self.pool, work.hold.id, &work.merchant, &external_id).await,
        };
        let (to, reason) = match original {
            Ok(Original::Open(original)) => (
                To::WaitOriginal(original),
                "its original is not registered yet".to_owned(),
            ),
            Ok(Original::Circular) => (To::Park, "its original waits for it".to_owned()),
            Ok(Original::Ended(state)) if state != "registered" => (To::Park, format!("its original was {state}")),
            Ok(Original::Unknown | Original::Ended(_)) => {
                let room = self.hand_off.bound(&step.destination);
                return Step {
                    to: room.map_or(To::WaitFirstCall, To::Queue),
                    ..step
                };
            }
            Err(error) => (
                To::WaitInternal(AGAIN),
                format!("its original could not be looked for: {error}"),
            ),
        };
        Step {
            to,
            reason: Some(reason),
            ..step
        }
    }

    /// Wakes a refund whose original ended while it came to wait.
    pub(super) async fn look_again(&self, original: Uuid) {
        match originals::wake(&self.pool, original).await {
            Ok(0) => {}
            Ok(_) => self.due.notify_one(),
            Err(error) => tracing::warn!(%error, "a refund may wait longer than its original; the healer wakes it"),
        }
    }
}
