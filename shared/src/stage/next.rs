//! What an attempt makes of its receipt: the next step, decided by pure rules.

use std::time::Duration;

use super::attempt::{Abandoned, Ended};
use super::skip;
use crate::pipeline::{Pipeline, Stage, Subject, Verdict};
use crate::store::load::Work;
use crate::store::step::{Counters, Standing, Step, To};

/// Who asks: an orchestrator keeps what is internal, a dispatcher what goes on to its own destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder<'a> {
    /// Runs internal stages.
    Orchestrator,
    /// Calls this destination.
    Dispatcher {
        /// Its name.
        destination: &'a str,
        /// Whether it takes calls: what happens while it does not is charged to no receipt.
        open: bool,
        /// Whether other receipts pass at this stage.
        others_pass: bool,
    },
}

/// The destination of the stage at `position` or of the first external one after it, or ''.
#[must_use]
pub fn bound_for(pipeline: &Pipeline, position: usize) -> &str {
    pipeline
        .stages
        .iter()
        .skip(position)
        .find_map(Stage::destination)
        .unwrap_or_default()
}

/// Where a step leaves a receipt that stays with its owner.
#[derive(Debug)]
pub struct Kept {
    position: usize,
    destination: String,
    counters: Counters,
    standing: Standing,
}

impl Kept {
    /// Where `step` leaves its receipt; `None` if it leads away from its owner.
    #[must_use]
    pub fn by(step: &Step) -> Option<Self> {
        (step.to == To::Own).then(|| Self {
            position: usize::try_from(step.position).unwrap_or_default(),
            destination: step.destination.clone(),
            counters: step.counters,
            standing: step.standing,
        })
    }

    /// The receipt as it is once the step is committed.
    pub fn apply(self, work: &mut Work) {
        work.position = self.position;
        work.counters = self.counters;
        work.standing = self.standing;
        // As the step's statement does it.
        work.standing.sent &= work.destination == self.destination;
        work.destination = self.destination;
    }
}

/// The step that follows from how an attempt ended. `jitter` is from 0 to 1.
#[must_use]
pub fn step(
    work: &Work,
    pipeline: &Pipeline,
    stage: &Stage,
    ended: Ended,
    subject: &Subject,
    holder: Holder<'_>,
    jitter: f64,
) -> Step {
    let mut counters = Counters {
        attempt: work.counters.attempt + 1,
        ..work.counters
    };
    let shut = matches!(holder, Holder::Dispatcher { open: false, .. });
    let others_pass = matches!(holder, Holder::Dispatcher { others_pass: true, .. });
    if !shut {
        counters.spent_ms += ended.calls.iter().map(|call| millis(call.duration)).sum::<i64>();
    }
    let waits = |delay: Duration| {
        if stage.destination().is_some() {
            To::WaitCall(delay)
        } else {
            To::WaitInternal(delay)
        }
    };
    let mut position = work.position;
    let mut reason = ended.verdict.reason().map(str::to_owned);
    let to = match ended.verdict {
        Verdict::Success { .. } => {
            position = skip::first_of(pipeline, position + 1, subject);
            counters = Counters {
                reissues: counters.reissues,
                // A receipt that is reissued goes round: its rounds share one budget.
                spent_ms: if counters.reissues > 0 { counters.spent_ms } else { 0 },
                ..Counters::default()
            };
            forward(pipeline, position, holder)
        }
        // The destination failed, not the receipt: its budget stands still, and so does its back-off.
        Verdict::Retry { .. } | Verdict::Credentials { .. } | Verdict::Unknown { .. } if shut => {
            waits(stage.retry.delay(count(counters.failures), jitter))
        }
        Verdict::Absent { again, .. } if shut => waits(again),
        Verdict::Absent { again, .. } => {
            counters.failures = 0;
            charge(stage, &mut counters, &mut reason, again, waits)
        }
        Verdict::Retry { after: Some(after), .. } if stage.destination().is_some() => waits(after),
        Verdict::Retry { after, .. } => {
            let delay = after.unwrap_or_else(|| stage.retry.delay(count(counters.failures), jitter));
            retry(stage, &mut counters, &mut reason, delay, others_pass, waits)
        }
        Verdict::Undeclared { .. } => {
            counters.undeclared += 1;
            let delay = stage.retry.delay(count(counters.failures), jitter);
            retry(stage, &mut counters, &mut reason, delay, others_pass, waits)
        }
        Verdict::Credentials { .. } | Verdict::Unknown { .. } => {
            let delay = stage.retry.delay(count(counters.failures), jitter);
            retry(stage, &mut counters, &mut reason, delay, others_pass, waits)
        }
        Verdict::Poll { .. } => {
            // A poll's delays are even: the answer is on its way, and no herd has to be spread.
            let backoff = stage
                .requests
                .iter()
                .find_map(|request| request.poll.as_ref())
                .unwrap_or(&stage.retry);
            let delay = backoff.delay(count(counters.polls), 1.0);
            counters.polls += 1;
            counters.failures = 0;
            charge(stage, &mut counters, &mut reason, delay, waits)
        }
        Verdict::Reissue { stage: back, .. } => {
            let delay = stage.retry.delay(count(counters.reissues), jitter);
            counters = Counters {
                reissues: counters.reissues + 1,
                spent_ms: counters.spent_ms,
                ..Counters::default()
            };
            position = back;
            let waits = |delay| match pipeline.stages.get(back).and_then(Stage::destination) {
                Some(_) => To::WaitCall(delay),
                None => To::WaitInternal(delay),
            };
            charge(stage, &mut counters, &mut reason, delay, waits)
        }
        Verdict::Reject { .. } => To::Rejected,
        Verdict::Park { .. } => To::Park,
    };
    Step {
        hold: work.hold,
        from: i16::try_from(work.position).unwrap_or(i16::MAX),
        destination: match &to {
            // The column stays as it is where it no longer matters: every change of it costs the HOT update.
            To::Own | To::WaitInternal(_) if bound_for(pipeline, position).is_empty() => work.destination.clone(),
            _ => bound_for(pipeline, position).to_owned(),
        },
        to,
        position: i16::try_from(position).unwrap_or(i16::MAX),
        limit_key: None,
        counters,
        standing: ended.standing,
        reason,
        stage: stage.name.clone(),
        calls: ended.calls,
    }
    .came_to(ended.result)
}

