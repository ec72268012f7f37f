//! The writer of steps: a batch is one statement, in a transaction with the horizon's lock where something is to be queued.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::{Step, Stepped, To};
use crate::store::calls::{Rows, storable};
use crate::store::group::Batch;
use crate::store::millis;

/// The writer of owners' steps.
#[derive(Debug)]
pub struct StepBatch;

impl To {
    fn state(&self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::WaitInternal(_) => "internal",
            Self::WaitCall(_) => "call",
            Self::WaitFirstCall => "first_call",
            Self::WaitOriginal(_) => "original",
            Self::Queue(_) => QUEUE,
            Self::Park => "parked",
            Self::Registered => "registered",
            Self::Rejected => "rejected",
        }
    }

    fn original(&self) -> Option<Uuid> {
        if let Self::WaitOriginal(original) = self {
            Some(*original)
        } else {
            None
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
    type Reply = Stepped;
    type Key = Uuid;
    const NAME: &'static str = "step";

    fn key(item: &Step) -> Uuid {
        item.hold.id
    }

    async fn commit(connection: &mut PgConnection, items: &[Step], again: bool) -> Result<Vec<Stepped>, sqlx::Error> {
        let calls = Rows::of(items.iter());
        let mut stepped: HashMap<Uuid, Stepped> = HashMap::with_capacity(items.len());
        let (ways, held): (Vec<&'static str>, _);
        if !again && !items.iter().any(|item| matches!(item.to, To::Queue(_))) {
            // One statement is its own transaction.
            ways = items.iter().map(|item| item.to.state()).collect();
            held = advance(connection, items, &ways, &calls).await?;
        } else {
            let mut transaction = connection.begin().await?;
            ways = self::ways(&mut transaction, items).await?;
            if again {
                // It waits for an earlier try to end, and what that did can be seen only then, by statements of their own.
                held = advance(&mut transaction, items, &ways, &Rows::default()).await?;
                stepped.extend(already(&mut transaction, items).await?);
                // The result of what that try moved is with its calls.
                calls.kept(&held).append_missing(&mut transaction).await?;
            } else {
                held = advance(&mut transaction, items, &ways, &calls).await?;
            }
            transaction.commit().await?;
        }
        stepped.extend(
            items
                .iter()
                .zip(&ways)
                .filter(|(item, _)| held.contains(&item.hold.id))
                .map(|(item, way)| {
                    let queued = *way == QUEUE;
                    (item.hold.id, if queued { Stepped::Queued } else { Stepped::Moved })
                }),
        );
        let answers = items
            .iter()
            .map(|item| stepped.get(&item.hold.id).copied().unwrap_or(Stepped::Stale));
        Ok(answers.collect())
    }
}

/// The way of a step into the horizon.
const QUEUE: &str = "queue";

/// Where each step leads: those to be queued go as far as there is room, the rest waits.
async fn ways(connection: &mut PgConnection, items: &[Step]) -> Result<Vec<&'static str>, sqlx::Error> {
    let mut rooms: BTreeMap<&str, i64> = BTreeMap::new();
    for item in items {
        if let To::Queue(max_queued) = item.to
            && !rooms.contains_key(item.destination.as_str())
        {
            rooms.insert(
                &item.destination,
                room(connection, &item.destination, max_queued).await?,
            );
        }
    }
    let mut way = |item: &Step| match (&item.to, rooms.get_mut(item.destination.as_str())) {
        (To::Queue(_), Some(room)) if *room > 0 => {
            *room -= 1;
            QUEUE
        }
        (To::Queue(_), _) => To::WaitFirstCall.state(),
        (to, _) => to.state(),
    };
    Ok(items.iter().map(&mut way).collect())
}

/// As many of those who wait are counted; behind more than that nobody is queued at once.
const COUNTED: i64 = 500;

/// How many may be queued for `destination` beside everybody who waits: what is due there takes its room first, so nobody is
/// kept waiting by them. (Who stands before where relays go on is counted once a look has found him.) None while another holds
/// the horizon's row. Locked until the transaction ends, so that the bound holds for all together.
async fn room(connection: &mut PgConnection, destination: &str, max_queued: i64) -> Result<i64, sqlx::Error> {
    let room = sqlx::query_scalar!(
        r#"
        with horizon as materialized (
            select put, timers_from, firsts_from, firsts_from_id from horizons where destination = $1 for update skip locked
        ), due as materialized (
            select put, (select count(*) from (
                             select from work where destination = $1 and first_call_key is not null
                             and (first_call_key, id) >= (firsts_from, firsts_from_id) limit $3
                         ) t) as firsts,
                   (select count(*) from (
                        select from work where destination = $1 and call_due_at <= now() and call_due_at >= timers_from limit $3
                    ) t) as timers
            from horizon
        )
        select ($2::bigint - put + (select coalesce(sum(taken), 0) from horizon_taken where destination = $1) - firsts - timers)::bigint as "room!"
        from due where firsts < $3 and timers < $3
        "#,
        destination,
        max_queued,
        COUNTED,
    )
    .fetch_optional(connection)
    .await?;
    Ok(room.unwrap_or(0))
}

/// Moves what is still its owner's (rows are locked in the batch's order, then found by their place), and appends every call,
/// guarded by nothing; the result of a stage goes with its last call if its step was taken. Answers what was moved.
#[expect(clippy::too_many_lines, reason = "one statement")]
async fn advance(
    connection: &mut PgConnection,
    items: &[Step],
    ways: &[&'static str],
    calls: &Rows<'_>,
) -> Result<HashSet<Uuid>, sqlx::Error> {
    let held = sqlx::query_scalar!(
        r#"
        with held as materialized (
            select given.*, work.place from unnest($1::uuid[], $2::int[], $3::uuid[], $4::text[], $5::bigint[], $6::smallint[], $7::text[],
                                       $8::int[], $9::int[], $10::int[], $11::int[], $12::int[], $13::bigint[], $14::bool[], $15::bool[],
                                       $16::text[], $17::text[], $18::smallint[], $35::int[], $36::uuid[], $37::text[], $38::bool[], $39::text[])
                as given (id, epoch, owner, to_, delay_ms, position, destination,
                          attempt, failures, polls, undeclared, reissues, spent_ms, unresolved, registered,
                          reason, stage, from_, absents, original, limit_key, sent, because)
            cross join lateral (
                select ctid as place from work where id = given.id and epoch = given.epoch and owner = given.owner and position = given.from_ for update
            ) work
        ), moved as (
            update work set
                state = case held.to_ when 'own' then work.state when 'parked' then 'parked' when 'queue' then 'queued'
                        else 'waiting' end::open_state,
                epoch = case held.to_ when 'queue' then work.epoch + 1 else work.epoch end,
                owner = case when held.to_ = 'own' then work.owner end,
                position = held.position,
                destination = held.destination,
                internal_due_at = case when held.to_ = 'internal' then now() + held.delay_ms * interval '1 ms' end,
                call_due_at = case when held.to_ = 'call' then now() + held.delay_ms * interval '1 ms' end,
                first_call_key = case when held.to_ = 'first_call' then coalesce(work.deadline, 'infinity') end,
                waits_for = held.original,
                limit_key = coalesce(held.limit_key, case when work.destination = held.destination then work.limit_key end),
                moved_at = now(),
                wait_began = case when held.to_ not in ('own', 'queue') then now() end,
                wait_kind = case held.to_ when 'internal' then 'timer' when 'call' then 'timer' when 'first_call' then 'turn'
                            when 'original' then 'original' when 'parked' then 'person' end::wait_kind,
                wait_reason = held.because,
                attempt = held.attempt, failures = held.failures, polls = held.polls, undeclared = held.undeclared,
                reissues = held.reissues, spent_ms = held.spent_ms,
                unresolved = held.unresolved, registered = held.registered, sent = held.sent and work.destination = held.destination, reason = held.reason, absents = held.absents,
                -- Counted from the first look-up that did not find it: the API answered then, and may still have it in a queue.
                unknown_at = case when held.unresolved and (held.absents <= 1 or work.unknown_at is null) then now() else work.unknown_at end
            from held where work.ctid = held.place and held.to_ not in ('registered', 'rejected')
            returning held.id, held.to_, held.destination
        ), counted as (
            update horizons set put = put + queued.count
            from (select destination, count(*) from moved where to_ = 'queue' group by destination) queued
            where horizons.destination = queued.destination
        ), ended as (
            delete from work using held where work.ctid = held.place and held.to_ in ('registered', 'rejected')
            returning held.id, held.to_, held.epoch, held.stage, held.reason
        ), closed as (
            insert into finished (id, state, epoch, stage, reason)
            select id, to_::final_state, epoch, stage, reason from ended
        ), refunds as materialized (
            select refund.place, ended.to_ from ended
            cross join lateral (select ctid as place from work where waits_for = ended.id for update) refund
        ), woken as (
            update work set waits_for = null, epoch = work.epoch + 1, moved_at = now(),
                state = case refunds.to_ when 'registered' then 'waiting' else 'parked' end::open_state,
                first_call_key = case refunds.to_ when 'registered' then coalesce(work.deadline, 'infinity') end,
                reason = case refunds.to_ when 'registered' then 'its original is registered' else 'its original was ' || refunds.to_ end
            from refunds where work.ctid = refunds.place
        ), kept as (
            select id from moved union all select id from ended
        ), appended as (
            insert into calls (id, receipt, stage, request, attempt, call_id, started_at, duration_ms, outcome, status, error, retry_after_s,
                               registers, registered, value, result)
            select id, receipt, stage, request, attempt, call_id, started_at, duration_ms, outcome, status, error, retry_after_s,
                   registers, registered, value::json, case when receipt in (select id from kept) then result::json end
            from unnest($19::uuid[], $20::uuid[], $21::text[], $22::text[], $23::int[], $24::text[], $25::timestamptz[], $26::int[],
                        $27::text[], $28::smallint[], $29::text[], $30::int[], $31::bool[], $32::bool[], $33::text[], $34::text[])
                as made (id, receipt, stage, request, attempt, call_id, started_at, duration_ms, outcome, status, error, retry_after_s,
                         registers, registered, value, result)
        )
        select id as "id!" from kept
        "#,
        &items.iter().map(|item| item.hold.id).collect::<Vec<_>>(),
        &items.iter().map(|item| item.hold.epoch).collect::<Vec<_>>(),
        &items.iter().map(|item| item.hold.owner).collect::<Vec<_>>(),
        ways as &[&str],
        &items.iter().map(|item| item.to.delay()).collect::<Vec<_>>(),
        &items.iter().map(|item| item.position).collect::<Vec<_>>(),
        &items.iter().map(|item| item.destination.as_str()).collect::<Vec<_>>() as &[&str],
        &items.iter().map(|item| item.counters.attempt).collect::<Vec<_>>(),
        &items.iter().map(|item| item.counters.failures).collect::<Vec<_>>(),
        &items.iter().map(|item| item.counters.polls).collect::<Vec<_>>(),
        &items.iter().map(|item| item.counters.undeclared).collect::<Vec<_>>(),
        &items.iter().map(|item| item.counters.reissues).collect::<Vec<_>>(),
        &items.iter().map(|item| item.counters.spent_ms).collect::<Vec<_>>(),
        &items.iter().map(|item| item.standing.unresolved).collect::<Vec<_>>(),
        &items.iter().map(|item| item.standing.registered).collect::<Vec<_>>(),
        &items.iter().map(|item| item.reason.as_deref().map(storable)).collect::<Vec<_>>() as &[Option<Cow<'_, str>>],
        &items.iter().map(|item| item.stage.as_str()).collect::<Vec<_>>() as &[&str],
        &items.iter().map(|item| item.from).collect::<Vec<_>>(),
        &calls.ids,
        &calls.receipts,
        &calls.stages as &[&str],
        &calls.requests as &[&str],
        &calls.attempts,
        &calls.call_ids as &[&str],
        &calls.started_at,
        &calls.durations_ms,
        &calls.outcomes as &[&str],
        &calls.statuses as &[Option<i16>],
        &calls.errors as &[Option<Cow<'_, str>>],
        &calls.retry_after_s as &[Option<i32>],
        &calls.registers,
        &calls.registered,
        &calls.values as &[Option<&str>],
        &calls.results as &[Option<&str>],
        &items.iter().map(|item| item.standing.absents).collect::<Vec<_>>(),
        &items.iter().map(|item| item.to.original()).collect::<Vec<_>>() as &[Option<Uuid>],
        &items.iter().map(|item| item.limit_key.as_deref()).collect::<Vec<_>>() as &[Option<&str>],
        &items.iter().map(|item| item.standing.sent).collect::<Vec<_>>(),
        &items.iter().zip(ways).map(|(item, way)| because(item, way)).collect::<Vec<_>>() as &[Option<String>],
    )
    .fetch_all(connection)
    .await?;
    Ok(held.into_iter().collect())
}

/// Why it waits from here on, for its trace: what its last call came to, in our words alone. `None` where it does not wait, or for
/// nothing that went wrong.
fn because(item: &Step, way: &str) -> Option<String> {
    if way == To::Own.state() || way == QUEUE {
        return None;
    }
    let last = item.calls.last().filter(|call| call.outcome != "success")?;
    Some(match last.status {
        Some(status) => format!("{} after {status}", last.outcome),
        None => format!("{} without an answer", last.outcome),
    })
}

/// What is as its step leaves it already, by an earlier try whose answer was lost: anybody else would have raised the epoch.
/// A statement of its own: the one before may have waited for that very try to end, and still sees what was before it.
async fn already(connection: &mut PgConnection, items: &[Step]) -> Result<Vec<(Uuid, Stepped)>, sqlx::Error> {
    let found = sqlx::query!(
        r#"
        with given as (
            select * from unnest($1::uuid[], $2::int[], $3::text[], $4::uuid[], $5::smallint[]) as t (id, epoch, to_, owner, position)
        )
        select work.id as "id!", work.state = 'queued' as "queued!" from work join given using (id)
            where work.id = any($1)
              and (work.epoch = given.epoch and given.to_ in ('internal', 'call', 'first_call', 'original', 'queue', 'parked') and work.owner is null
                   or work.epoch = given.epoch and given.to_ = 'own' and work.owner = given.owner and work.position = given.position
                   or work.epoch = given.epoch + 1 and given.to_ = 'queue' and work.state = 'queued')
        union all select finished.id, false from finished join given using (id)
            where finished.id = any($1) and finished.epoch = given.epoch and given.to_ in ('registered', 'rejected')
        "#,
        &items.iter().map(|item| item.hold.id).collect::<Vec<_>>(),
        &items.iter().map(|item| item.hold.epoch).collect::<Vec<_>>(),
        &items.iter().map(|item| item.to.state().to_owned()).collect::<Vec<_>>(),
        &items.iter().map(|item| item.hold.owner).collect::<Vec<_>>(),
        &items.iter().map(|item| item.position).collect::<Vec<_>>(),
    )
    .fetch_all(connection)
    .await?;
    let stepped = |queued| if queued { Stepped::Queued } else { Stepped::Moved };
    Ok(found.into_iter().map(|row| (row.id, stepped(row.queued))).collect())
}
