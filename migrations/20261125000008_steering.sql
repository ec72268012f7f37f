-- What operators do: on record for good, and in bulk as jobs. An older process goes on beside it: what it lets operators do is not on
-- record here.

-- Every steering action: a row in the transaction that did it, so that there is none without the other. Whoever may change rows
-- here has to be let first: triggers bind everybody but who may disable them.
create table audit (
    id       bigint generated always as identity primary key,
    at       timestamptz not null default now(),
    who      text not null,             -- the token's name
    role     text not null,
    action   text not null,
    target   text not null,             -- a receipt's or a job's id, or a destination's name
    filter   jsonb,                     -- of a job: what it is for
    count    bigint not null,           -- receipts that were moved; of a job that was counted, that would be
    reason   text,                      -- as it was given
    detail   jsonb not null default '{}',
    trace_id text,                      -- of the request
    constraint reason_length check (length(reason) between 1 and 500)
);
-- Pages are read by target or by who it was, the newest first.
create index audit_target on audit (target, id);
create index audit_who on audit (who, id);

create function refuse() returns trigger language plpgsql as $$
begin
    raise exception '% is append-only', tg_table_name using errcode = 'insufficient_privilege';
end $$;
create trigger append_only before update or delete or truncate on audit for each statement execute function refuse();

-- An action upon many. Every batch moves its receipts, the cursor and the counts in one transaction, guarded by `fence`: what
-- dies in between has done nothing, and what was done is not done again.
create type job_state as enum ('counting', 'counted', 'running', 'stopped', 'done');
create table jobs (
    id         uuid primary key,
    action     text not null,
    stage      text,                            -- of a restart
    filter     jsonb not null,                  -- ages are times, so that it means the same all along
    reason     text not null,
    who        text not null,
    rate       integer not null,                -- receipts a second
    state      job_state not null,
    cursor     text,                            -- how far the walk has come, of the count or of the run
    examined   bigint not null default 0,       -- entries that the run looked at
    matched    bigint not null default 0,       -- receipts that the filter means, by the count
    movable    bigint not null default 0,       -- of them, those that could have been moved then
    moved      bigint not null default 0,
    refused    jsonb not null default '{}',     -- how many were not moved, by cause: of the count, then of the run
    holder     uuid,                            -- the instance that is at it,
    held_until timestamptz,                     -- until then
    fence      bigint not null default 0,       -- rises with each holder, and whenever it is stopped
    next_at    timestamptz not null default now(), -- no batch before: the rate, whoever holds it
    created_at timestamptz not null default now(),
    counted_at timestamptz,
    started_at timestamptz,
    ended_at   timestamptz,
    constraint rates check (rate between 1 and 5000)
) with (fillfactor = 50);
-- The few that somebody has to be at: a look costs nothing.
create index jobs_under_way on jobs (created_at) where state in ('counting', 'running');
