//! The rows of destinations: read by every instance each second, changed by operators and by the dispatchers' breakers.
//!
//! Every change is one guarded statement that raises the version, and answers whether it was made.

use std::time::{Duration, Instant};

use sqlx::types::time::OffsetDateTime;
use sqlx::{PgConnection, PgExecutor, PgPool};
use uuid::Uuid;

use super::{StoreError, millis};
use crate::destination::pace::{Grant, Pace};
use crate::destination::{Change, Closing, Destination, Mode, Settings, speed};

/// The service that instances of the dispatcher are listed under.
pub const DISPATCHER: &str = "chekhov-external-dispatcher";

/// Declares what the configuration says of a destination. Its row keeps what operators changed and what it went through.
///
/// # Errors
/// When the database does not answer.
pub async fn declare(pool: &PgPool, name: &str, settings: &Settings) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        insert into destinations as d (name, declared) values ($1, $2::text::jsonb)
        on conflict (name) do update set declared = excluded.declared, version = d.version + 1
            where d.declared is distinct from excluded.declared
        "#,
        name,
        json(settings),
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Every destination.
///
/// # Errors
/// When the database does not answer.
pub async fn read(pool: &PgPool) -> Result<Vec<Destination>, StoreError> {
    let seen = rows(pool, false).await?;
    Ok(seen.into_iter().map(|(destination, _)| destination).collect())
}

/// Every destination, and whether something waits for it that may be handed off now: all that a relay has to know, in one
/// look that touches nothing of what waits for a closed one.
///
/// # Errors
/// When the database does not answer.
pub async fn look(pool: &PgPool) -> Result<Vec<(Destination, bool)>, StoreError> {
    rows(pool, true).await
}

async fn rows(pool: &PgPool, is_due: bool) -> Result<Vec<(Destination, bool)>, StoreError> {
    let rows = sqlx::query!(
        r#"
        select name, version, mode as "mode: Mode", said, (declared || changed)::text as "settings!", closed_at, closed_for, probe_at, failed_at,
               (extract(epoch from probe_at - now()) * 1000)::bigint as probe_in_ms, probes,
               (extract(epoch from now() - opened_at) * 1000)::bigint as open_for_ms,
               case when not $1 or closed_at is not null then false
                    -- Where relays go on first: from the front the entries of what was picked before are passed.
                    when mode = 'open' then exists (select from work where destination = d.name and first_call_key is not null
                                                       and (first_call_key, id) >= (h.firsts_from, h.firsts_from_id))
                                         or exists (select from work where destination = d.name and call_due_at <= now() and call_due_at >= h.timers_from)
                                         or exists (select from work where destination = d.name and first_call_key is not null)
                                         or exists (select from work where destination = d.name and call_due_at <= now())
                    when mode = 'draining' then exists (select from work where destination = d.name and call_due_at <= now()
                                                           and coalesce(sent, unresolved or registered))
                    else false end as "due!",
               (select array_agg(id order by id) from instances where service = $2) as dispatchers
        from destinations d left join horizons h on h.destination = d.name order by name
        "#,
        is_due,
        DISPATCHER,
    )
    .fetch_all(pool)
    .await?;
    let read = Instant::now();
    let time = |ms: i64| Duration::from_millis(u64::try_from(ms).unwrap_or_default());
    rows.into_iter()
        .map(|row| {
            let settings = serde_json::from_str(&row.settings).map_err(|error| {
                StoreError::Unavailable(format!("the settings of destination {}: {error}", row.name))
            })?;
            let closing = match (row.closed_at, row.closed_for, row.probe_at) {
                (Some(since), Some(reason), Some(until)) => Some(Closing {
                    since,
                    until,
                    probe: read + time(row.probe_in_ms.unwrap_or_default()),
                    reason,
                }),
                _ => None,
            };
            let destination = Destination {
                name: row.name,
                version: row.version,
                mode: row.mode,
                said: row.said,
                closing,
                probes: row.probes,
                failed_at: row.failed_at,
                open_for: row.open_for_ms.map(time),
                read,
                settings,
                dispatchers: row.dispatchers.unwrap_or_default(),
            };
            Ok((destination, row.due))
        })
        .collect()
}