/// The receipt given back as it is: nothing was sent for it in this attempt, and nothing is counted against it.
#[must_use]
pub fn hand_back(work: &Work, to: To, reason: String) -> Step {
    Step {
        hold: work.hold,
        from: i16::try_from(work.position).unwrap_or(i16::MAX),
        to,
        position: i16::try_from(work.position).unwrap_or(i16::MAX),
        destination: work.destination.clone(),
        limit_key: None,
        counters: work.counters,
        standing: work.standing,
        reason: Some(reason),
        stage: String::new(),
        calls: Vec::new(),
    }
}

/// The receipt given back because a call was not made; the calls that were go on record.
#[must_use]
pub fn abandon(work: &Work, to: To, abandoned: Abandoned) -> Step {
    Step {
        standing: abandoned.standing,
        calls: abandoned.calls,
        ..hand_back(work, to, abandoned.cause.to_string())
    }
}

fn forward(pipeline: &Pipeline, position: usize, holder: Holder<'_>) -> To {
    match (pipeline.stages.get(position).map(Stage::destination), holder) {
        (None, _) => To::Registered,
        (Some(None), Holder::Orchestrator) => To::Own,
        (Some(None), Holder::Dispatcher { .. }) => To::WaitInternal(Duration::ZERO),
        (Some(Some(next)), Holder::Dispatcher { destination, .. }) if next == destination => To::Own,
        (Some(Some(_)), _) => To::WaitFirstCall,
    }
}

fn retry(
    stage: &Stage,
    counters: &mut Counters,
    reason: &mut Option<String>,
    delay: Duration,
    others_pass: bool,
    waits: impl Fn(Duration) -> To,
) -> To {
    counters.failures += 1;
    if others_pass && count(counters.failures) >= stage.retry.repeats {
        *reason = Some(format!(
            "it failed {} times in a row while others passed; last: {}",
            counters.failures,
            reason.take().unwrap_or_default()
        ));
        return To::Park;
    }
    charge(stage, counters, reason, delay, waits)
}

/// Budgets are spent by attempts and by the waits that were planned, not by the time that nobody could work.
fn charge(
    stage: &Stage,
    counters: &mut Counters,
    reason: &mut Option<String>,
    delay: Duration,
    waits: impl Fn(Duration) -> To,
) -> To {
    counters.spent_ms += millis(delay);
    if counters.spent_ms > millis(stage.retry.budget) {
        *reason = Some(format!(
            "the retry budget of stage {} is used up; last: {}",
            stage.name,
            reason.take().unwrap_or_default()
        ));
        return To::Park;
    }
    waits(delay)
}

fn count(counter: i32) -> u32 {
    u32::try_from(counter).unwrap_or_default()
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}
