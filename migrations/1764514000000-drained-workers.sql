-- Since when a worker is asked to take no new step and to end when its hands are empty.
alter table workers add column drain_at timestamptz;
