-- Chekhov's schema. Rules it has to keep: docs of `shared::store`.
-- What is open lives in `work`; what is final leaves it for `finished`; the rest is only ever appended to.

create type open_state as enum ('running', 'waiting', 'queued', 'dispatching', 'parked');
create type final_state as enum ('registered', 'rejected', 'cancelled');

-- Every version of a pipeline that a receipt began with: a receipt finishes on it.
create table pipelines (
    version   text primary key,
    name      text not null,
    source    json not null,
    longest_timeout_ms bigint not null,         -- that one of its requests sets for itself: how long a call may outlive its caller
    stored_at timestamptz not null default now()
);

-- What was accepted; immutable. `id` is a UUIDv7, so a range of ids is a range of time.
create table receipts (
    id          uuid primary key,
    merchant    text not null,
    external_id text not null,
    pipeline    text not null,
    content     json not null,
    traceparent text not null,
    tracestate  text,
    deadline    timestamptz,
    accepted_at timestamptz not null default now()
) partition by range (id);

-- One row a business key for ever: it outlives the retention of `receipts`.
create table receipt_keys (
    merchant     text collate "C" not null,
    external_id  text collate "C" not null,
    receipt      uuid not null,
    content_hash bytea not null,
    primary key (merchant, external_id)
);

-- One row an open receipt, narrow and hot. `state` and `owner` stand in no index and no index predicate:
-- PostgreSQL counts a predicate's columns as indexed, and no update would be HOT.
create table work (
    id              uuid primary key,
    pipeline        text not null,
    state           open_state not null,
    position        smallint not null,          -- index of the stage to run
    destination     text not null,              -- of this stage, or of the next external one; '' if there is none
    epoch           integer not null,           -- the fencing number
    owner           uuid,                       -- the instance that has it
    internal_due_at timestamptz,                -- waiting for an orchestrator until then
    call_due_at     timestamptz,                -- waiting for the destination, on a timer
    first_call_key  timestamptz,                -- waiting for its first call there: the deadline, or infinity
    deadline        timestamptz,
    moved_at        timestamptz not null default now(),
    attempt         integer not null default 0, -- attempts of this stage so far
    failures        integer not null default 0, -- of them, the retries: the exponent of the back-off
    polls           integer not null default 0,
    undeclared      integer not null default 0, -- answers nobody declared, in this stage
    reissues        integer not null default 0, -- the n of the call id
    spent_ms        bigint not null default 0,  -- of the stage's retry budget: attempts and planned waits
    unresolved      boolean not null default false,
    registered      boolean not null default false,
    reason          text,
    constraint owned check ((owner is not null) = (state in ('running', 'dispatching'))),
    constraint timed check (num_nonnulls(internal_due_at, call_due_at, first_call_key) = case when state = 'waiting' then 1 else 0 end),
    constraint bound_for check (destination <> '' or (call_due_at is null and first_call_key is null and state not in ('queued', 'dispatching')))
) with (fillfactor = 85, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 50000,
        autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 200000,
        autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000);

create index work_internal_due on work (internal_due_at) where internal_due_at is not null;
create index work_call_due on work (destination, call_due_at) where call_due_at is not null;
create index work_first_call on work (destination, first_call_key, id) where first_call_key is not null;

-- Every HTTP call that was made: appended without a guard, so that no answer is ever dropped. The last call of a stage that
-- succeeded also has what the stage came to, if its step was taken: a row of its own would cost as much again.
create table calls (
    id            uuid not null,
    receipt       uuid not null,
    stage         text not null,
    request       text not null,                -- '': no call, for a stage that came to its result without one
    attempt       integer not null,
    call_id       text not null,
    started_at    timestamptz not null,
    duration_ms   integer not null,
    outcome       text not null,
    status        smallint,
    error         text,
    retry_after_s integer,
    registers     boolean not null,
    registered    boolean not null,             -- its answer said that the receipt is registered
    value         json,                         -- of a call that registers and succeeded: read before any repeat
    result        json,                         -- {request: value} of the stage that it ended
    stored_at     timestamptz not null default now()
) partition by range (receipt);
create index calls_receipt on calls (receipt);

-- The bytes of a request that registers, stored before its first send and sent again unchanged.
create table sends (
    receipt   uuid not null,
    call_id   text not null,
    method    text not null,
    path      text not null,
    headers   json not null,
    body      bytea,
    stored_at timestamptz not null default now(),
    primary key (receipt, call_id)
) partition by range (receipt);

-- What is final; append-only.
create table finished (
    id          uuid primary key,
    state       final_state not null,
    epoch       integer not null,
    stage       text,
    reason      text,
    finished_at timestamptz not null default now()
) partition by range (id);

-- Signs of life: one row an instance.
create table instances (
    id         uuid primary key,
    service    text not null,
    beat       bigint not null default 0,
    started_at timestamptz not null default now()
);

-- How many receipts were put into a destination's horizon, and by how many each instance emptied it.
-- queued = put - sum(taken): exact, since both change in the transaction that moves the rows.
create table horizons (
    destination text primary key,
    put         bigint not null default 0
);

-- What is known of a destination, one row for all instances. Every change but that of `pace` raises the version, by which it
-- is followed. `closed_at` and what goes with it are the breaker's; `mode` is the operators'.
create type destination_mode as enum ('open', 'paused', 'draining');
create table destinations (
    name         text primary key,
    version      bigint not null default 1,
    declared     jsonb not null,                -- the settings in the configuration of whoever started last
    changed      jsonb not null default '{}',   -- what operators changed of them
    mode         destination_mode not null default 'open',
    said         text,                          -- why operators set it
    closed_at    timestamptz,
    closed_for   text,                          -- why
    probe_at     timestamptz,                   -- no canary before
    failed_at    timestamptz,                   -- when it was closed last: what was accepted since is fresh
    probes       integer not null default 0,    -- canaries that failed since it was well
    canary       uuid,                          -- the instance that may make the one call,
    canary_until timestamptz,                   -- until then
    opened_at    timestamptz,                   -- slow start counts from here
    pace         jsonb not null default '{"next": 0}',  -- the slots given out
    constraint closed check (num_nonnulls(closed_at, closed_for, probe_at) in (0, 3))
) with (fillfactor = 50);

create table horizon_taken (
    destination text not null,
    instance    uuid not null,
    taken       bigint not null,
    passed      timestamptz,                    -- when the latest receipt that it claimed had been queued: the queue is past that
    primary key (destination, instance)
);

create function uuid_from(at timestamptz) returns uuid language sql immutable strict as $$
    select (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '00000000000000000000')::uuid
$$;

-- Daily partitions up to `days` ahead; whoever starts first makes them, the rest find them there.
create function create_partitions(days integer) returns void language plpgsql as $$
declare
    day timestamptz;
    parent text;
    part text;
begin
    perform pg_advisory_xact_lock(hashtext('chekhov partitions'));
    for n in -1 .. days loop
        day := date_trunc('day', now() at time zone 'UTC') at time zone 'UTC' + make_interval(days => n);
        foreach parent in array array['receipts', 'sends', 'finished', 'calls'] loop
            part := parent || to_char(day at time zone 'UTC', '_YYYYMMDD');
            continue when to_regclass(part) is not null;
            execute format('create table %I partition of %I for values from (%L) to (%L)', part, parent, uuid_from(day), uuid_from(day + interval '1 day'));
        end loop;
    end loop;
end $$;
select create_partitions(7);
