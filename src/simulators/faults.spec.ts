import { describe, expect, it } from 'vitest';
import { SimClock } from './clock.js';
import { Faults, type FaultRule } from './faults.js';
import { SimRandom } from './seed.js';

describe('fault rules', () => {
  const clock = new SimClock(0.001);
  const faults = (...rules: FaultRule[]): { faults: Faults; fired: string[] } => {
    const fired: string[] = [];
    const journal = { record: (entry: { fault?: string | undefined }) => void fired.push(entry.fault ?? '') };
    return { faults: new Faults(clock, new SimRandom('1'), journal, rules), fired };
  };
  const clone = { sim: 'proxmox', op: 'qemu.clone', node: 'pve1', vmid: 105 };

  it('fire only for what they match, and say so in the journal', () => {
    const { faults: rules, fired } = faults({
      id: 'a',
      match: { op: 'qemu.*', node: 'pve1', vmid: 105 },
      effect: 'reset',
    });
    rules.match({ ...clone, vmid: 106 });
    rules.match({ ...clone, op: 'lxc.clone' });
    rules.match({ sim: 'proxmox', op: 'qemu.clone' });
    expect(fired).toEqual([]);
    expect(rules.match(clone).ids).toBe('a');
    expect(fired).toEqual(['a']);
  });

  it('count matching operations from 1', () => {
    const { faults: rules } = faults({ id: 'second', match: { op: 'qemu.clone', nth: 2 }, effect: 'reset' });
    rules.match({ ...clone, op: 'version' });
    expect([1, 2, 3].map(() => rules.match(clone).ids)).toEqual([undefined, 'second', undefined]);
  });

  it('act at their point and nowhere else', async () => {
    const { faults: rules } = faults({ id: 'late', match: {}, when: 'after', effect: 'status', value: 500 });
    const fired = rules.match(clone);
    expect(await fired.answer('before')).toBeUndefined();
    expect(await fired.answer('after')).toEqual({ kind: 'status', status: 500, message: '' });
  });

  it('end a task before or after its work', async () => {
    const { signal } = new AbortController();
    const before = faults({ id: 'x', when: 'during', effect: 'task-error', value: 'rbd error' }).faults.match(
      clone,
    );
    expect(await before.task('during', signal)).toBe('rbd error');
    const after = faults({ id: 'x', when: 'after', effect: 'task-error', value: 'rbd error' }).faults.match(
      clone,
    );
    expect(await after.task('during', signal)).toBeUndefined();
    expect(await after.task('after', signal)).toBe('rbd error');
  });

  it('fire about as often as their probability says, the same way for the same seed', () => {
    const rule: FaultRule = { id: 'maybe', match: { probability: 0.3 }, effect: 'reset' };
    const series = (): boolean[] => {
      const { faults: rules } = faults(rule);
      return Array.from({ length: 500 }, () => rules.match(clone).ids !== undefined);
    };
    const first = series();
    expect(first.filter(Boolean).length).toBeGreaterThan(110);
    expect(first.filter(Boolean).length).toBeLessThan(190);
    expect(series()).toEqual(first);
  });

  it('are refused with an unknown effect', () => {
    expect(() => faults({ id: 'a', effect: 'explode' as 'reset' })).toThrow();
  });
});
