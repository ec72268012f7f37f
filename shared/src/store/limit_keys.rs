//! When the next call of a limit key may be sent, over all dispatchers together: slots as of a destination
//! ([`crate::destination::pace`]), taken one by one, those of many keys in one transaction.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection, PgPool};

use super::group::Batch;
use super::{StoreError, micros};
use crate::configuration::Limits;
use crate::destination::pace::{self, Grant, Pace};

/// Somebody wants to call for a key.
#[derive(Debug, Clone)]
pub struct Take {
    /// Where.
    pub destination: String,
    /// For which key.
    pub key: String,
    /// What is in force.
    pub limits: Limits,
    /// The longest wait that is worth it: a slot further ahead is not taken.
    pub ahead: Duration,
    /// A slot of this key that was taken and missed: it goes back, if no later one was taken.
    pub missed: Option<i64>,
    /// Tells it from others of this key, in their order.
    pub number: u64,
}

/// What came of it.
#[derive(Debug, Clone)]
pub enum Taken {
    /// A slot: see [`destinations::Leased`](super::destinations::Leased).
    Slot {
        /// Microseconds since 1970, by the database's clock.
        slot: i64,
        /// What that clock showed, likewise.
        now: i64,
        /// Before and after it was read, by this process's.
        between: (Instant, Instant),
    },
    /// None in time: nothing more is handed off for the key until then.
    Later(Duration),
}

/// The writer of takes. One that is repeated because its commit's fate is unknown may cost a slot.
#[derive(Debug)]
pub struct TakeBatch;

impl Batch for TakeBatch {
    type Item = Take;
    type Reply = Taken;
    type Key = (String, String, u64);
    const NAME: &'static str = "take";

    fn key(item: &Take) -> Self::Key {
        (item.destination.clone(), item.key.clone(), item.number)
    }

    async fn commit(connection: &mut PgConnection, items: &[Take], _again: bool) -> Result<Vec<Taken>, sqlx::Error> {
        // Several takes of a key stand side by side.
        let mut keys: Vec<Row> = items
            .iter()
            .map(|item| (item.destination.clone(), item.key.clone()))
            .collect();
        keys.dedup();
        loop {
            let mut transaction = connection.begin().await?;
            let known = lock(&mut transaction, &keys).await?;
            if known.len() < keys.len() {
                // Not in the transaction that holds locks: whoever begins the same key waits for nobody.
                transaction.rollback().await?;
                begin(connection, &keys).await?;
                continue;
            }
            let taken = take(&mut transaction, items, known).await?;
            transaction.commit().await?;
            return Ok(taken);
        }
    }
}

/// A row's destination and key.
type Row = (String, String);

/// What was given out of a key, and the database's clock in microseconds.
struct Known {
    pace: Pace,
    now: i64,
    /// What is in force, once somebody took one.
    limits: String,
    /// For how long relays hand off nothing more, in microseconds.
    blocked: i64,
}

/// Locks the rows that there are, in order, as the relays do.
async fn lock(connection: &mut PgConnection, keys: &[Row]) -> Result<BTreeMap<Row, Known>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        select row.destination as "destination!", row.key as "key!", row.pace as "pace!",
               (extract(epoch from clock_timestamp()) * 1000000)::bigint as "now!"
        from unnest($1::text[], $2::text[]) as given (destination, key)
        cross join lateral (
            select destination, key, pace::text from limit_keys
            where destination = given.destination and key = given.key for update
        ) row
        "#,
        &keys
            .iter()
            .map(|(destination, _)| destination.clone())
            .collect::<Vec<_>>(),
        &keys.iter().map(|(_, key)| key.clone()).collect::<Vec<_>>(),
    )
    .fetch_all(connection)
    .await?;
    let known = |pace: &str, now| Known {
        pace: serde_json::from_str(pace).unwrap_or_default(),
        now,
        limits: String::new(),
        blocked: 0,
    };
    Ok(rows
        .into_iter()
        .map(|row| ((row.destination, row.key), known(&row.pace, row.now)))
        .collect())
}

