import { HatcheryError } from '../core/errors.js';

/** Postgres is away, too busy, or ended the connection. What was asked last may have been done or not; asking again later is right. */
export class StoreUnavailable extends HatcheryError {
  constructor(why: string, cause: unknown) {
    super('service-unreachable', `Unable to use the database: ${why}`, {
      retry: 'later',
      hint: 'Nothing is lost: try again in a moment.',
      cause,
    });
  }
}
