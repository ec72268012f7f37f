-- How many receipts wait, for what and at which stage: kept, for nobody may count them in `work`. What somebody owns its process
-- knows, what is queued `horizons` knows; this is the rest: what waits on its row, and what is parked.
--
-- Kept by triggers, so that no statement can forget it, nor an older process that goes on beside this. They look at what a
-- statement moved, once a statement; one that moves receipts between owners and the queue alone writes nothing here.

create table tallies (
    destination text not null,      -- as in `work`
    pipeline    text not null,      -- the version
    position    smallint not null,  -- index of the stage in it
    kind        text not null,      -- what it waits for: 'internal', 'timer', 'turn' (its first call), 'original'; or 'parked'
    unresolved  boolean not null,   -- nobody knows what came of a call that registers
    shard       smallint not null,  -- of the server process that counted: two of them seldom wait for each other; -1: what was folded
    count       bigint not null,    -- below zero where others counted what came: the sum of the shards is what is
    primary key (destination, pipeline, position, kind, unresolved, shard)
) with (fillfactor = 50);

-- What a row of `work` is counted as; null while somebody owns it or it is queued.
create function tallied(state open_state, call_due_at timestamptz, first_call_key timestamptz, waits_for uuid) returns text
    language sql immutable as $$
    select case when state = 'parked' then 'parked' when state <> 'waiting' then null when call_due_at is not null then 'timer'
                when first_call_key is not null then 'turn' when waits_for is not null then 'original' else 'internal' end
$$;

-- Rows are locked in the order of the key, after everything else that the statement locks.
create function tally() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        insert into tallies as t
        select destination, pipeline, position, kind, unresolved, pg_backend_pid() % 64, count(*)
        from (select *, tallied(state, call_due_at, first_call_key, waits_for) as kind from came) moved where kind is not null
        group by destination, pipeline, position, kind, unresolved order by destination, pipeline, position, kind, unresolved
        on conflict (destination, pipeline, position, kind, unresolved, shard) do update set count = t.count + excluded.count;
    elsif tg_op = 'DELETE' then
        insert into tallies as t
        select destination, pipeline, position, kind, unresolved, pg_backend_pid() % 64, -count(*)
        from (select *, tallied(state, call_due_at, first_call_key, waits_for) as kind from went) moved where kind is not null
        group by destination, pipeline, position, kind, unresolved order by destination, pipeline, position, kind, unresolved
        on conflict (destination, pipeline, position, kind, unresolved, shard) do update set count = t.count + excluded.count;
    -- The way of every receipt that does not wait ends here: a look at what was moved.
    elsif exists (select from came where state in ('waiting', 'parked')) or exists (select from went where state in ('waiting', 'parked')) then
        insert into tallies as t
        select destination, pipeline, position, kind, unresolved, pg_backend_pid() % 64, sum(n) from (
            select destination, pipeline, position, unresolved, tallied(state, call_due_at, first_call_key, waits_for) as kind, 1 as n from came
            union all
            select destination, pipeline, position, unresolved, tallied(state, call_due_at, first_call_key, waits_for), -1 from went
        ) moved where kind is not null
        group by destination, pipeline, position, kind, unresolved having sum(n) <> 0 order by destination, pipeline, position, kind, unresolved
        on conflict (destination, pipeline, position, kind, unresolved, shard) do update set count = t.count + excluded.count;
    end if;
    return null;
end $$;

-- From here on nobody writes `work` until this is committed: what is counted now and what the triggers count is everything. Who
-- writes repeats its statement meanwhile; one pass over ten million rows takes seconds.
create trigger tally_inserts after insert on work referencing new table as came for each statement execute function tally();
create trigger tally_updates after update on work referencing old table as went new table as came for each statement execute function tally();
create trigger tally_deletes after delete on work referencing old table as went for each statement execute function tally();

insert into tallies
select destination, pipeline, position, kind, unresolved, -1, count(*)
from (select *, tallied(state, call_due_at, first_call_key, waits_for) as kind from work) moved where kind is not null
group by destination, pipeline, position, kind, unresolved;
