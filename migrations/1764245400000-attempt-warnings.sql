-- What an attempt that succeeded said besides: a list of texts.
alter table attempts add column warnings jsonb;
