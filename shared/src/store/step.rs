//! What the owner of a receipt does with it: one guarded UPDATE (or the move to `finished`), the stage's result and
//! the calls that were made, in one transaction, batched.
//!
//! The guard is (id, epoch, owner). The calls are appended without it: what an API answered is never dropped.

use std::time::Duration;

use sqlx::PgPool;
use sqlx::types::time::OffsetDateTime;
use uuid::Uuid;

use super::group::{Batch, Group};
use super::load::Work;
use super::{Hold, StoreError, millis};

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
    /// A person's turn.
    Park,
    /// The end.
    Registered,
    /// The end, for the reason given.
    Rejected,
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
}

/// One step of a receipt.
#[derive(Debug, Clone)]
pub struct Step {
    /// Who moves it.
    pub hold: Hold,
    /// Where to.
    pub to: To,
    /// The stage's index after the step.
    pub position: i16,
    /// The destination of that stage or of the next external one, or ''.
    pub destination: String,
    /// The counters after the step.
    pub counters: Counters,
    /// The standing after the step.
    pub standing: Standing,
    /// A sentence for a person.
    pub reason: Option<String>,
    /// The name of the stage the step ends at (for `finished`), and its result if it succeeded.
    pub stage: String,
    /// `{request: value}` as JSON.
    pub result: Option<String>,
    /// The calls made in this attempt.
    pub calls: Vec<Call>,
}

/// Commits a step of a receipt that stood at `before`. One whose data PostgreSQL refuses parks the receipt where it stood:
/// dropped, it would have an owner that forgot it. Answers whether the receipt was still its owner's.
///
/// # Errors
/// When not even that could be stored.
pub async fn commit(steps: &Group<StepBatch>, before: &Work, step: Step) -> Result<bool, StoreError> {
    let calls: Vec<Call> = step.calls.clone();
    match steps.commit(step).await {
        Err(error @ StoreError::Refused { .. }) => steps.commit(refused(before, calls, &error)).await,
        other => other,
    }
}

/// The step that is left when PostgreSQL refused what a stage came to: a person's turn, with the calls that were made.
fn refused(before: &Work, calls: Vec<Call>, error: &StoreError) -> Step {
    let registers = calls.iter().any(|call| call.registers);
    Step {
        hold: before.hold,
        to: To::Park,
        position: i16::try_from(before.position).unwrap_or(i16::MAX),
        destination: before.destination.clone(),
        counters: before.counters,
        standing: Standing {
            unresolved: before.standing.unresolved || registers,
            ..before.standing
        },
        reason: Some(format!("what its stage came to could not be stored: {error}")),
        stage: String::new(),
        result: None,
        calls: calls
            .into_iter()
            .map(|call| Call {
                error: Some("its details could not be stored".to_owned()),
                value: None,
                ..call
            })
            .collect(),
    }
}

/// PostgreSQL's text holds no U+0000; an API's answer may.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{FFFD}")
}

/// The writer of owners' steps. Answers whether the receipt was still its owner's.
pub struct StepBatch(pub PgPool);

impl To {
    fn state(&self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::WaitInternal(_) => "internal",
            Self::WaitCall(_) => "call",
            Self::WaitFirstCall => "first_call",
            Self::Park => "parked",
            Self::Registered => "registered",
            Self::Rejected => "rejected",
        }
    }

    fn delay(&self) -> i64 {
        match self {
            Self::WaitInternal(delay) | Self::WaitCall(delay) => millis(*delay),
            _ => 0,
        }
    }
}

impl Batch for StepBatch {
    type Item = Step;
    type Reply = bool;
    type Key = Uuid;
    const NAME: &'static str = "step";

    fn key(item: &Step) -> Uuid {
        item.hold.id
    }

    async fn commit(&self, items: &[Step], again: bool) -> Result<Vec<bool>, sqlx::Error> {
        let mut transaction = self.0.begin().await?;
        // First: it waits for an earlier try of unknown fate to end, and what that appended can be seen only then.
        let mut moved = advance(&mut transaction, items).await?;
        if again {
            moved.extend(already(&mut transaction, items).await?);
        }
        append(&mut transaction, items, again).await?;
        transaction.commit().await?;
        Ok(items.iter().map(|item| moved.contains(&item.hold.id)).collect())
    }
}