/// Makes the rows that are missing.
async fn begin(connection: &mut PgConnection, keys: &[Row]) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into limit_keys (destination, key) select * from unnest($1::text[], $2::text[]) on conflict do nothing",
        &keys
            .iter()
            .map(|(destination, _)| destination.clone())
            .collect::<Vec<_>>(),
        &keys.iter().map(|(_, key)| key.clone()).collect::<Vec<_>>(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

async fn take(
    connection: &mut PgConnection,
    items: &[Take],
    mut known: BTreeMap<Row, Known>,
) -> Result<Vec<Taken>, sqlx::Error> {
    let mut granted = Vec::with_capacity(items.len());
    for item in items {
        let row = (item.destination.clone(), item.key.clone());
        let known = known.get_mut(&row).ok_or(sqlx::Error::RowNotFound)?;
        if let Some(missed) = item.missed {
            known.pace.take_back(&item.limits, missed);
        }
        let grant = known.pace.grant_within(&item.limits, 1.0, known.now, 1, item.ahead);
        // Relays hand off what can be sent: not what would be told to come later, nor what would find its slot taken.
        let blocked = match &grant {
            Grant::Slots(slots) => {
                slots.first().map_or(0, |slot| slot - known.now) + micros(pace::between(&item.limits))
            }
            Grant::Later(wait) => micros(*wait) + micros(item.ahead),
        };
        known.blocked = known.blocked.max(blocked);
        known.limits = item.limits.to_string();
        granted.push(grant);
    }
    let pace = |known: &Known| serde_json::to_string(&known.pace).unwrap_or_else(|_| "{\"next\": 0}".to_owned());
    let before = Instant::now();
    let now = sqlx::query_scalar!(
        r#"
        with given as materialized (
            select * from unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[]) as t (destination, key, pace, blocked, limits)
        ), kept as (
            update limit_keys set pace = given.pace::jsonb, used_at = now(), handed_for = given.limits,
                   handed_at = greatest(case when handed_for = given.limits then handed_at end, clock_timestamp() + given.blocked * interval '1 microsecond')
            from given where limit_keys.destination = given.destination and limit_keys.key = given.key
        )
        select (extract(epoch from clock_timestamp()) * 1000000)::bigint as "now!"
        "#,
        &known.keys().map(|(destination, _)| destination.clone()).collect::<Vec<_>>(),
        &known.keys().map(|(_, key)| key.clone()).collect::<Vec<_>>(),
        &known.values().map(pace).collect::<Vec<_>>(),
        &known.values().map(|known| known.blocked).collect::<Vec<_>>(),
        &known.values().map(|known| known.limits.clone()).collect::<Vec<_>>(),
    )
    .fetch_one(connection)
    .await?;
    let between = (before, Instant::now());
    let taken = |grant| match grant {
        Grant::Slots(slots) => slots.first().map_or(Taken::Later(Duration::ZERO), |slot| Taken::Slot {
            slot: *slot,
            now,
            between,
        }),
        Grant::Later(wait) => Taken::Later(wait),
    };
    Ok(granted.into_iter().map(taken).collect())
}

/// Forgets keys that nobody used for longer than any window: what was given out of them counts no more.
///
/// # Errors
/// When the database does not answer.
pub async fn forget(pool: &PgPool) -> Result<u64, StoreError> {
    let forgotten = sqlx::query!(
        "delete from limit_keys where used_at < now() - interval '2 hours' and handed_at < now() - interval '1 minute'"
    )
    .execute(pool)
    .await?;
    Ok(forgotten.rows_affected())
}

/// Gives receipts that wait for a destination with keys, and have none, to an orchestrator, which gives them one: they came
/// from before there were keys, or from a process that knew of none. Answers how many, at most `limit`. A pass over what waits.
///
/// # Errors
/// When the database does not answer.
pub async fn find_keyless(pool: &PgPool, destination: &str, limit: i64) -> Result<u64, StoreError> {
    let found = sqlx::query!(
        r#"
        with keyless as materialized (
            (select ctid as at from work where destination = $1 and first_call_key is not null and limit_key is null
             limit $2 for update skip locked)
        ), due as materialized (
            select ctid as at from work where destination = $1 and call_due_at <= now() and limit_key is null
            limit $2 for update skip locked
        )
        update work set internal_due_at = now(), first_call_key = null, call_due_at = null, epoch = epoch + 1, moved_at = now()
        from (select at from keyless union all select at from due) found
        where work.ctid = found.at
        "#,
        destination,
        limit,
    )
    .execute(pool)
    .await?;
    Ok(found.rows_affected())
}
