//! A million receipts of a thousand merchants, made directly in the database from one that was registered.

use end_to_end::Database;

/// The external id of the receipt that has many calls.
pub const LONG: &str = "search-long";

/// How many, and how many of them wait.
#[derive(Debug, Clone, Copy)]
pub struct Filling {
    /// In all.
    pub count: u64,
    /// Of them: for a person a tenth, on timers a third, for their first call half, for an original the rest.
    pub waiting: u64,
}

impl Filling {
    /// Makes them. They were accepted within the last twelve hours, in the order of their numbers; the last ones wait.
    pub fn fill(self, database: &Database) -> anyhow::Result<()> {
        let Self { count, waiting } = self;
        let ended = count - waiting;
        let long = ended + 2;
        database.sql(&format!(
            "set synchronous_commit = off;
             create temporary table one as
             select * from receipts where id = (select id from finished where state = 'registered' limit 1);
             create temporary table done as select calls.* from calls join one on calls.receipt = one.id;
             create temporary table given as
             select n, n % 20 as kind, case when n = {long} then '{LONG}' else 'search-' || n end as external_id, 'm-' || n % 1000 as merchant,
                    overlay(uuid_from(now() - interval '12 hours' + n * interval '12 hours' / {count})::text
                            placing substr(md5(n::text)::uuid::text, 15) from 15 for 22)::uuid as id,
                    now() - interval '12 hours' + n * interval '12 hours' / {count} as at,
                    case when n % 3 = 0 then now() + (n % 5000) * interval '1 s' - interval '10 minutes' end as deadline,
                    case when n % 50 = 0 then 'other' else 'fiscal' end as destination,
                    case n % 7 when 0 then 'could not be reached: connection refused' when 1 then 'answered 503'
                               when 2 then 'answered 422: order ' || n || '-' || md5(n::text) when 3 then 'timed out' else 'answered 500' end as reason
             from generate_series(1, {count}) n;
             create index on given (n);
             analyze given;
             insert into receipts (id, merchant, external_id, pipeline, content, traceparent, deadline, accepted_at)
             select given.id, given.merchant, given.external_id, pipeline, content,
                    '00-' || md5(n::text) || '-b7ad6b7169203331-01', given.deadline, given.at
             from given, one;
             insert into receipt_keys select merchant, external_id, id, sha256(external_id::bytea) from given;
             insert into finished (id, state, epoch, stage, reason, finished_at)
             select id, case when n % 100 = 0 then 'rejected' when n % 999 = 0 then 'cancelled' else 'registered' end::final_state, 9,
                    case when n % 100 = 0 then 'register' else 'fetch' end, case when n % 100 = 0 then reason end, at + interval '1 minute'
             from given where n <= {ended};
             insert into work (id, pipeline, state, position, destination, epoch, deadline, call_due_at, first_call_key, waits_for,
                               moved_at, attempt, failures, polls, unresolved, reason)
             select given.id, pipeline, case when kind < 2 then 'parked' else 'waiting' end::open_state, 5, destination, 1, given.deadline,
                    case when kind between 2 and 8 then now() + (n % 9000) * interval '1 s' end,
                    case when kind between 9 and 18 then coalesce(given.deadline, 'infinity') end,
                    case when kind = 19 then (select o.id from given o where o.n = given.n - 18) end,
                    at, (kind < 9)::int, (kind < 7)::int, (kind in (7, 8))::int, kind = 3, case when kind < 9 then reason end
             from given, one where n > {ended};
             insert into calls (id, receipt, stage, request, attempt, call_id, started_at, duration_ms, outcome, status, registers, registered, value, result)
             select gen_random_uuid(), given.id, stage, request, attempt, call_id, started_at, duration_ms, outcome, status, registers, registered, value, result
             from given, done where n > {ended} and stage in ('validate', 'enrich', 'calculate', 'number', 'document') or n <= {ended} and n % 100 = 1;
             insert into calls (id, receipt, stage, request, attempt, call_id, started_at, duration_ms, outcome, status, error, registers, registered)
             select gen_random_uuid(), id, 'register', 'send', try, 'c', at + try * interval '1 s', 20, 'retry', 503, 'answered 503', true, false
             from given, generate_series(1, 3) try where n > {ended} and kind between 2 and 6
             union all
             select gen_random_uuid(), id, 'register', 'send', try, 'c', at + try * interval '1 s', 20, 'retry', 503, 'answered 503', true, false
             from given, generate_series(1, 2000) try where n = {long}"
        ))?;
        for table in ["work", "finished", "receipts", "receipt_keys", "calls"] {
            database.sql(&format!("vacuum analyze {table}"))?;
        }
        Ok(())
    }
}
