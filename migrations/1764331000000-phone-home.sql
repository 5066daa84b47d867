-- A guest that phones home: SHA-256 of its one-time token, and the address that it told with it.
alter table machines add column phone_home_hash bytea, add column phone_home_address text;
create unique index machines_phone_home on machines (phone_home_hash) where phone_home_hash is not null;
