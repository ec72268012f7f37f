-- Whether a receipt was sent to the destination it is bound for: `unresolved` and `registered` may speak of another one, and
-- a destination that is drained submits nothing new for those.
-- An older process goes on beside it and writes none (null): then they are taken to speak of this one.

alter table work add column sent boolean; -- a call that registers was accepted there, or nobody knows
