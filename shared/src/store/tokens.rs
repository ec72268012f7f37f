//! The tokens of destinations, sealed: one for all dispatchers, and a lease by which one process at a time fetches the next.
//!
//! Who has the lease is the holder of a version. Whatever it brings is taken only for that version and from that holder, so
//! one that was paused changes nothing when it comes late; one that died holds everybody up for one lease.

use std::time::Duration;

use sqlx::PgPool;
use uuid::Uuid;

use super::{StoreError, millis};

/// What is stored of a destination's token; nothing, before the first lease.
#[derive(Debug, Default)]
pub struct Stored {
    /// Rises with each token; 0: there was none yet.
    pub version: i64,
    /// The token, unless there was none yet.
    pub sealed: Option<Sealed>,
    /// Nobody may fetch the next one for so long.
    pub shut: Option<Shut>,
    /// Fetches that failed so far.
    pub failures: i64,
    /// Why the last one did, if none has succeeded since.
    pub failed_for: Option<String>,
}

/// A token that only who has the key can read.
#[derive(Debug)]
pub struct Sealed {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// How long ago it was fetched.
    pub age: Duration,
    /// From being fetched to its end.
    pub life: Duration,
}

/// Why nobody may fetch a token now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shut {
    /// Somebody does, or died doing it: until the lease ends.
    Leased(Duration),
    /// The last fetch failed: until the pause after it ends.
    Paused(Duration),
}

/// Reads what is stored.
///
/// # Errors
/// When the database does not answer.
pub async fn read(pool: &PgPool, destination: &str) -> Result<Stored, StoreError> {
    let row = sqlx::query!(
        r#"
        select version, sealed, failures, failed_for, holder is not null as "held!",
               (extract(epoch from now() - fetched_at) * 1000)::bigint as age_ms,
               (extract(epoch from expires_at - fetched_at) * 1000)::bigint as life_ms,
               case when shut_until > now() then (extract(epoch from shut_until - now()) * 1000)::bigint end as shut_ms
        from tokens where destination = $1
        "#,
        destination,
    )
    .fetch_optional(pool)
    .await?;
    let Some(row) = row else {
        return Ok(Stored::default());
    };
    let time = |ms: Option<i64>| Duration::from_millis(u64::try_from(ms.unwrap_or_default()).unwrap_or_default());
    Ok(Stored {
        version: row.version,
        sealed: row.sealed.map(|bytes| Sealed {
            bytes,
            age: time(row.age_ms),
            life: time(row.life_ms),
        }),
        shut: row.shut_ms.map(|ms| {
            // Rounded up: whoever waits so long finds it over.
            let left = time(Some(ms + 1));
            if row.held {
                Shut::Leased(left)
            } else {
                Shut::Paused(left)
            }
        }),
        failures: row.failures,
        failed_for: row.failed_for,
    })
}

/// Takes the lease to fetch what follows `version`, for `lease` at most; answers whether it was free, and that still the version.
///
/// # Errors
/// When the database does not answer: then nobody may fetch before the lease ends.
pub async fn take(
    pool: &PgPool,
    destination: &str,
    version: i64,
    holder: Uuid,
    lease: Duration,
) -> Result<bool, StoreError> {
    let taken = sqlx::query!(
        r#"
        insert into tokens as t (destination, holder, shut_until) values ($1, $3, now() + $4::bigint * interval '1 ms')
        on conflict (destination) do update set holder = excluded.holder, shut_until = excluded.shut_until
            where t.version = $2 and (t.shut_until is null or t.shut_until <= now())
        "#,
        destination,
        version,
        holder,
        millis(lease),
    )
    .execute(pool)
    .await?;
    Ok(taken.rows_affected() == 1)
}

/// Stores the token that follows `version` as `next`, and ends the lease; answers whether it was `holder`'s still.
///
/// # Errors
/// When the database does not answer: the token may be stored all the same.
pub async fn store(
    pool: &PgPool,
    destination: &str,
    (version, next): (i64, i64),
    holder: Uuid,
    sealed: &Sealed,
) -> Result<bool, StoreError> {
    let stored = sqlx::query!(
        r#"
        update tokens set
            version = $7, sealed = $4, fetched_at = now() - $5::bigint * interval '1 ms',
            expires_at = now() + ($6::bigint - $5::bigint) * interval '1 ms', holder = null, shut_until = null, failed_for = null
        where destination = $1 and version = $2 and holder = $3
        "#,
        destination,
        version,
        holder,
        sealed.bytes,
        millis(sealed.age),
        millis(sealed.life),
        next,
    )
    .execute(pool)
    .await?;
    Ok(stored.rows_affected() == 1)
}

/// Ends a lease with nothing: nobody fetches for `pause`. Answers whether it was `holder`'s still.
///
/// # Errors
/// When the database does not answer: the lease ends by itself.
pub async fn fail(
    pool: &PgPool,
    destination: &str,
    version: i64,
    holder: Uuid,
    pause: Duration,
    reason: &str,
) -> Result<bool, StoreError> {
    let ended = sqlx::query!(
        r#"
        update tokens set
            holder = null, shut_until = now() + $4::bigint * interval '1 ms', failures = failures + 1, failed_for = $5
        where destination = $1 and version = $2 and holder = $3
        "#,
        destination,
        version,
        holder,
        millis(pause),
        reason,
    )
    .execute(pool)
    .await?;
    Ok(ended.rows_affected() == 1)
}
