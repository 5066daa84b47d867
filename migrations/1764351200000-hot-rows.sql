-- A worker's row is never removed. Each claim and each end of a step locked it to see that it is still there, all at once on the same row.
alter table steps drop constraint steps_worker_id_fkey;
