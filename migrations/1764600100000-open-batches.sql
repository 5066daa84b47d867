-- Each process looks once a second for batches that are at rest and not closed yet.
create index batches_open on batches (id) where is_open;
