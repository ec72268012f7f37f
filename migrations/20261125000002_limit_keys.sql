-- Limits and fairness per key: the part of a destination's limit that one cash register (or whatever else the API counts by) has.
-- An older process goes on beside it: receipts that it brings to a destination with keys have none, and are given one.

alter table work add column limit_key text collate "C"; -- where its destination has keys: the receipt's, fixed at hand-off; '' without one

-- As the two indexes of what is due, but key by key. Empty for destinations without keys.
create index work_first_call_of_key on work (destination, limit_key, first_call_key, id)
    where first_call_key is not null and limit_key is not null;
create index work_call_due_of_key on work (destination, limit_key, call_due_at)
    where call_due_at is not null and limit_key is not null;

-- What was given out of a key's limits. A key that nobody used for longer than any window is forgotten.
create table limit_keys (
    destination text not null,
    key         text collate "C" not null,
    pace        jsonb not null default '{"next": 0}',        -- the slots given out
    handed_at   timestamptz not null default '-infinity',    -- nothing more is handed off before
    handed_for  text not null default '',                    -- by these limits
    used_at     timestamptz not null default now(),
    primary key (destination, key)
) with (fillfactor = 50);
