//! Intake: a receipt, its key and its work in one batched INSERT.

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::group::Batch;

/// Where an accepted receipt starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Owned by the orchestrator that took it in.
    Owned(Uuid),
    /// Waiting for any orchestrator, due now.
    Waiting,
    /// Its first stage is external: waiting for its first call.
    FirstCall,
}

/// A receipt at the door.
#[derive(Debug)]
pub struct Accept {
    /// A fresh `UUIDv7`.
    pub id: Uuid,
    /// Merchant id.
    pub merchant: String,
    /// The caller's id.
    pub external_id: String,
    /// SHA-256 of the canonical content.
    pub content_hash: [u8; 32],
    /// The receipt as JSON.
    pub content: String,
    /// Version of the pipeline.
    pub pipeline: String,
    /// The first destination of the pipeline, or ''.
    pub destination: String,
    /// W3C trace context of the intake.
    pub traceparent: String,
    /// W3C trace state, if the caller's trace is continued.
    pub tracestate: Option<String>,
    /// To be registered by then.
    pub deadline: Option<OffsetDateTime>,
    /// Where it starts.
    pub start: Start,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// Stored now.
    New,
    /// The same content was stored before, under this id.
    Same(Uuid),
    /// Other content has this key.
    Other(Uuid),
}

/// The writer of accepted receipts.
#[derive(Debug)]
pub struct AcceptBatch;

impl Batch for AcceptBatch {
    type Item = Accept;
    type Reply = Accepted;
    type Key = (String, String, Uuid);
    const NAME: &'static str = "accept";

    fn key(item: &Accept) -> Self::Key {
        (item.merchant.clone(), item.external_id.clone(), item.id)
    }

    async fn commit(
        connection: &mut PgConnection,
        items: &[Accept],
        _again: bool,
    ) -> Result<Vec<Accepted>, sqlx::Error> {
        let ids: Vec<Uuid> = items.iter().map(|item| item.id).collect();
        let merchants: Vec<&str> = items.iter().map(|item| item.merchant.as_str()).collect();
        let external_ids: Vec<&str> = items.iter().map(|item| item.external_id.as_str()).collect();
        let hashes: Vec<&[u8]> = items.iter().map(|item| &item.content_hash[..]).collect();
        let stored = sqlx::query_scalar!(
            r#"
            with given as (
                select * from unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[], $5::text[], $6::text[], $7::text[], $8::text[],
                                     $9::text[], $10::timestamptz[], $11::uuid[], $12::bool[])
                    as t (id, merchant, external_id, content_hash, content, pipeline, destination, traceparent,
                          tracestate, deadline, owner, first_call)
            ), keys as (
                insert into receipt_keys (merchant, external_id, receipt, content_hash)
                select merchant, external_id, id, content_hash from given order by merchant collate "C", external_id collate "C", id
                on conflict do nothing returning receipt
            ), judged as materialized (
                -- A subquery in the list is hashed once; a join of the two could be planned to compare each with each.
                select given.*, id in (select receipt from keys) as fresh from given
            ), stored as (
                insert into receipts (id, merchant, external_id, pipeline, content, traceparent, tracestate, deadline)
                select id, merchant, external_id, pipeline, content::json, traceparent, tracestate, deadline
                from judged where fresh
            ), opened as (
                insert into work (id, pipeline, state, position, destination, epoch, owner, deadline, internal_due_at, first_call_key,
                                  wait_began, wait_kind)
                select id, pipeline, case when owner is null then 'waiting' else 'running' end::open_state, 0, destination, 1, owner, deadline,
                       case when owner is null and not first_call then now() end,
                       case when first_call then coalesce(deadline, 'infinity') end,
                       case when owner is null then now() end,
                       case when owner is null then case when first_call then 'turn' else 'timer' end end::wait_kind
                from judged where fresh
            )
            select receipt as "receipt!" from keys
            "#,
            &ids,
            &merchants as &[&str],
            &external_ids as &[&str],
            &hashes as &[&[u8]],
            &items.iter().map(|item| item.content.as_str()).collect::<Vec<_>>() as &[&str],
            &items.iter().map(|item| item.pipeline.as_str()).collect::<Vec<_>>() as &[&str],
            &items.iter().map(|item| item.destination.as_str()).collect::<Vec<_>>() as &[&str],
            &items.iter().map(|item| item.traceparent.as_str()).collect::<Vec<_>>() as &[&str],
            &items.iter().map(|item| item.tracestate.as_deref()).collect::<Vec<_>>() as &[Option<&str>],
            &items.iter().map(|item| item.deadline).collect::<Vec<_>>() as &[Option<OffsetDateTime>],
            &items
                .iter()
                .map(|item| if let Start::Owned(owner) = item.start { Some(owner) } else { None })
                .collect::<Vec<_>>() as &[Option<Uuid>],
            &items.iter().map(|item| item.start == Start::FirstCall).collect::<Vec<_>>(),
        )
        .fetch_all(&mut *connection)
        .await?;
        if stored.len() == items.len() {
            return Ok(vec![Accepted::New; items.len()]);
        }
        let known = sqlx::query!(
            r#"
            select given.n as "n!", keys.receipt as "receipt!", keys.content_hash as "content_hash!"
            from unnest($1::text[], $2::text[]) with ordinality as given (merchant, external_id, n)
            join receipt_keys keys using (merchant, external_id)
            order by given.n
            "#,
            &merchants as &[&str],
            &external_ids as &[&str],
        )
        .fetch_all(&mut *connection)
        .await?;
        if known.len() != items.len() {
            // Cannot be: keys are never deleted while somebody posts them. The batch runs again.
            return Err(sqlx::Error::RowNotFound);
        }
        Ok(items
            .iter()
            .zip(known)
            .map(|(item, key)| {
                // Ours under our own id: stored now, or by an earlier try whose answer was lost.
                if key.receipt == item.id {
                    Accepted::New
                } else if key.content_hash == item.content_hash {
                    Accepted::Same(key.receipt)
                } else {
                    Accepted::Other(key.receipt)
                }
            })
            .collect())
    }
}
