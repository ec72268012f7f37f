//! What a person does to receipts that nobody works on: to one, or to a batch of many.
//!
//! What is judged was read before ([`seen`]), and the move is guarded by what was seen: an id, its epoch and a state. Nothing
//! leaves a state in which nobody works on a receipt without raising its epoch, so what is moved is as it was judged.

mod restart;
pub mod seen;

pub use restart::{reopen, restart};

use sqlx::PgConnection;
use uuid::Uuid;

use super::StoreError;

/// A receipt that may be moved, as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The receipt.
    pub id: Uuid,
    /// Its epoch then.
    pub epoch: i32,
    /// The index of the stage that it goes on with.
    pub position: i16,
    /// Whether that stage is external.
    pub external: bool,
    /// The destination of that stage, or of the next external one, or ''.
    pub destination: String,
    /// Whether that stage or a later one registers.
    pub registers: bool,
    /// Stages whose results count no more.
    pub superseded: Vec<String>,
}

/// The columns of a batch; rows are locked in the order of their ids.
struct Columns<'a> {
    moves: Vec<&'a Move>,
    ids: Vec<Uuid>,
    epochs: Vec<i32>,
}

impl<'a> Columns<'a> {
    fn of(moves: &'a [Move]) -> Self {
        let mut moves: Vec<&Move> = moves.iter().collect();
        moves.sort_unstable_by_key(|one| one.id);
        Self {
            ids: moves.iter().map(|one| one.id).collect(),
            epochs: moves.iter().map(|one| one.epoch).collect(),
            moves,
        }
    }
}

/// Makes timers due now. What they count stays: an early attempt is one like any other. Answers what was moved.
///
/// # Errors
/// When the database does not answer.
pub async fn retry(connection: &mut PgConnection, moves: &[Move], said: &str) -> Result<Vec<Uuid>, StoreError> {
    let columns = Columns::of(moves);
    Ok(sqlx::query_scalar!(
        r#"
        with held as materialized (
            select work.place from unnest($1::uuid[], $2::int[]) as given (id, epoch)
            cross join lateral (
                select ctid as place from work
                where id = given.id and epoch = given.epoch and state = 'waiting' and coalesce(internal_due_at, call_due_at) > now() for update
            ) work
        )
        update work set epoch = epoch + 1, moved_at = now(), reason = $3,
               internal_due_at = case when internal_due_at is not null then now() end,
               call_due_at = case when call_due_at is not null then now() end
        from held where work.ctid = held.place
        returning work.id
        "#,
        &columns.ids,
        &columns.epochs,
        said,
    )
    .fetch_all(connection)
    .await?)
}

/// Gives parked receipts another try: they wait, due now, with a fresh budget. Answers what was moved.
///
/// # Errors
/// When the database does not answer.
pub async fn release(connection: &mut PgConnection, moves: &[Move], said: &str) -> Result<Vec<Uuid>, StoreError> {
    let columns = Columns::of(moves);
    Ok(sqlx::query_scalar!(
        r#"
        with held as materialized (
            select work.place, given.external from unnest($1::uuid[], $2::int[], $3::bool[]) as given (id, epoch, external)
            cross join lateral (
                select ctid as place from work where id = given.id and epoch = given.epoch and state = 'parked' for update
            ) work
        )
        update work set state = 'waiting', epoch = epoch + 1, moved_at = now(), failures = 0, polls = 0, undeclared = 0, spent_ms = 0,
               internal_due_at = case when not held.external then now() end, call_due_at = case when held.external then now() end,
               reason = $4
        from held where work.ctid = held.place
        returning work.id
        "#,
        &columns.ids,
        &columns.epochs,
        &columns.moves.iter().map(|one| one.external).collect::<Vec<_>>(),
        said,
    )
    .fetch_all(connection)
    .await?)
}

/// Cancels receipts. Never while a call is unresolved, never once it is registered. Refunds that wait for them park. Answers
/// what was moved.
///
/// # Errors
/// When the database does not answer.
pub async fn cancel(connection: &mut PgConnection, moves: &[Move], said: &str) -> Result<Vec<Uuid>, StoreError> {
    let columns = Columns::of(moves);
    Ok(sqlx::query_scalar!(
        r#"
        with held as materialized (
            select work.* from unnest($1::uuid[], $2::int[]) as given (id, epoch)
            cross join lateral (
                select ctid as place, id, epoch, state, destination from work
                where id = given.id and epoch = given.epoch and state in ('waiting', 'queued', 'parked') and not unresolved and not registered
                for update
            ) work
        ), ended as (
            delete from work using held where work.ctid = held.place returning held.id, held.epoch, held.state, held.destination
        ), taken as (
            insert into horizon_taken (destination, instance, taken)
            select destination, '00000000-0000-0000-0000-000000000000', count(*) from ended where state = 'queued' group by destination
            on conflict (destination, instance) do update set taken = horizon_taken.taken + excluded.taken
        ), closed as (
            insert into finished (id, state, epoch, reason) select id, 'cancelled', epoch + 1, $3 from ended
        ), refunds as materialized (
            select refund.place from ended
            cross join lateral (select ctid as place from work where waits_for = ended.id for update) refund
        ), woken as (
            update work set waits_for = null, epoch = work.epoch + 1, moved_at = now(), state = 'parked', reason = 'its original was cancelled'
            from refunds where work.ctid = refunds.place
        )
        select id as "id!" from ended
        "#,
        &columns.ids,
        &columns.epochs,
        said,
    )
    .fetch_all(connection)
    .await?)
}
