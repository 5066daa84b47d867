-- The truth of one deployment. Redis holds hints only; the remote systems are the truth about themselves.

create table deployment (
  id uuid primary key,
  name text not null,
  created_at timestamptz not null default now(),
  is_only boolean not null default true unique check (is_only)
);

create table users (
  id uuid primary key,
  login text not null,
  role text not null check (role in ('admin', 'teacher')),
  password_hash text,
  created_at timestamptz not null default now(),
  disabled_at timestamptz
);
create unique index users_login on users (lower(login));

create table api_tokens (
  id uuid primary key,
  user_id uuid not null references users (id),
  name text not null,
  token_hash bytea not null unique,
  created_at timestamptz not null default now(),
  expires_at timestamptz,
  last_used_at timestamptz,
  revoked_at timestamptz
);
create index api_tokens_user on api_tokens (user_id);

-- What a cluster or service was at first contact: another CA or own name under the same name is refused at boot.
create table clusters (
  name text primary key,
  kind text not null,
  own_name text,
  trust_digest text not null,
  definition jsonb not null,
  seen_at timestamptz not null default now()
);
create table services (
  name text primary key,
  kind text not null,
  definition jsonb not null,
  seen_at timestamptz not null default now()
);

create table blueprint_versions (
  id uuid primary key,
  name text not null,
  version int not null,
  digest text not null,
  definition jsonb not null,
  created_at timestamptz not null default now(),
  unique (name, version)
);

-- id = sha256 of the canonical definition; plan = the compiled form that runs keep using.
create table workflow_versions (
  id text primary key,
  workflow text not null,
  plan jsonb not null,
  created_at timestamptz not null default now()
);

create table batches (
  id uuid primary key,
  name text not null,
  owner_id uuid not null references users (id),
  blueprint_version_id uuid not null references blueprint_versions (id),
  workflow_version_id text not null references workflow_versions (id),
  cluster text not null,
  notify_url text,
  -- True until every machine has come to rest once; then the summary is posted, once.
  is_open boolean not null default true,
  created_at timestamptz not null default now(),
  settled_at timestamptz,
  deleted_at timestamptz
);
create unique index batches_name on batches (name) where deleted_at is null;
create index batches_owner on batches (owner_id, id);

create table machines (
  id uuid primary key,
  batch_id uuid not null references batches (id),
  owner_id uuid not null references users (id),
  row int not null,
  login text not null,
  last_name text not null default '',
  first_name text not null default '',
  email text,
  group_name text,
  name text not null,
  cluster text not null,
  vmid int not null,
  mac text not null,
  node text not null,
  smbios_uuid text,
  address text,
  link text,
  secret_ref uuid,
  state text not null default 'reserved'
    check (state in ('reserved', 'creating', 'ready', 'parked', 'failed', 'deleting', 'deleted')),
  error jsonb,
  created_at timestamptz not null default now(),
  ready_at timestamptz,
  deleted_at timestamptz
);
create index machines_batch on machines (batch_id, row, id);
create index machines_owner on machines (owner_id, id);

-- Numbers and names that at most one live machine holds. A released value rests until rest_until; the row is then taken over.
create table reservations (
  kind text not null check (kind in ('vmid', 'mac', 'name', 'person')),
  scope text not null,
  value text not null,
  machine_id uuid references machines (id),
  created_at timestamptz not null default now(),
  released_at timestamptz,
  rest_until timestamptz,
  note text,
  primary key (kind, scope, value),
  check ((released_at is null) = (rest_until is null))
);
create index reservations_resting on reservations (rest_until) where rest_until is not null;
create index reservations_machine on reservations (machine_id);

create table runs (
  id uuid primary key,
  machine_id uuid not null references machines (id),
  batch_id uuid not null references batches (id),
  workflow_version_id text not null references workflow_versions (id),
  state text not null default 'queued'
    check (state in ('queued', 'running', 'undoing', 'parked', 'done', 'failed', 'cancelled')),
  wanted text not null default 'done' check (wanted in ('done', 'gone')),
  inputs jsonb not null,
  error jsonb,
  -- What an undo ends in: a failure's own undo in 'failed', a person's cancel or delete in 'cancelled'.
  undo_ends_as text check (undo_ends_as in ('failed', 'cancelled')),
  -- Workers that died while they held a step of this run; from three on it is claimed alone, and parked after three more.
  deaths int not null default 0,
  deaths_alone int not null default 0,
  created_at timestamptz not null default now(),
  started_at timestamptz,
  finished_at timestamptz
);
create unique index runs_machine_live on runs (machine_id) where finished_at is null;
create index runs_machine on runs (machine_id);
create index runs_batch on runs (batch_id, id);

create table workers (
  id uuid primary key,
  host text not null,
  pid int not null,
  step_versions jsonb not null,
  started_at timestamptz not null default now(),
  lease_until timestamptz not null,
  stopped_at timestamptz
);

