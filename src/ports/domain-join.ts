import type { Secret } from './secrets.js';

/** The account with which machines join a domain. */
export interface DomainJoinAccount {
  /** DNS name of the domain. */
  readonly realm: string;
  readonly user: string;
  readonly password: Secret;
}
