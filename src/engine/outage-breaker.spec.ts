import { expect, it } from 'vitest';
import { HatcheryError, type ErrorRecord } from '../core/errors.js';
import type { EngineParts } from './engine.js';
import { OutageBreaker } from './outage-breaker.js';

const NO_QUORUM: ErrorRecord = { code: 'cluster-no-quorum', message: 'no quorum' };

function world() {
  const at = { nowMs: 0, asked: 0, stopped: undefined as ErrorRecord | undefined, isOut: true };
  const parts = {
    stops: {
      holds: async () => at.stopped !== undefined,
      stop: async (_cluster: string, _reason: string, error: ErrorRecord) => {
        const isNew = at.stopped === undefined;
        at.stopped = error;
        return isNew;
      },
      lift: async () => {
        const was = at.stopped;
        at.stopped = undefined;
        return was !== undefined;
      },
    },
    clock: { monotonicMs: () => at.nowMs },
    log: { warn: () => {}, info: () => {} },
    random: () => 1,
    ports: {
      remoteTimeScale: 1,
      hypervisor: () => ({
        probe: async () => {
          at.asked += 1;
          if (at.isOut) throw new HatcheryError('cluster-no-quorum', 'the cluster has no quorum');
        },
      }),
    },
  } as unknown as EngineParts;
  return { at, breaker: new OutageBreaker(parts) };
}

it('asks once for many steps that meet the same, and stops the cluster when it agrees', async () => {
  const { at, breaker } = world();
  await Promise.all(Array.from({ length: 50 }, () => breaker.suspect('main', NO_QUORUM)));
  expect(at.asked).toBe(1);
  expect(at.stopped).toMatchObject({ code: 'cluster-no-quorum' });
});

it('stops nothing when the cluster answers well, and for what is about one node or one guest asks nobody', async () => {
  const { at, breaker } = world();
  at.isOut = false;
  await breaker.suspect('main', NO_QUORUM);
  expect([at.asked, at.stopped]).toEqual([1, undefined]);
  at.nowMs += 60_000;
  for (const facts of [{ reason: 'node-unreachable' }, { lock: 'backup' }])
    await breaker.suspect('main', { code: 'cluster-unreachable', message: '', facts });
  expect(at.asked).toBe(1);
});

it('is asked about every few seconds until it is back, and a cluster that is not out never', async () => {
  const { at, breaker } = world();
  for (let second = 0; second < 60; second += 1) {
    at.nowMs += 1_000;
    await breaker.probe('main');
  }
  expect(at.asked).toBe(0);
  // The sweeper, which looks all the time, does not take the turn of whoever has something to ask.
  await breaker.suspect('main', NO_QUORUM);
  expect(at.stopped).toBeDefined();
  for (let second = 0; second < 60; second += 1) {
    at.nowMs += 1_000;
    await breaker.probe('main');
  }
  expect(at.asked).toBe(1 + 12);
  at.isOut = false;
  at.nowMs += 5_000;
  await expect(breaker.probe('main')).resolves.toBe(true);
  expect(at.stopped).toBeUndefined();
});
