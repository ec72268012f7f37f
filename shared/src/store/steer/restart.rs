//! Back to a stage: of an open receipt, or of one that was rejected.
//!
//! Both leave the receipt with an orchestrator, due now, whatever its stage: that knows of originals, of keys and of what is
//! not for this receipt. A call id whose bytes were stored is never used for others: where a stage from there on registers,
//! `reissues` rises over every one that was. (Each number of it that was used to register has its row in `sends`.)

use sqlx::PgConnection;
use uuid::Uuid;

use super::{Columns, Move};
use crate::store::StoreError;

/// Lets open receipts go on with an earlier stage. Refused by its guard where a stage from there on registers and a call is
/// unresolved or registered. Results of stages from there on count no more. Answers what was moved.
///
/// # Errors
/// When the database does not answer.
pub async fn restart(connection: &mut PgConnection, moves: &[Move], said: &str) -> Result<Vec<Uuid>, StoreError> {
    let columns = Columns::of(moves);
    let superseded = columns
        .moves
        .iter()
        .flat_map(|one| one.superseded.iter().map(|stage| (one.id, stage.clone())));
    let (receipts, stages): (Vec<Uuid>, Vec<String>) = superseded.unzip();
    Ok(sqlx::query_scalar!(
        r#"
        with held as materialized (
            select given.*, work.place, sent.n as sent
            from unnest($1::uuid[], $2::int[], $3::smallint[], $4::text[], $5::bool[]) as given (id, epoch, position, destination, registers)
            cross join lateral (
                select ctid as place from work
                where id = given.id and epoch = given.epoch and state in ('waiting', 'parked') and position >= given.position
                  and not (given.registers and (unresolved or registered))
                for update
            ) work
            cross join lateral (
                select case when given.registers then (select count(distinct call_id) from sends where receipt = given.id)::int else 0 end as n
            ) sent
        ), moved as (
            update work set state = 'waiting', epoch = work.epoch + 1, moved_at = now(), internal_due_at = now(),
                   call_due_at = null, first_call_key = null, waits_for = null,
                   position = held.position, destination = held.destination,
                   limit_key = case when work.destination = held.destination then work.limit_key end,
                   sent = work.sent and work.destination = held.destination,
                   attempt = 0, failures = 0, polls = 0, undeclared = 0, spent_ms = 0,
                   reissues = greatest(work.reissues, held.sent),
                   absents = case when held.registers then 0 else work.absents end,
                   unknown_at = case when held.registers then null else work.unknown_at end,
                   reason = $6
            from held where work.ctid = held.place
            returning held.id
        ), superseded as (
            insert into calls (id, receipt, stage, request, attempt, call_id, started_at, duration_ms, outcome, registers, registered, result)
            select gen_random_uuid(), given.receipt, given.stage, '', 0, '', now(), 0, 'restart', false, false, '{}'
            from unnest($7::uuid[], $8::text[]) as given (receipt, stage)
            where given.receipt in (select id from moved)
              and exists (select from calls where receipt = given.receipt and stage = given.stage and result is not null)
        )
        select id as "id!" from moved
        "#,
        &columns.ids,
        &columns.epochs,
        &columns.moves.iter().map(|one| one.position).collect::<Vec<_>>(),
        &columns.moves.iter().map(|one| one.destination.clone()).collect::<Vec<_>>(),
        &columns.moves.iter().map(|one| one.registers).collect::<Vec<_>>(),
        said,
        &receipts,
        &stages,
    )
    .fetch_all(connection)
    .await?)
}

/// Opens rejected receipts again, at their stages, on the pipeline of version `pipeline`. Rejected means known not to be
/// registered; whatever they were rejected for, their requests get other call ids. Answers what was moved.
///
/// # Errors
/// When the database does not answer.
pub async fn reopen(
    connection: &mut PgConnection,
    moves: &[Move],
    pipeline: &str,
    said: &str,
) -> Result<Vec<Uuid>, StoreError> {
    let columns = Columns::of(moves);
    Ok(sqlx::query_scalar!(
        r#"
        with given as materialized (
            select given.*, receipt.deadline, receipt.sent
            from unnest($1::uuid[], $2::int[], $3::smallint[], $4::text[]) as given (id, epoch, position, destination)
            cross join lateral (
                select deadline, (select count(distinct call_id) from sends where receipt = given.id)::int as sent
                from receipts where id = given.id
                  and not exists (select from calls where receipt = given.id and registered) limit 1
            ) receipt
        ), gone as (
            delete from finished using given where finished.id = given.id and finished.epoch = given.epoch and finished.state = 'rejected'
            returning given.*
        ), back as (
            insert into work (id, pipeline, state, position, destination, epoch, internal_due_at, deadline, reissues, reason)
            select id, $5, 'waiting', position, destination, epoch + 1, now(), deadline, greatest(sent, 1), $6 from gone
            returning id
        )
        select id as "id!" from back
        "#,
        &columns.ids,
        &columns.epochs,
        &columns.moves.iter().map(|one| one.position).collect::<Vec<_>>(),
        &columns.moves.iter().map(|one| one.destination.clone()).collect::<Vec<_>>(),
        pipeline,
        said,
    )
    .fetch_all(connection)
    .await?)
}
