-- At the end of each machine one asks whether others of its batch still work: found at once, however large the batch is.
create index machines_working on machines (batch_id) where state in ('reserved', 'creating', 'deleting');
