-- What is found out about calls of unknown outcome, refunds that wait for their originals, and the tokens of destinations.
-- An older process goes on beside it: it writes none of the new columns.

alter table work
    add column waits_for  uuid,                       -- a refund: waiting for this receipt, its original, to end
    add column unknown_at timestamptz,                -- when a call whose outcome nobody knows may last have been made, or was first not found
    add column absents    integer not null default 0; -- look-ups since then that did not find it

-- Not validated: what it adds is true of every row that is there, and nobody is to wait for a pass over all of them.
alter table work drop constraint timed;
alter table work add constraint timed
    check (num_nonnulls(internal_due_at, call_due_at, first_call_key, waits_for) = case when state = 'waiting' then 1 else 0 end) not valid;

create index work_waits_for on work (waits_for) where waits_for is not null;

-- The token of a destination that has one, sealed: one for all dispatchers. Who holds the lease alone may replace this version.
create table tokens (
    destination text primary key,
    version     bigint not null default 0,      -- rises with each token; 0: none yet
    sealed      bytea,
    fetched_at  timestamptz,
    expires_at  timestamptz,
    holder      uuid,                           -- the instance that fetches the next one
    shut_until  timestamptz,                    -- nobody else does before: its lease, or the pause after a failure
    failures    bigint not null default 0,      -- rises with each: who waits for a token learns that there will be none
    failed_for  text,                           -- why the last one was, until one succeeds
    constraint fetched check (num_nonnulls(sealed, fetched_at, expires_at) = case when version = 0 then 0 else 3 end)
);
