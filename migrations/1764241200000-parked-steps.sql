-- Before the first try of a step one looks whether the cluster refused it to another machine for good.
create index steps_parked on steps (uses) where state = 'parked';
