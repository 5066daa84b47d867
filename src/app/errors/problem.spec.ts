import { expect, it } from 'vitest';
import { HatcheryError } from '../../core/errors.js';
import { asHatcheryError } from './problem.js';

it.each([
  Object.assign(new Error('connect ECONNREFUSED 127.0.0.1:5432'), { code: 'ECONNREFUSED' }),
  Object.assign(new Error('terminating connection due to administrator command'), { code: '57P01' }),
  Object.assign(new Error('the database system is starting up'), { code: '57P03' }),
  new Error('Connection terminated unexpectedly'),
  new Error('timeout exceeded when trying to connect'),
])('says that the database is away, not that the service is broken: %s', (error) => {
  const problem = asHatcheryError(error);
  expect(problem).toMatchObject({ code: 'service-unreachable', cause: error });
  expect(problem.afterMs).toBeGreaterThan(0);
  expect(problem.message).not.toContain('127.0.0.1');
});

it('keeps what it does not know to the log, and what is ours as it is', () => {
  const broken = Object.assign(new Error('duplicate key'), { code: '23505' });
  expect(asHatcheryError(broken)).toMatchObject({ code: 'internal', cause: broken });
  const ours = new HatcheryError('not-found', 'Unable to find it');
  expect(asHatcheryError(ours)).toBe(ours);
});
