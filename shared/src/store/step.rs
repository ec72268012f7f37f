//! What the owner of a receipt does with it: one guarded UPDATE (or the move to `finished`), the stage's result and
//! the calls that were made, in one transaction, batched.
//!
//! The guard is (id, epoch, owner, position). The calls are appended without it: what an API answered is never dropped.

mod batch;

pub use batch::StepBatch;

use std::time::Duration;

use sqlx::types::time::OffsetDateTime;
use uuid::Uuid;

use super::group::{Group, Uncommitted};
use super::load::Work;
use super::{Hold, StoreError, calls};

/// What a receipt's row counts about the stage it is at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Attempts of this stage so far.
    pub attempt: i32,
    /// Retries in a row: the exponent of the back-off.
    pub failures: i32,
    /// Polls in a row.
    pub polls: i32,
    /// Answers that nobody declared.
    pub undeclared: i32,
    /// The n of the call id: rises only when the API demands a new one.
    pub reissues: i32,
    /// Milliseconds of the retry budget used: attempts and planned waits.
    pub spent_ms: i64,
}

/// What is known about the call that registers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// A call that registers was sent, or may have been, and nobody knows what came of it.
    pub unresolved: bool,
    /// The destination said that it is registered: nothing rejects it any more.
    pub registered: bool,
    /// Of those two, at least one speaks of the destination that it is bound for: one that is drained goes on with it.
    pub sent: bool,
    /// Look-ups in a row that did not find the call.
    pub absents: i32,
}

/// Where the step leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// It stays with its owner, at another stage.
    Own,
    /// Waiting for an orchestrator, due after the delay.
    WaitInternal(Duration),
    /// Waiting for the destination, due after the delay.
    WaitCall(Duration),
    /// Waiting for its first call to the destination.
    WaitFirstCall,
    /// A refund, waiting for this receipt, its original, to end.
    WaitOriginal(Uuid),
    /// Queued at once, if fewer than so many are queued or due there; else waiting for its first call.
    Queue(i64),
    /// A person's turn.
    Park,
    /// The end.
    Registered,
    /// The end, for the reason given.
    Rejected,
}

impl To {
    /// What nothing follows by itself, as metrics name it.
    fn ended(&self) -> Option<&'static str> {
        match self {
            Self::Park => Some("parked"),
            Self::Registered => Some("registered"),
            Self::Rejected => Some("rejected"),
            _ => None,
        }
    }
}

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stepped {
    /// It is where the step leads; what was to be queued waits, perhaps.
    Moved,
    /// It is queued, its epoch one higher: publish it.
    Queued,
    /// Somebody else has it: the step was dropped, its calls are on record.
    Stale,
}

/// One HTTP call that was made.
#[derive(Debug, Clone)]
pub struct Call {
    /// A fresh `UUIDv7` that tells a repeated insert.
    pub id: Uuid,
    /// Stage name.
    pub stage: String,
    /// Request name.
    pub request: String,
    /// The stage's attempt it belongs to, from 1.
    pub attempt: i32,
    /// The idempotency key that was sent.
    pub call_id: String,
    /// When it began, by this process's clock.
    pub started_at: OffsetDateTime,
    /// How long it took.
    pub duration: Duration,
    /// What it came to.
    pub outcome: &'static str,
    /// HTTP status, if one came.
    pub status: Option<i16>,
    /// Why it failed; no content of a receipt.
    pub error: Option<String>,
    /// `Retry-After`, in seconds, bounded.
    pub retry_after_s: Option<i32>,
    /// Whether the request registers.
    pub registers: bool,
    /// Whether its answer said that the receipt is registered.
    pub registered: bool,
    /// What a successful call that registers came to, as JSON.
    pub value: Option<String>,
    /// What the stage came to that succeeded with it: `{request: value}` as JSON.
    pub result: Option<String>,
}

