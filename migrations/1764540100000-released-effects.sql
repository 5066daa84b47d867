-- An effect that a person let go of: nothing undoes it any more, and what it names stays outside.
alter table effects add column released_at timestamptz, add column released_by text, add column released_why text;
create index effects_released on effects (released_at, id) where released_at is not null;
-- What people did to a run, newest first.
create index audit_subject on audit (subject, id);
