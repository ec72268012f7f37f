-- Searching: whatever a person looks for is found by an index, page by page, and pages need an order without ties.
-- An older process goes on beside it: it writes nothing of this and need not. Its statements wait while `work` is gone through
-- once: some seconds for each million open receipts.

-- With the id at the end: where many are due at one instant, a page begins among them. Neither is longer for what is owned.
drop index work_internal_due, work_call_due, work_deadline;

-- When it became a person's turn, NULL unless it is one. Generated: nothing that parks or unparks can forget it, an older
-- process's statements no more than ours. It stays NULL from claim to outcome, so steps stay HOT.
alter table work add column parked_at timestamptz generated always as (case when state = 'parked' then moved_at end) stored;

create index work_internal_due on work (internal_due_at, id) where internal_due_at is not null;
create index work_call_due on work (destination, call_due_at, id) where call_due_at is not null;
create index work_deadline on work (destination, deadline, id) where deadline is not null;

-- What waits for a person, of all destinations and of one: the longest first. Rare rows.
create index work_parked on work (parked_at, id) where parked_at is not null;
create index work_parked_for on work (destination, parked_at, id) where parked_at is not null;

-- What did not end well. Rare rows: a receipt that is registered pays nothing. Led by the time, not by the id, so that no plan
-- can take the primary key for as good.
create index finished_unregistered on finished (finished_at, id) where state <> 'registered';
