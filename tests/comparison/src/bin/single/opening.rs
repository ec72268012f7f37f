//! Group commit of what has to be stored before a request that registers is sent: its bytes, and that its call is open.
//!
//! Chekhov's dispatchers store it with the claim of each call. Here a receipt is claimed once for many stages, so it is a
//! batch of its own.

use sqlx::PgConnection;
use uuid::Uuid;

use shared::store::Hold;
use shared::store::group::Batch;
use shared::store::record::Send;

/// A call that is about to be made.
#[derive(Debug)]
pub struct Opening {
    /// Who makes it.
    pub hold: Hold,
    /// Its bytes.
    pub send: Send,
}

/// The writer of openings. Answers whether the receipt was still its owner's: only then the call is open, and unresolved from
/// here on.
#[derive(Debug)]
pub struct OpeningBatch;

impl Batch for OpeningBatch {
    type Item = Opening;
    type Reply = bool;
    type Key = Uuid;
    const NAME: &'static str = "opening";

    fn key(item: &Opening) -> Uuid {
        item.hold.id
    }

    /// Harmless to run `again`: the guard holds still, and what is stored stays.
    async fn commit(connection: &mut PgConnection, items: &[Opening], _again: bool) -> Result<Vec<bool>, sqlx::Error> {
        let sends = || items.iter().map(|item| &item.send);
        let opened: Vec<Uuid> = sqlx::query_scalar(
            "
            with held as materialized (
                select given.*, work.place
                from unnest($1::uuid[], $2::int[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bytea[])
                    as given (id, epoch, owner, call_id, method, path, headers, body)
                cross join lateral (
                    select ctid as place from work
                    where id = given.id and epoch = given.epoch and owner = given.owner for update
                ) work
            ), opened as (
                update work set unresolved = true, sent = true from held where work.ctid = held.place returning held.*
            ), stored as (
                insert into sends (receipt, call_id, method, path, headers, body)
                select id, call_id, method, path, headers::json, body from opened on conflict do nothing
            )
            select id from opened
            ",
        )
        .bind(items.iter().map(|item| item.hold.id).collect::<Vec<_>>())
        .bind(items.iter().map(|item| item.hold.epoch).collect::<Vec<_>>())
        .bind(items.iter().map(|item| item.hold.owner).collect::<Vec<_>>())
        .bind(sends().map(|send| send.call_id.clone()).collect::<Vec<_>>())
        .bind(sends().map(|send| send.method.clone()).collect::<Vec<_>>())
        .bind(sends().map(|send| send.path.clone()).collect::<Vec<_>>())
        .bind(sends().map(|send| send.headers.clone()).collect::<Vec<_>>())
        .bind(sends().map(|send| send.body.as_deref()).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
        Ok(items.iter().map(|item| opened.contains(&item.hold.id)).collect())
    }
}
