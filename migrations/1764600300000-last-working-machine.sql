-- Machines of a batch come to rest in the order of their rows: the last one at work is found from the end, without a walk over those before it.
drop index machines_working;
create index machines_working on machines (batch_id, row) where state in ('reserved', 'creating', 'deleting');
