//! Where a walk reads from: an index each, in its order, a stretch at a time. One plan is right for whatever is looked for,
//! since each has a statement of its own, in an order that no other index has.

use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::Uuid;

use super::Order;
use super::cursor::Key;
use super::filter::{Filter, Ids, State};
use crate::store::StoreError;

/// An index, and the order it is read in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// One business key.
    Named,
    /// A merchant's receipts, by external id.
    Merchant,
    /// What waits for a person, the longest first.
    Parked,
    /// The same of one destination.
    ParkedFor,
    /// What has a deadline, the next to pass first.
    Deadlines,
    /// Timers of a destination, the next due first.
    Timers,
    /// First calls to a destination that have a deadline, the earliest first.
    Urgent,
    /// Those that have none, by age.
    Firsts,
    /// What waits for an orchestrator, the next due first.
    Internal,
    /// Refunds, by their originals.
    Refunds,
    /// What is open, by age.
    Open,
    /// What was rejected or cancelled, by when.
    Unregistered,
    /// What is final, by age.
    Finished,
    /// All there is, by age.
    All,
}

use Source::{
    All, Deadlines, Finished, Firsts, Internal, Merchant, Named, Open, Parked, ParkedFor, Refunds, Timers,
    Unregistered, Urgent,
};

impl Source {
    /// What is read for `filter`, one after the other: the shortest that has all of it.
    pub fn chain(filter: &Filter, order: Order) -> &'static [Self] {
        let by_id = order == Order::ById;
        match filter.state {
            _ if filter.external_id.is_some() => &[Named],
            Some(State::Rejected | State::Cancelled) if !by_id => &[Unregistered],
            _ if filter.is_of_open() && by_id => &[Open],
            Some(State::Parked) if filter.destination.is_some() => &[ParkedFor],
            Some(State::Parked) => &[Parked],
            _ if filter.deadline_before.is_some() => &[Deadlines],
            Some(State::Waiting) if filter.destination.is_some() => &[Timers, Urgent, Firsts, Internal, Refunds],
            _ if filter.is_of_open() => &[Open],
            _ if filter.merchant.is_some() => &[Merchant],
            Some(_) => &[Finished],
            None => &[All],
        }
    }

    /// Whether `key` is one of its entries'.
    pub fn has(self, key: &Key) -> bool {
        matches!(
            (self, key),
            (Merchant, Key::Name(_))
                | (
                    Parked | ParkedFor | Deadlines | Timers | Urgent | Internal | Unregistered,
                    Key::At(..)
                )
                | (Refunds, Key::Of(..))
                | (Named | Firsts | Open | Finished | All, Key::Id(_))
        )
    }

    /// Up to `most` entries after `key`, in order: each with the receipt that it names.
    pub async fn entries(
        self,
        pool: &PgPool,
        filter: &Filter,
        key: Option<&Key>,
        most: i64,
    ) -> Result<Vec<(Key, Uuid)>, StoreError> {
        let merchant = filter.merchant.as_deref().unwrap_or_default();
        let destination = filter.destination.as_deref().unwrap_or_default();
        let Ids(first, below) = filter.ids();
        let above = match key {
            Some(Key::Id(id)) => first.max(*id),
            _ => first,
        };
        let (at, id) = match key {
            Some(Key::At(at, id)) => (*at, *id),
            _ => (OffsetDateTime::UNIX_EPOCH, Uuid::nil()),
        };
        match self {
            Named => {
                let name = filter.external_id.as_deref().unwrap_or_default();
                let found = crate::store::read::id_of(pool, merchant, name).await?;
                let unseen = found.filter(|found| *found > above);
                Ok(unseen.map(|id| (Key::Id(id), id)).into_iter().collect())
            }
            Merchant => {
                let name = if let Some(Key::Name(name)) = key { name } else { "" };
                of_merchant(pool, merchant, name, most).await
            }
            Parked => parked(pool, at, id, most).await,
            ParkedFor => parked_for(pool, destination, at, id, most).await,
            Deadlines => {
                let before = filter.deadline_before.unwrap_or(OffsetDateTime::UNIX_EPOCH);
                let of = match &filter.destination {
                    Some(destination) => vec![destination.clone()],
                    None => with_deadlines(pool).await?,
                };
                deadlines(pool, &of, before, at, id, most).await
            }
            Timers => timers(pool, destination, at, id, most).await,
            Urgent => urgent(pool, destination, at, id, most).await,
            Firsts => firsts(pool, destination, above, most).await,
            Internal => internal(pool, at, id, most).await,
            Refunds => {
                let (original, refund) = match key {
                    Some(Key::Of(original, refund)) => (*original, *refund),
                    _ => (Uuid::nil(), Uuid::nil()),
                };
                refunds(pool, original, refund, most).await
            }
            Open => open(pool, above, below, most).await,
            Unregistered => unregistered(pool, at, id, most).await,
            Finished => finished(pool, above, below, most).await,
            All => all(pool, above, below, most).await,
        }
    }
}

type Entries = Result<Vec<(Key, Uuid)>, StoreError>;

/// An entry that is found by a time and an id.
struct Dated {
    at: OffsetDateTime,
    id: Uuid,
}

fn dated(rows: Vec<Dated>) -> Entries {
    Ok(rows.into_iter().map(|row| (Key::At(row.at, row.id), row.id)).collect())
}

fn plain(ids: Vec<Uuid>) -> Entries {
    Ok(ids.into_iter().map(|id| (Key::Id(id), id)).collect())
}

async fn of_merchant(pool: &PgPool, merchant: &str, after: &str, most: i64) -> Entries {
    let rows = sqlx::query!(
        "select external_id, receipt from receipt_keys where merchant = $1 and external_id > $2 order by external_id limit $3",
        merchant,
        after,
        most,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (Key::Name(row.external_id), row.receipt))
        .collect())
}