create table steps (
  id uuid primary key,
  run_id uuid not null references runs (id),
  cluster text not null,
  key text not null,
  uses text not null,
  version int not null,
  state text not null default 'pending'
    check (state in ('pending', 'ready', 'running', 'done', 'failed', 'parked', 'skipped', 'undoing', 'undone', 'undo-parked')),
  -- Steps on the longest way from here to the end: what is nearest to its end goes first.
  rank int not null,
  due_at timestamptz,
  -- Admission: slots wanted by the next attempt; null = none, or admitted.
  slots text[],
  dispatch int not null default 0,
  dispatched_at timestamptz,
  epoch int not null default 0,
  worker_id uuid references workers (id),
  claimed_at timestamptz,
  -- Tries counted against the retry policy; a wait or a worker's death is not one.
  tries int not null default 0,
  first_claimed_at timestamptz,
  input jsonb,
  output jsonb,
  -- Remote ids stored by run.once: { key: { value, since } }
  remote jsonb not null default '{}',
  error jsonb,
  percent int,
  finished_at timestamptz,
  unique (run_id, key)
);
create index steps_due on steps (due_at) where state in ('ready', 'undoing') and worker_id is null;
create index steps_held on steps (worker_id) where worker_id is not null;

create table attempts (
  id uuid primary key,
  step_id uuid not null references steps (id),
  epoch int not null,
  kind text not null check (kind in ('act', 'undo')),
  worker_id uuid not null,
  started_at timestamptz not null default now(),
  ended_at timestamptz,
  outcome text check (outcome in ('done', 'waiting', 'retry', 'failed', 'parked', 'lost', 'refused', 'handed-over')),
  error jsonb,
  unique (step_id, epoch)
);

-- One thing made outside, recorded before it is made.
create table effects (
  id uuid primary key,
  seq bigint generated always as identity,
  kind text not null,
  version int not null,
  system text not null,
  key text not null,
  shared boolean not null default false,
  -- The step that made it; for a shared effect the first one.
  step_id uuid not null references steps (id),
  payload jsonb not null,
  state text not null default 'intended' check (state in ('intended', 'confirmed', 'undoing', 'undone')),
  intended_at timestamptz not null default now(),
  confirmed_at timestamptz,
  undone_at timestamptz
);
create unique index effects_live on effects (system, kind, key) where state <> 'undone';
create index effects_step on effects (step_id);

create table effect_holders (
  effect_id uuid not null references effects (id),
  machine_id uuid not null references machines (id),
  step_id uuid not null references steps (id),
  held_at timestamptz not null default now(),
  released_at timestamptz,
  primary key (effect_id, machine_id)
);
create index effect_holders_step on effect_holders (step_id);
create index effect_holders_machine on effect_holders (machine_id);

create table slots (
  resource text not null,
  number int not null,
  step_id uuid not null references steps (id),
  held_at timestamptz not null default now(),
  primary key (resource, number)
);
create index slots_step on slots (step_id);

create table outbox (
  id bigint generated always as identity primary key,
  -- dispatch: hand a step to the queue; advance: let a run see that it is wanted gone; notify: post a batch's summary.
  kind text not null check (kind in ('dispatch', 'advance', 'notify')),
  payload jsonb not null,
  created_at timestamptz not null default now(),
  due_at timestamptz not null default now(),
  tries int not null default 0
);

-- Served only below the oldest open transaction: commit order is not the order of seq.
create table events (
  seq bigint generated always as identity primary key,
  xid xid8 not null default pg_current_xact_id(),
  at timestamptz not null default now(),
  type text not null,
  batch uuid,
  machine uuid,
  run uuid,
  step text,
  state text,
  percent int,
  code text,
  data jsonb
);
create index events_order on events (xid, seq);
create index events_batch on events (batch, xid, seq);

create table idempotency_keys (
  user_id uuid not null references users (id),
  route text not null,
  key text not null,
  payload_hash text not null,
  status int,
  answer jsonb,
  created_at timestamptz not null default now(),
  primary key (user_id, route, key)
);

create table secrets (
  id uuid primary key,
  machine_id uuid references machines (id),
  purpose text not null,
  key_id text not null,
  nonce bytea not null,
  ciphertext bytea not null,
  -- Shown once to a person; null = not yet.
  shown_at timestamptz,
  created_at timestamptz not null default now(),
  unique (machine_id, purpose)
);

create table audit (
  id bigint generated always as identity primary key,
  at timestamptz not null default now(),
  actor text not null,
  action text not null,
  subject text not null,
  detail jsonb not null default '{}'
);

-- Unix milliseconds of a time: what the engine computes with.
create function ms(t timestamptz) returns double precision
  language sql immutable parallel safe return floor(extract(epoch from t) * 1000);
create function from_ms(t double precision) returns timestamptz
  language sql immutable parallel safe return to_timestamp(t / 1000);
