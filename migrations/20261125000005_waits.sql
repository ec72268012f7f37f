-- What a receipt waited for, so that whoever takes it to work again can record the wait in its trace: `moved_at` is overwritten by
-- the claim, and what a person or an original ended looks like a timer by then. Written by the step that makes it wait, and left as
-- it is until the next one; NULL while its owner takes it on. In no index: steps stay HOT.
-- An older process goes on beside it and writes none of it: what it makes wait is recorded as an earlier wait, or not at all.

create type wait_kind as enum ('timer', 'turn', 'queue', 'original', 'person');

alter table work
    add column wait_began  timestamptz,
    add column wait_kind   wait_kind,
    add column wait_reason text;                -- outcome and status of the last call, or who gave it back: never an answer's words
