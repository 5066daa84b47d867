-- Grows with every change that the run model makes of a run or its steps: who has a run in hand writes only if nobody else did in between.
alter table runs add column version int not null default 0;
-- Room on each page for the next state of a row, so that its indexes need not be written with it.
alter table runs set (fillfactor = 60);
alter table machines set (fillfactor = 80);
-- Nothing names an attempt but its step and epoch.
alter table attempts drop constraint attempts_pkey, drop constraint attempts_step_id_epoch_key, drop column id, add primary key (step_id, epoch);