/// An operator's change: of settings, of the mode with its reason, or both. Opened by hand, it is no longer closed; closed by
/// hand, it is until `until` (canaries go on from there).
///
/// # Errors
/// When the database does not answer.
pub async fn change(
    executor: impl PgExecutor<'_>,
    name: &str,
    change: &Change,
    mode: Option<Mode>,
    close_until: Option<OffsetDateTime>,
    said: &str,
) -> Result<bool, StoreError> {
    let changed = sqlx::query!(
        r#"
        update destinations set
            version = version + 1,
            changed = jsonb_strip_nulls(changed || $2::text::jsonb),
            mode = coalesce($3, mode),
            said = case when $3::destination_mode is null then said else $5 end,
            failed_at = case when $4::timestamptz is not null then coalesce(closed_at, now()) else failed_at end,
            closed_at = case when $4::timestamptz is not null then coalesce(closed_at, now()) when $3 = 'open' then null else closed_at end,
            closed_for = case when $4::timestamptz is not null then $5 when $3 = 'open' then null else closed_for end,
            probe_at = case when $4::timestamptz is not null then $4 when $3 = 'open' then null else probe_at end,
            canary = case when $3 = 'open' then null else canary end,
            probes = case when $3 = 'open' or (closed_at is null and $4::timestamptz is not null) then 0 else probes end,
            opened_at = case when $3 = 'open' and (closed_at is not null or mode <> 'open') and $4::timestamptz is null then now() else opened_at end
        where name = $1
        "#,
        name,
        json(change),
        mode as Option<Mode>,
        close_until,
        said,
    )
    .execute(executor)
    .await?;
    Ok(changed.rows_affected() == 1)
}

/// A closing that ends within so much of another is the same.
pub const SAME: Duration = Duration::from_secs(1);

/// Closes a destination for everybody: no call for `pause`, then a canary. One that is closed already stays so for the longer
/// of both (a second is no difference: many calls tell the same at once). `probes`: what it has gone through since it was well.
///
/// # Errors
/// When the database does not answer.
pub async fn close(pool: &PgPool, name: &str, pause: Duration, probes: i32, reason: &str) -> Result<bool, StoreError> {
    let changed = sqlx::query!(
        r#"
        update destinations set
            version = version + 1,
            closed_at = coalesce(closed_at, now()),
            failed_at = coalesce(closed_at, now()),
            closed_for = case when closed_at is null then $3 else closed_for end,
            probes = case when closed_at is null then $5 else probes end,
            probe_at = now() + $2::bigint * interval '1 ms'
        where name = $1 and (closed_at is null or probe_at + $4::bigint * interval '1 ms' < now() + $2::bigint * interval '1 ms')
        "#,
        name,
        millis(pause),
        reason,
        millis(SAME),
        probes,
    )
    .execute(pool)
    .await?;
    Ok(changed.rows_affected() == 1)
}

/// Takes the one call that a closed destination is probed with, for at most `lease`. Nobody else has it meanwhile; if its
/// holder dies, another takes it then.
///
/// # Errors
/// When the database does not answer: then nobody may make the call before the lease ends.
pub async fn take_canary(pool: &PgPool, name: &str, instance: Uuid, lease: Duration) -> Result<bool, StoreError> {
    let taken = sqlx::query!(
        r#"
        update destinations set canary = $2, canary_until = now() + $3::bigint * interval '1 ms'
        where name = $1 and closed_at is not null and mode <> 'paused' and probe_at <= now()
          and (canary is null or canary_until <= now())
        "#,
        name,
        instance,
        millis(lease),
    )
    .execute(pool)
    .await?;
    Ok(taken.rows_affected() == 1)
}