/// One step of a receipt.
#[derive(Debug, Clone)]
pub struct Step {
    /// Who moves it.
    pub hold: Hold,
    /// The stage's index before the step: part of the guard, so that a step is never taken twice.
    pub from: i16,
    /// Where to.
    pub to: To,
    /// The stage's index after the step.
    pub position: i16,
    /// The destination of that stage or of the next external one, or ''.
    pub destination: String,
    /// Its key there, where it is first bound for a destination that has keys; `None` leaves it as it is.
    pub limit_key: Option<String>,
    /// The counters after the step.
    pub counters: Counters,
    /// The standing after the step.
    pub standing: Standing,
    /// A sentence for a person.
    pub reason: Option<String>,
    /// The name of the stage the step ends at (for `finished`).
    pub stage: String,
    /// The calls made in this attempt.
    pub calls: Vec<Call>,
}

/// How a receipt stands in its row.
#[derive(Debug, Clone)]
pub struct Stood {
    /// Index of the stage to run.
    pub position: usize,
    /// Where its next external stage goes, or ''.
    pub destination: String,
    /// What its row counts.
    pub counters: Counters,
    /// What is known about the call that registers.
    pub standing: Standing,
}

impl Stood {
    /// As it was read.
    #[must_use]
    pub fn of(work: &Work) -> Self {
        Self {
            position: work.position,
            destination: work.destination.clone(),
            counters: work.counters,
            standing: work.standing,
        }
    }
}

impl Step {
    /// The step with what its stage came to: that goes with the last call.
    #[must_use]
    pub fn came_to(mut self, result: Option<String>) -> Self {
        if result.is_some() {
            if self.calls.is_empty() {
                self.calls.push(calls::none(&self));
            }
            if let Some(last) = self.calls.last_mut() {
                last.result = result;
            }
        }
        self
    }

    /// This step and the one before it, which is not stored, as one.
    #[must_use]
    pub fn after(mut self, mut earlier: Self) -> Self {
        earlier.calls.append(&mut self.calls);
        Self {
            from: earlier.from,
            calls: earlier.calls,
            ..self
        }
    }
}

/// Commits a step of a receipt that stood at `before`. One whose data PostgreSQL refuses parks the receipt where it stood:
/// dropped, it would have an owner that forgot it.
///
/// # Errors
/// When not even that could be stored.
pub async fn commit(steps: &Group<StepBatch>, before: &Stood, step: Step) -> Result<Stepped, StoreError> {
    let (ended, stage) = (step.to.ended(), step.stage.clone());
    match steps.offer(step).await {
        Ok(committed) => Ok(count(committed, ended, stage)),
        Err(Uncommitted { error, row: Some(step) }) => {
            let parked = steps.commit(refused(step.hold, before, step.calls, &error)).await?;
            Ok(count(parked, To::Park.ended(), stage))
        }
        Err(Uncommitted { error, row: None }) => Err(error),
    }
}

/// Counts what ended by a step that was taken.
fn count(stepped: Stepped, ended: Option<&'static str>, stage: String) -> Stepped {
    if let (Stepped::Moved, Some(end)) = (stepped, ended) {
        metrics::counter!("chekhov_receipts_ended_total", "state" => end, "stage" => stage).increment(1);
    }
    stepped
}

/// The step that is left when PostgreSQL refused what a stage came to: a person's turn, with the calls that were made.
fn refused(hold: Hold, before: &Stood, calls: Vec<Call>, error: &StoreError) -> Step {
    let registers = calls.iter().any(|call| call.registers);
    Step {
        hold,
        from: i16::try_from(before.position).unwrap_or(i16::MAX),
        to: To::Park,
        position: i16::try_from(before.position).unwrap_or(i16::MAX),
        destination: before.destination.clone(),
        limit_key: None,
        counters: before.counters,
        standing: Standing {
            unresolved: before.standing.unresolved || registers,
            sent: before.standing.sent || registers,
            absents: 0,
            ..before.standing
        },
        reason: Some(format!("what its stage came to could not be stored: {error}")),
        stage: String::new(),
        calls: calls
            .into_iter()
            .map(|call| Call {
                error: Some("its details could not be stored".to_owned()),
                value: None,
                result: None,
                ..call
            })
            .collect(),
    }
}