async fn parked(pool: &PgPool, at: OffsetDateTime, id: Uuid, most: i64) -> Entries {
    let rows = sqlx::query_as!(
        Dated,
        r#"select parked_at as "at!", id from work where parked_at is not null and (parked_at, id) > ($1, $2)
           order by parked_at, id limit $3"#,
        at,
        id,
        most,
    );
    dated(rows.fetch_all(pool).await?)
}

async fn parked_for(pool: &PgPool, destination: &str, at: OffsetDateTime, id: Uuid, most: i64) -> Entries {
    let rows = sqlx::query_as!(
        Dated,
        r#"select parked_at as "at!", id from work where destination = $1 and parked_at is not null and (parked_at, id) > ($2, $3)
           order by parked_at, id limit $4"#,
        destination,
        at,
        id,
        most,
    );
    dated(rows.fetch_all(pool).await?)
}

/// The destinations that anything with a deadline is bound for: one look each.
async fn with_deadlines(pool: &PgPool) -> Result<Vec<String>, StoreError> {
    Ok(sqlx::query_scalar!(
        r#"
        with recursive names as (
            (select destination as name from work where deadline is not null order by destination limit 1)
            union all
            select (select destination from work where deadline is not null and destination > name order by destination limit 1)
            from names where name is not null
        )
        select name as "name!" from names where name is not null
        "#
    )
    .fetch_all(pool)
    .await?)
}

async fn deadlines(
    pool: &PgPool,
    destinations: &[String],
    before: OffsetDateTime,
    at: OffsetDateTime,
    id: Uuid,
    most: i64,
) -> Entries {
    let rows = sqlx::query_as!(
        Dated,
        r#"
        select next.deadline as "at!", next.id as "id!" from unnest($1::text[]) as given (name)
        cross join lateral (
            select deadline, id from work
            where destination = given.name and deadline is not null and deadline < $2 and (deadline, id) > ($3, $4)
            order by deadline, id limit $5
        ) next
        order by next.deadline, next.id limit $5
        "#,
        destinations,
        before,
        at,
        id,
        most,
    );
    dated(rows.fetch_all(pool).await?)
}

async fn timers(pool: &PgPool, destination: &str, at: OffsetDateTime, id: Uuid, most: i64) -> Entries {
    let rows = sqlx::query_as!(
        Dated,
        r#"select call_due_at as "at!", id from work where destination = $1 and call_due_at is not null and (call_due_at, id) > ($2, $3)
           order by call_due_at, id limit $4"#,
        destination,
        at,
        id,
        most,
    );
    dated(rows.fetch_all(pool).await?)
}

async fn urgent(pool: &PgPool, destination: &str, at: OffsetDateTime, id: Uuid, most: i64) -> Entries {
    let rows = sqlx::query_as!(
        Dated,
        r#"select first_call_key as "at!", id from work
           where destination = $1 and first_call_key is not null and first_call_key < 'infinity' and (first_call_key, id) > ($2, $3)
           order by first_call_key, id limit $4"#,
        destination,
        at,
        id,
        most,
    );
    dated(rows.fetch_all(pool).await?)
}

async fn firsts(pool: &PgPool, destination: &str, above: Uuid, most: i64) -> Entries {
    let ids = sqlx::query_scalar!(
        r#"select id from work where destination = $1 and first_call_key is not null and (first_call_key, id) > ('infinity', $2)
           order by first_call_key, id limit $3"#,
        destination,
        above,
        most,
    );
    plain(ids.fetch_all(pool).await?)
}

async fn internal(pool: &PgPool, at: OffsetDateTime, id: Uuid, most: i64) -> Entries {
    let rows = sqlx::query_as!(
        Dated,
        r#"select internal_due_at as "at!", id from work where internal_due_at is not null and (internal_due_at, id) > ($1, $2)
           order by internal_due_at, id limit $3"#,
        at,
        id,
        most,
    );
    dated(rows.fetch_all(pool).await?)
}

async fn refunds(pool: &PgPool, original: Uuid, refund: Uuid, most: i64) -> Entries {
    let rows = sqlx::query!(
        r#"select waits_for as "original!", id from work where waits_for is not null and (waits_for, id) > ($1, $2)
           order by waits_for, id limit $3"#,
        original,
        refund,
        most,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (Key::Of(row.original, row.id), row.id))
        .collect())
}

async fn open(pool: &PgPool, above: Uuid, below: Uuid, most: i64) -> Entries {
    let ids = sqlx::query_scalar!(
        "select id from work where id > $1 and id < $2 order by id limit $3",
        above,
        below,
        most
    );
    plain(ids.fetch_all(pool).await?)
}

async fn unregistered(pool: &PgPool, at: OffsetDateTime, id: Uuid, most: i64) -> Entries {
    let rows = sqlx::query_as!(
        Dated,
        r#"select finished_at as "at!", id from finished where state <> 'registered' and (finished_at, id) > ($1, $2)
           order by finished_at, id limit $3"#,
        at,
        id,
        most,
    );
    dated(rows.fetch_all(pool).await?)
}

async fn finished(pool: &PgPool, above: Uuid, below: Uuid, most: i64) -> Entries {
    let ids = sqlx::query_scalar!(
        "select id from finished where id > $1 and id < $2 order by id limit $3",
        above,
        below,
        most
    );
    plain(ids.fetch_all(pool).await?)
}

async fn all(pool: &PgPool, above: Uuid, below: Uuid, most: i64) -> Entries {
    let ids = sqlx::query_scalar!(
        "select id from receipts where id > $1 and id < $2 order by id limit $3",
        above,
        below,
        most
    );
    plain(ids.fetch_all(pool).await?)
}
