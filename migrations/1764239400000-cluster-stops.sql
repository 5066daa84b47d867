-- Why no step is dispatched to a cluster; the row goes when the reason is gone, and work goes on by itself.
create table cluster_stops (
  cluster text not null,
  reason text not null check (reason in ('foreign-deployment', 'token-rights')),
  error jsonb not null,
  since timestamptz not null default now(),
  primary key (cluster, reason)
);
