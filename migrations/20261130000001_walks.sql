-- How far the relays of a destination have come (`to`) and where they go on (`from`): there too, or further back, where somebody
-- waits who came to stand before it. He is looked for apart, so that no pick passes the index entries of all that were picked
-- before it, which stay until they are vacuumed.
-- An older process goes on beside it and leaves them where they are.

alter table horizons
    add column timers_from    timestamptz not null default '-infinity', -- `call_due_at`
    add column timers_to      timestamptz not null default '-infinity',
    add column firsts_from    timestamptz not null default '-infinity', -- `first_call_key`,
    add column firsts_from_id uuid not null default '00000000-0000-0000-0000-000000000000', -- id
    add column firsts_to      timestamptz not null default '-infinity',
    add column firsts_to_id   uuid not null default '00000000-0000-0000-0000-000000000000';