async fn advance(connection: &mut sqlx::PgConnection, items: &[Step]) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        with given as (
            select * from unnest($1::uuid[], $2::int[], $3::uuid[], $4::text[], $5::bigint[], $6::smallint[], $7::text[],
                                 $8::int[], $9::int[], $10::int[], $11::int[], $12::int[], $13::bigint[], $14::bool[], $15::bool[],
                                 $16::text[], $17::text[], $18::text[])
                as t (id, epoch, owner, to_, delay_ms, position, destination,
                      attempt, failures, polls, undeclared, reissues, spent_ms, unresolved, registered,
                      reason, stage, result)
        ), held as materialized (
            select work.id from work join given using (id)
            where work.epoch = given.epoch and work.owner = given.owner
            order by work.id for update of work
        ), moved as (
            update work set
                state = case given.to_ when 'own' then work.state when 'parked' then 'parked' else 'waiting' end::open_state,
                owner = case when given.to_ = 'own' then work.owner end,
                position = given.position,
                destination = given.destination,
                internal_due_at = case when given.to_ = 'internal' then now() + given.delay_ms * interval '1 ms' end,
                call_due_at = case when given.to_ = 'call' then now() + given.delay_ms * interval '1 ms' end,
                first_call_key = case when given.to_ = 'first_call' then coalesce(work.deadline, 'infinity') end,
                moved_at = now(),
                attempt = given.attempt, failures = given.failures, polls = given.polls, undeclared = given.undeclared,
                reissues = given.reissues, spent_ms = given.spent_ms,
                unresolved = given.unresolved, registered = given.registered, reason = given.reason
            from given join held using (id)
            where work.id = given.id and given.to_ not in ('registered', 'rejected')
            returning work.id
        ), ended as (
            delete from work using given join held using (id)
            where work.id = given.id and given.to_ in ('registered', 'rejected')
            returning work.id
        ), closed as (
            insert into finished (id, state, epoch, stage, reason)
            select given.id, given.to_::final_state, given.epoch, given.stage, given.reason from given join ended using (id)
        ), resulted as (
            insert into results (receipt, stage, value)
            select given.id, given.stage, given.result::json from given join held using (id) where given.result is not null
        )
        select id as "id!" from moved union all select id from ended
        "#,
        &items.iter().map(|item| item.hold.id).collect::<Vec<_>>(),
        &items.iter().map(|item| item.hold.epoch).collect::<Vec<_>>(),
        &items.iter().map(|item| item.hold.owner).collect::<Vec<_>>(),
        &items.iter().map(|item| item.to.state().to_owned()).collect::<Vec<_>>(),
        &items.iter().map(|item| item.to.delay()).collect::<Vec<_>>(),
        &items.iter().map(|item| item.position).collect::<Vec<_>>(),
        &items.iter().map(|item| item.destination.clone()).collect::<Vec<_>>(),
        &items.iter().map(|item| item.counters.attempt).collect::<Vec<_>>(),
        &items.iter().map(|item| item.counters.failures).collect::<Vec<_>>(),
        &items.iter().map(|item| item.counters.polls).collect::<Vec<_>>(),
        &items.iter().map(|item| item.counters.undeclared).collect::<Vec<_>>(),
        &items.iter().map(|item| item.counters.reissues).collect::<Vec<_>>(),
        &items.iter().map(|item| item.counters.spent_ms).collect::<Vec<_>>(),
        &items.iter().map(|item| item.standing.unresolved).collect::<Vec<_>>(),
        &items.iter().map(|item| item.standing.registered).collect::<Vec<_>>(),
        &items.iter().map(|item| item.reason.as_deref().map(storable)).collect::<Vec<_>>() as &[Option<String>],
        &items.iter().map(|item| item.stage.clone()).collect::<Vec<_>>(),
        &items.iter().map(|item| item.result.clone()).collect::<Vec<_>>() as &[Option<String>],
    )
    .fetch_all(connection)
    .await
}

