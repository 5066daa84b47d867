import type { Build } from './build.js';

/** What is taken is unique as long as everybody holds the lock: the database itself takes anything (Q09). */
export const lockInsteadOfConstraint: Build = {
  schema: 'alter table reservations drop constraint reservations_pkey cascade',
};
