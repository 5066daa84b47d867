-- Steps that a server can do many of at once: those with the same key are claimed together. While a step gathers it waits for its group and is
-- not admitted by itself; the key stays as long as its attempt does.
alter table steps add column group_key text, add column is_gathering boolean not null default false;
create index steps_gathering on steps (group_key, due_at) where is_gathering;
create index steps_grouped on steps (group_key) where group_key is not null and not is_gathering;
