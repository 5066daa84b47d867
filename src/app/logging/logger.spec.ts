import { expect, it } from 'vitest';
import { HatcheryError } from '../../core/errors.js';
import { createLogger } from './logger.js';

function logged(write: (logger: ReturnType<typeof createLogger>) => void): Record<string, unknown> {
  const lines: string[] = [];
  write(createLogger('trace', { write: (line: string) => void lines.push(line) }));
  return JSON.parse(lines[0] ?? '{}') as Record<string, unknown>;
}

it('keeps what hangs on an error out of the log, but not what happened and why', () => {
  const cause = Object.assign(new Error('duplicate key'), {
    code: '23505',
    parameters: ['$argon2id$v=19'],
    config: { headers: { Authorization: 'PVEAPIToken=secret' } },
  });
  const error = new HatcheryError('remote-refused', 'Unable to clone: no', { facts: { vmid: 7 }, cause });
  const line = logged((logger) => logger.warn({ err: error }, 'a step failed'));
  expect(line).toMatchObject({
    err: { type: 'HatcheryError', code: 'remote-refused', facts: { vmid: 7 } },
  });
  expect(JSON.stringify(line)).toContain('duplicate key');
  expect(JSON.stringify(line)).not.toMatch(/argon2|PVEAPIToken/);
  const bare = logged((logger) => logger.warn({ err: cause }, 'a statement failed'));
  expect(bare).toMatchObject({ err: { code: '23505', message: 'duplicate key' } });
  expect(JSON.stringify(bare)).not.toMatch(/argon2|PVEAPIToken/);
});

it('masks fields that hold secrets', () => {
  const line = logged((logger) => logger.info({ password: 'a', at: { token: 'b' } }, 'x'));
  expect(line).toMatchObject({ password: '***', at: { token: '***' } });
});
