-- Whose machine a step is for: slots are shared out between owners without a look at machines.
alter table steps add column owner_id uuid;
update steps s set owner_id = m.owner_id from runs r join machines m on m.id = r.machine_id where r.id = s.run_id;
alter table steps alter column owner_id set not null;
-- The lines of waiting steps, each owner's in the order in which they are admitted.
create index steps_waiting on steps (cluster, owner_id, slots, rank, id)
  where slots is not null and worker_id is null and not is_gathering and state in ('ready', 'undoing');

-- What the limit of a resource is now. Written by the dispatcher of its cluster, but for `fixed`, which a person wrote.
create table slot_limits (
  resource text primary key,
  cluster text not null,
  fixed int check (fixed between 1 and 1000),
  -- Follows the measured lock wait; null = as configured.
  measured int,
  why text,
  changed_at timestamptz,
  waits int not null default 0,
  wait_ms double precision not null default 0,
  wait_variance double precision not null default 0,
  too_much int,
  too_much_at timestamptz
);
create index slot_limits_cluster on slot_limits (cluster, resource);

-- Lock waits that workers saw and the dispatcher has not taken yet.
create table slot_waits (
  id bigint generated always as identity primary key,
  cluster text not null,
  resource text not null,
  wait_ms double precision not null,
  timed_out boolean not null,
  admitted_at timestamptz not null
);