/// What a canary came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probed {
    /// The destination answered: it opens.
    Alive,
    /// It did not: the next canary after the pause.
    Failed {
        /// Until the next.
        pause: Duration,
        /// What happened.
        reason: String,
    },
    /// There was nothing to call for: another look after the pause.
    Nothing {
        /// Until the next.
        pause: Duration,
    },
}

/// Ends the canary of `instance`, if it has it still.
///
/// # Errors
/// When the database does not answer: the lease ends by itself.
pub async fn probed(pool: &PgPool, name: &str, instance: Uuid, probed: &Probed) -> Result<bool, StoreError> {
    let (alive, pause, reason) = match probed {
        Probed::Alive => (true, Duration::ZERO, None),
        Probed::Failed { pause, reason } => (false, *pause, Some(reason.as_str())),
        Probed::Nothing { pause } => (false, *pause, None),
    };
    let changed = sqlx::query!(
        r#"
        update destinations set
            version = version + 1, canary = null, canary_until = null,
            probes = case when $5::text is null then probes else probes + 1 end,
            closed_at = case when $3 then null else closed_at end,
            closed_for = case when $3 then null else coalesce($5, closed_for) end,
            probe_at = case when $3 then null else now() + $4::bigint * interval '1 ms' end,
            opened_at = case when $3 then now() else opened_at end
        where name = $1 and canary = $2 and closed_at is not null
        "#,
        name,
        instance,
        alive,
        millis(pause),
        reason,
    )
    .execute(pool)
    .await?;
    Ok(changed.rows_affected() == 1)
}

/// Slots that were taken.
#[derive(Debug)]
pub enum Leased {
    /// As instants of the database's clock, and what that clock showed between the two instants of this process's.
    Slots {
        /// Microseconds since 1970.
        slots: Vec<i64>,
        /// The clock, likewise.
        now: i64,
        /// Before and after it was read.
        between: (Instant, Instant),
    },
    /// None yet: ask again after so long.
    Later(Duration),
    /// The row has another version: read it first.
    Changed,
}

/// Takes up to `wanted` slots of a destination that is as `known`. What was given out is read, and replaced only if it is still
/// that: no slot is given out twice, and nobody holds a lock across a round trip. What is taken and not used is lost.
///
/// # Errors
/// When the database does not answer: nothing was taken that is used.
pub async fn lease(connection: &mut PgConnection, known: &Destination, wanted: usize) -> Result<Leased, StoreError> {
    loop {
        let row = sqlx::query!(
            r#"
            select pace::text as "pace!", (extract(epoch from now() - opened_at) * 1000)::bigint as open_for_ms,
                   (extract(epoch from clock_timestamp()) * 1000000)::bigint as "now!"
            from destinations where name = $1 and version = $2
            "#,
            known.name,
            known.version,
        )
        .fetch_optional(&mut *connection)
        .await?;
        let Some(row) = row else { return Ok(Leased::Changed) };
        let mut pace: Pace = serde_json::from_str(&row.pace).unwrap_or_default();
        let speed = row.open_for_ms.map_or(1.0, |ms| {
            let open_for = Duration::from_millis(u64::try_from(ms).unwrap_or_default());
            speed(open_for, known.settings.slow_start)
        });
        let slots = match pace.grant(&known.settings.limits, speed, row.now, wanted) {
            Grant::Slots(slots) => slots,
            Grant::Later(wait) => return Ok(Leased::Later(wait)),
        };
        let before = Instant::now();
        let now = sqlx::query_scalar!(
            r#"
            update destinations set pace = $3::text::jsonb where name = $1 and version = $2 and pace = $4::text::jsonb
            returning (extract(epoch from clock_timestamp()) * 1000000)::bigint as "now!"
            "#,
            known.name,
            known.version,
            json(&pace),
            row.pace,
        )
        .fetch_optional(&mut *connection)
        .await?;
        let between = (before, Instant::now());
        // Nobody: another dispatcher was first.
        if let Some(now) = now {
            return Ok(Leased::Slots { slots, now, between });
        }
    }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "{}".to_owned())
}
