-- Deaths of its workers among those of workers that had nothing of the run: they say less about it.
alter table runs add column deaths_among int not null default 0;
