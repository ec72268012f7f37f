//! What must be true of the tables at every moment, looked at again and again while things break.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use uuid::Uuid;

use crate::servers::Database;

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(100);
/// The same of large tables,
const LOOK_LARGE: Duration = Duration::from_secs(10);
/// and no longer than one part in so many of the time: whoever measures there is not to measure this.
const PARTS_LARGE: u32 = 20;

/// What one snapshot may not show: a row for each violation.
const VIOLATIONS: &str = "
    select 'open and final at once: ' || id from work join finished using (id)
    union all
    select 'neither open nor final: ' || r.id from receipts r
        where not exists (select from work where work.id = r.id) and not exists (select from finished where finished.id = r.id)
    union all
    select 'accepted without a key: ' || r.id from receipts r where not exists (select from receipt_keys k where k.receipt = r.id)
    union all
    select 'registered and not final so: ' || id from finished where state <> 'registered' and exists
        (select from calls where calls.receipt = finished.id and calls.registered)
    union all
    select 'two results of stage ' || stage || ': ' || receipt from calls where result is not null group by receipt, stage having count(*) > 1
    union all
    select 'at stage ' || position || ' with ' || count(calls) || ' results: ' || work.id
        from work left join calls on calls.receipt = work.id and calls.result is not null
        group by work.id having count(calls) <> work.position
    union all
    select format('%s are counted as queued for %s, %s are', counted, destination, are) from (
        select destination, put - (select coalesce(sum(taken), 0) from horizon_taken t where t.destination = h.destination) as counted,
               (select count(*) from work w where w.state = 'queued' and w.destination = h.destination) as are
        from horizons h) d where counted <> are
    union all
    select format('%s are tallied as %s at %s for %s (unresolved: %s), %s are', coalesce(counted, 0), kind, position, destination, unresolved, coalesce(are, 0))
        from (select destination, pipeline, position, kind, unresolved, sum(count) as counted from tallies group by 1, 2, 3, 4, 5 having sum(count) <> 0) c
        full join (select destination, pipeline, position, kind, unresolved, count(*) as are
                   from (select *, tallied(state, call_due_at, first_call_key, waits_for) as kind from work) w where kind is not null
                   group by 1, 2, 3, 4, 5) w using (destination, pipeline, position, kind, unresolved)
        where counted is distinct from are";

/// Looks on in the background.
#[derive(Debug)]
pub struct Invariants {
    looking: JoinHandle<Seen>,
    stop: tokio::sync::watch::Sender<bool>,
}

/// What was seen so far.
#[derive(Debug, Default)]
struct Seen {
    looks: usize,
    epochs: HashMap<Uuid, (i32, bool)>,
    violations: Vec<String>,
}

impl Invariants {
    /// Looks at `database` until [`hold`](Self::hold) is called; while it does not answer there is nothing to see. Of
    /// receipts that were reissued it knows nothing: those have two results of a stage.
    #[must_use]
    pub fn watch(database: &Database) -> Self {
        Self::watch_every(database, LOOK, 0)
    }

    /// The same in tables of very many receipts: seldom.
    #[must_use]
    pub fn watch_large(database: &Database) -> Self {
        Self::watch_every(database, LOOK_LARGE, PARTS_LARGE)
    }

    fn watch_every(database: &Database, every: Duration, parts: u32) -> Self {
        let (stop, mut stopped) = tokio::sync::watch::channel(false);
        let url = database.url();
        let looking = tokio::spawn(async move {
            let mut seen = Seen::default();
            let mut connection: Option<PgConnection> = None;
            while !*stopped.borrow() {
                if connection.is_none() {
                    connection = alone(&url).await.ok();
                }
                let begun = Instant::now();
                if let Some(open) = &mut connection
                    && look(open, &mut seen).await.is_err()
                {
                    connection = None;
                }
                tokio::select! {
                    () = sleep(every.max(begun.elapsed() * parts)) => {}
                    _ = stopped.changed() => {}
                }
            }
            seen
        });
        Self { looking, stop }
    }

    /// Ends looking.
    ///
    /// # Panics
    /// When something was not true at some moment, or it could hardly look.
    pub async fn hold(self) {
        let (looks, violations) = self.seen().await;
        assert!(violations.is_empty(), "{violations:#?}");
        assert!(looks >= 10, "looked {looks} times");
    }

    /// Ends looking; answers how often it looked, and what was not true at some moment.
    ///
    /// # Panics
    /// When it could not go on.
    pub async fn seen(self) -> (usize, Vec<String>) {
        self.stop.send_replace(true);
        let seen = self.looking.await.expect("looking went on");
        (seen.looks, seen.violations)
    }
}

/// A connection that keeps to one core.
async fn alone(url: &str) -> Result<PgConnection, sqlx::Error> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::query("set max_parallel_workers_per_gather = 0")
        .execute(&mut connection)
        .await?;
    Ok(connection)
}

async fn look(connection: &mut PgConnection, seen: &mut Seen) -> Result<(), sqlx::Error> {
    let mut violations: Vec<String> = sqlx::query_scalar(VIOLATIONS).fetch_all(&mut *connection).await?;
    seen.violations.append(&mut violations);
    let rows: Vec<(Uuid, i32, bool)> = sqlx::query_as("select id, epoch, registered from work")
        .fetch_all(&mut *connection)
        .await?;
    for (id, epoch, registered) in rows {
        let before = seen.epochs.insert(id, (epoch, registered)).unwrap_or_default();
        if epoch < before.0 || (before.1 && !registered) {
            seen.violations
                .push(format!("{id} went back from {before:?} to {:?}", (epoch, registered)));
        }
    }
    seen.looks += 1;
    Ok(())
}
