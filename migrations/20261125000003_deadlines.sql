-- Deadlines at risk are found without a look at what has none. Neither column changes while a receipt goes through its internal
-- stages: their checkpoints stay HOT.

create index work_deadline on work (destination, deadline) where deadline is not null;
