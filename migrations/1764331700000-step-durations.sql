-- How long the newest steps took, by cluster, blueprint and step of its workflow: what remaining times and the first question to a guest go by.
create table step_durations (
  cluster text not null,
  blueprint text not null,
  step text not null,
  -- Steps counted since the beginning, and the newest of them, oldest first: [took, after, by] in milliseconds (src/ports/durations.ts).
  count bigint not null,
  recent jsonb not null,
  updated_at timestamptz not null default now(),
  primary key (cluster, blueprint, step)
);
-- The place in the log of events up to which finished steps are counted; its row lock makes one writer of many.
create table step_durations_place (
  xid xid8 not null,
  seq bigint not null,
  is_only boolean primary key default true check (is_only)
);
insert into step_durations_place (xid, seq) values ('0', 0);
