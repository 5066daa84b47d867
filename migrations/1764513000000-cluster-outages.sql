-- A cluster that is out (no quorum, or nobody reaches it) is one more reason why nothing is dispatched to it.
alter table cluster_stops drop constraint cluster_stops_reason_check,
  add constraint cluster_stops_reason_check check (reason in ('foreign-deployment', 'token-rights', 'paused', 'outage'));
