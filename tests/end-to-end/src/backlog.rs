//! Receipts that have come as far as their first external stage, made directly in the database: as many as an outage of
//! hours leaves behind.

use std::time::Duration;

use crate::servers::Database;

/// Copies of a receipt that was registered.
#[derive(Debug, Clone)]
pub struct Backlog {
    /// Begins the external ids: `<name>-1` and so on.
    pub name: String,
    /// How many.
    pub count: u64,
    /// The internal stages, in their order: all are done.
    pub internal: Vec<String>,
    /// The first so many were called for once, and are due again.
    pub timers: u64,
    /// The last so many have a deadline,
    pub urgent: u64,
    /// so long from now.
    pub deadline: Duration,
}

impl Backlog {
    /// Makes them wait for the destination `fiscal`: for their first call, but for the timers.
    ///
    /// # Errors
    /// When the database does not take them.
    pub fn fill(&self, database: &Database) -> anyhow::Result<()> {
        let Self {
            name,
            count,
            internal,
            timers,
            urgent,
            deadline,
        } = self;
        let deadline = deadline.as_secs();
        let stages: Vec<String> = internal.iter().map(|stage| format!("'{stage}'")).collect();
        let (stages, position) = (stages.join(", "), internal.len());
        database.sql(&format!(
            "create temporary table one as
             select * from receipts where id = (select id from finished where state = 'registered' limit 1);
             create temporary table copies as
             select n, overlay(uuid_from(now() - interval '1 minute' + n * interval '1 minute' / {count})::text
                               placing substr(md5(n::text)::uuid::text, 15) from 15 for 22)::uuid as id,
                    format('{name}-%s', n) as external_id,
                    case when n > {count} - {urgent} then now() + interval '{deadline} s' end as deadline
             from generate_series(1, {count}) n;
             create temporary table done as
             select calls.* from calls join one on calls.receipt = one.id where stage in ({stages});
             insert into receipts (id, merchant, external_id, pipeline, content, traceparent, deadline)
             select copies.id, merchant, copies.external_id, pipeline,
                    jsonb_set(content::jsonb, '{{external_id}}', to_jsonb(copies.external_id))::json, traceparent, copies.deadline
             from copies, one;
             insert into receipt_keys
             select merchant, copies.external_id, copies.id, sha256(copies.external_id::bytea) from copies, one;
             insert into calls (id, receipt, stage, request, attempt, call_id, started_at, duration_ms, outcome, status,
                                registers, registered, result)
             select gen_random_uuid(), copies.id, stage, request, attempt, call_id, started_at, duration_ms, outcome, status,
                    registers, registered, result
             from copies, done;
             insert into work (id, pipeline, state, position, destination, epoch, deadline, first_call_key, call_due_at, attempt, failures)
             select copies.id, pipeline, 'waiting', {position}, 'fiscal', 1, copies.deadline,
                    case when n > {timers} then coalesce(copies.deadline, 'infinity') end,
                    case when n <= {timers} then now() end, (n <= {timers})::int, (n <= {timers})::int
             from copies, one"
        ))?;
        database.sql("vacuum analyze work").map(drop)
    }

    /// Their ids, by the order of their names.
    ///
    /// # Errors
    /// When the database does not answer.
    pub fn ids(&self, database: &Database) -> anyhow::Result<Vec<String>> {
        let like = format!("{}-%", self.name);
        let found = database.sql(&format!(
            "select receipt from receipt_keys where external_id like '{like}' order by substr(external_id, {})::int",
            self.name.len() + 2
        ))?;
        Ok(found.lines().map(str::to_owned).collect())
    }

    /// How many of their rows in `work` were written since they were made: those of other transactions than the most.
    ///
    /// # Errors
    /// When the database does not answer.
    pub fn touched(&self, database: &Database) -> anyhow::Result<usize> {
        let like = format!("{}-%", self.name);
        let rows = database.sql(&format!(
            "select coalesce(sum(rows), 0) from (
                 select count(*) as rows from work join receipt_keys on receipt = id where external_id like '{like}'
                 group by work.xmin order by 1 desc offset 1
             ) others"
        ))?;
        Ok(rows.parse()?)
    }
}
