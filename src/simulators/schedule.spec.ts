import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SimClock } from './clock.js';
import { readFaults } from './fault-file.js';
import {
  actionsOf,
  batchesOf,
  readSchedule,
  rulesOf,
  scheduleOf,
  transportsOf,
  type Action,
} from './schedule.js';

const SHIPPED = join(import.meta.dirname, '../../test/chaos/schedules');
const size = { seed: '1', items: 600, makespanMs: 600_000 };
const schedule = (content: unknown): ReturnType<typeof scheduleOf> => scheduleOf(content, 'test.yaml');
const refused = (content: unknown): string => {
  try {
    schedule(content);
    return '';
  } catch (error) {
    return String(error);
  }
};

describe('a schedule', () => {
  let dir: string;
  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), 'schedule-'));
  });
  afterAll(() => rmSync(dir, { recursive: true }));

  it('comes in kinds that can all be read', () => {
    const names = readdirSync(SHIPPED).map((file) => file.replace('.yaml', ''));
    const promised = ['kill', 'flush', 'postgres', 'faults', 'foreign', 'cancel', 'upgrade', 'mixed'];
    expect(names).toEqual(expect.arrayContaining(promised));
    for (const name of names) {
      const { faults, actors, actions } = readSchedule(join(SHIPPED, `${name}.yaml`));
      expect(faults.rules.length + actors.length + actions.length).toBeGreaterThan(0);
    }
  });

  it('says what happens when by the seed alone, between its bounds and in order', () => {
    const one = schedule({
      actions: [{ do: 'kill', count: 40, between: [60, '50%'], aim: ['clone', 'start'] }],
    });
    const actions = actionsOf(one, size);
    expect(actions).toHaveLength(40);
    expect(actions.every(({ atMs }) => atMs >= 60_000 && atMs <= 300_000)).toBe(true);
    expect(actions).toEqual(actions.toSorted((a, b) => a.atMs - b.atMs));
    const aims = new Set(actions.map(({ action }) => (action as Extract<Action, { do: 'kill' }>).aim));
    expect(aims).toEqual(new Set(['clone', 'start']));
    expect(actionsOf(one, size)).toEqual(actions);
    expect(actionsOf(one, { ...size, seed: '2' })).not.toEqual(actions);
  });

  it('keeps the moments of an action whatever stands behind it', () => {
    const flush = { do: 'flush', count: 5 };
    const flushes = (...more: object[]): number[] =>
      actionsOf(schedule({ actions: [flush, ...more] }), size)
        .filter(({ action }) => action.do === 'flush')
        .map(({ atMs }) => atMs);
    expect(flushes({ do: 'kill', count: 9 }, { do: 'restart', at: '50%' })).toEqual(flushes());
  });

  it('happens at moments, every so often, or with a probability; what lasts is drawn', () => {
    const moments = (one: object): number[] =>
      actionsOf(schedule({ actions: [one] }), size).map(({ atMs }) => atMs);
    expect(moments({ do: 'restart', at: [1, '50%'] })).toEqual([1_000, 300_000]);
    expect(moments({ do: 'flush', every: 100, between: [0, 350] })).toEqual([100_000, 200_000, 300_000]);
    const some = moments({ do: 'flush', every: 1, probability: 0.1 }).length;
    expect(some).toBeGreaterThan(20);
    expect(some).toBeLessThan(90);
    const outages = actionsOf(schedule({ actions: [{ do: 'postgres', count: 9, for: [1, 3] }] }), size);
    const lengths = outages.map(({ action }) => (action as { downMs: number }).downMs);
    expect(lengths.every((ms) => ms >= 1_000 && ms <= 3_000)).toBe(true);
    expect(new Set(lengths).size).toBe(9);
  });

  it('is done with fewer kills in its proportions', () => {
    const kills = actionsOf(readSchedule(join(SHIPPED, 'kill.yaml')), { ...size, kills: 20 });
    expect(kills).toHaveLength(20);
    expect(kills.filter(({ action }) => 'aim' in action)).toHaveLength(10);
  });

  it('gives up different batches, each once', () => {
    const cancel = readSchedule(join(SHIPPED, 'cancel.yaml'));
    expect(batchesOf(cancel, 600)).toBe(30);
    const given = actionsOf(cancel, size).flatMap(({ action }) => ('batch' in action ? action.batch : []));
    expect(given).toHaveLength(16);
    expect(new Set(given).size).toBe(16);
  });

  it('gives every system its own rules, with windows on its own clock', () => {
    const one = schedule({
      faults: [
        { id: 'all', effect: 'reset' },
        { id: 'pve', match: { sim: 'proxmox' }, effect: 'reset', during: ['10%', 120] },
        { id: 'store', match: { sim: 'redis', nth: 3 }, effect: 'reset', during: [1, 2] },
      ],
    });
    expect(transportsOf(one)).toEqual(['redis']);
    const simulated = rulesOf(one, 'simulators', { startMs: 500, timeScale: 0.1, makespanMs: 600_000 });
    expect(simulated.map(({ id, match }) => [id, match?.window])).toEqual([
      ['all', undefined],
      ['pve', [600_500, 1_200_500]],
    ]);
    expect(rulesOf(one, 'redis', { startMs: 0, timeScale: 1 })).toMatchObject([
      { id: 'store', match: { sim: 'redis', nth: 3, window: [1_000, 2_000] } },
    ]);
  });

  it('is what --faults takes too, when its times are seconds', () => {
    const file = join(dir, 'faults.yaml');
    const clock = new SimClock(0.5, 100);
    writeFileSync(file, 'faults: [{ id: a, match: { sim: winrm }, effect: reset, during: [1, 2] }]\n');
    expect(readFaults(file, clock)).toMatchObject([{ id: 'a', match: { window: [2_100, 4_100] } }]);
    writeFileSync(file, 'faults: [{ id: a, effect: reset, during: ["1%", 2] }]\n');
    expect(() => readFaults(file, clock)).toThrow('Unable to use the time 1%');
  });

  it('is refused with the place of what is wrong', () => {
    expect(refused({ actions: [{ do: 'flush' }] })).toContain('write one of at, every, count');
    expect(refused({ actions: [{ do: 'flush', at: 1, count: 2 }] })).toContain('actions[0]');
    expect(refused({ actions: [{ do: 'explode', at: 1 }] })).not.toBe('');
    expect(refused({ actions: [{ do: 'flush', at: 'soon' }] })).not.toBe('');
    expect(refused({ faults: [{ id: 'a', effect: 'explode' }] })).toContain('faults[0].effect');
    expect(refused({ faults: [{ id: 'a', match: { window: [0, 1] }, effect: 'reset' }] })).toContain(
      'write during instead of window',
    );
    const twins = [1, 2].map(() => ({ id: 'a', effect: 'reset' }));
    expect(refused({ faults: twins })).toContain('another rule is called a');
  });
});