/// What is as its step leaves it already, by an earlier try whose answer was lost: anybody else would have raised the epoch.
/// A statement of its own: the one before may have waited for that very try to end, and still sees what was before it.
async fn already(connection: &mut sqlx::PgConnection, items: &[Step]) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        with given as (select * from unnest($1::uuid[], $2::int[], $3::text[]) as t (id, epoch, to_))
        select work.id as "id!" from work join given using (id)
            where work.epoch = given.epoch and given.to_ in ('internal', 'call', 'first_call', 'parked') and work.owner is null
        union all select finished.id from finished join given using (id)
            where finished.epoch = given.epoch and given.to_ in ('registered', 'rejected')
        "#,
        &items.iter().map(|item| item.hold.id).collect::<Vec<_>>(),
        &items.iter().map(|item| item.hold.epoch).collect::<Vec<_>>(),
        &items.iter().map(|item| item.to.state().to_owned()).collect::<Vec<_>>(),
    )
    .fetch_all(connection)
    .await
}

/// Appends every call of the batch, guarded by nothing but its own id.
async fn append(connection: &mut sqlx::PgConnection, items: &[Step], again: bool) -> Result<(), sqlx::Error> {
    let calls: Vec<(Uuid, &Call)> = items
        .iter()
        .flat_map(|item| item.calls.iter().map(|call| (item.hold.id, call)))
        .collect();
    if calls.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        r#"
        insert into calls (id, receipt, stage, request, attempt, call_id, started_at, duration_ms, outcome, status, error, retry_after_s,
                           registers, registered, value)
        select t.id, t.receipt, t.stage, t.request, t.attempt, t.call_id, t.started_at, t.duration_ms, t.outcome, t.status, t.error, t.retry_after_s,
               t.registers, t.registered, t.value::json
        from unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::int[], $6::text[], $7::timestamptz[], $8::int[], $9::text[], $10::smallint[],
                    $11::text[], $12::int[], $13::bool[], $14::bool[], $15::text[])
            as t (id, receipt, stage, request, attempt, call_id, started_at, duration_ms, outcome, status, error, retry_after_s,
                  registers, registered, value)
        where not $16 or not exists (select from calls c where c.receipt = t.receipt and c.id = t.id)
        "#,
        &calls.iter().map(|(_, call)| call.id).collect::<Vec<_>>(),
        &calls.iter().map(|(receipt, _)| *receipt).collect::<Vec<_>>(),
        &calls.iter().map(|(_, call)| call.stage.clone()).collect::<Vec<_>>(),
        &calls.iter().map(|(_, call)| call.request.clone()).collect::<Vec<_>>(),
        &calls.iter().map(|(_, call)| call.attempt).collect::<Vec<_>>(),
        &calls.iter().map(|(_, call)| call.call_id.clone()).collect::<Vec<_>>(),
        &calls.iter().map(|(_, call)| call.started_at).collect::<Vec<_>>(),
        &calls.iter().map(|(_, call)| i32::try_from(call.duration.as_millis()).unwrap_or(i32::MAX)).collect::<Vec<_>>(),
        &calls.iter().map(|(_, call)| call.outcome.to_owned()).collect::<Vec<_>>(),
        &calls.iter().map(|(_, call)| call.status).collect::<Vec<_>>() as &[Option<i16>],
        &calls.iter().map(|(_, call)| call.error.as_deref().map(storable)).collect::<Vec<_>>() as &[Option<String>],
        &calls.iter().map(|(_, call)| call.retry_after_s).collect::<Vec<_>>() as &[Option<i32>],
        &calls.iter().map(|(_, call)| call.registers).collect::<Vec<_>>(),
        &calls.iter().map(|(_, call)| call.registered).collect::<Vec<_>>(),
        &calls.iter().map(|(_, call)| call.value.clone()).collect::<Vec<_>>() as &[Option<String>],
        again,
    )
    .execute(connection)
    .await?;
    Ok(())
}
