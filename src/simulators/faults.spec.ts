import { describe, expect, it } from 'vitest';
import { SimClock } from './clock.js';
import { Faults, faultRuleSchema, type FaultRule } from './faults.js';
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

  it('draw by seed and rule: other rules and their order change nothing', () => {
    const rule = (id: string): FaultRule => ({
      id,
      match: { sim: 'proxmox', probability: 0.3 },
      effect: 'reset',
    });
    const timesOfA = (...rules: FaultRule[]): number[] => {
      const own = faults(...rules).faults;
      return Array.from({ length: 60 }, () => own.match(clone).rules.some(({ id }) => id === 'a')).flatMap(
        (fires, index) => (fires ? [index] : []),
      );
    };
    const alone = timesOfA(rule('a'));
    expect(alone.length).toBeGreaterThan(5);
    expect(timesOfA(rule('b'), rule('a'), rule('c'))).toEqual(alone);
  });

  it('are refused when they could never fire', () => {
    const refused = (rule: FaultRule): string =>
      faultRuleSchema
        .safeParse(rule)
        .error?.issues.map(({ message }) => message)
        .join() ?? '';
    expect(refused({ id: 'x', match: { sim: 'redis' }, effect: 'task-error' })).toContain('no task-error');
    expect(refused({ id: 'x', match: { sim: 'http' }, when: 'during', effect: 'reset' })).toContain('during');
    expect(refused({ id: 'x', match: { sim: 'http' }, effect: 'truncate', value: 1 })).toContain(
      'no truncate before',
    );
    expect(refused({ id: 'x', match: { sim: 'postgres', vmid: 100 }, effect: 'reset' })).toContain('vmid');
    expect(refused({ id: 'x', match: { sim: 'guacamole' }, effect: 'cut', value: 1 })).toContain(
      'guacamole knows no cut',
    );
    expect(refused({ id: 'x', effect: 'cut', value: 1 })).toContain('a simulator knows no cut');
    expect(refused({ id: 'x', match: { sim: 'redis' }, effect: 'cut' })).not.toBe('');
    const script = { sim: 'winrm', op: 'winrm.script.dhcp-filter-allow' } as const;
    expect(refused({ id: 'x', match: script, effect: 'reset' })).toContain('no reset before');
    expect(
      refused({ id: 'x', match: { sim: 'winrm' }, when: 'during', effect: 'delay', value: 1 }),
    ).toContain('during');
    const value = { do: 'lose-quorum' };
    expect(refused({ id: 'x', match: { sim: 'winrm' }, effect: 'act', value })).toContain(
      'no act lose-quorum',
    );
  });

  it('disturb a script only when they name it, and do an act only where it can be done', () => {
    const { faults: rules } = faults(
      { id: 'messages', match: { sim: 'winrm' }, effect: 'reset' },
      { id: 'script', match: { op: 'winrm.script.*' }, when: 'during', effect: 'drop' },
      { id: 'quorum', effect: 'act', value: { do: 'lose-quorum' } },
    );
    expect(rules.match({ sim: 'winrm', op: 'winrm.script.dhcp-filter-find' }).ids).toBe('script');
    expect(rules.match({ sim: 'winrm', op: 'winrm.receive' }).ids).toBe('messages');
    expect(rules.match({ sim: 'guacamole', op: 'guacamole.self' }).ids).toBeUndefined();
    expect(rules.match(clone).ids).toBe('quorum');
  });

  it('leave transports alone unless they name them', () => {
    const { faults: rules } = faults(
      { id: 'any', effect: 'reset' },
      { id: 'redis', match: { sim: 'redis' }, effect: 'reset' },
    );
    expect(rules.match({ sim: 'redis', op: 'GET' }).ids).toBe('redis');
    expect(rules.match(clone).ids).toBe('any');
  });

  it('go on counting when the rules are replaced and they stay as they are', () => {
    const second: FaultRule = { id: 'second', match: { nth: 2 }, effect: 'reset' };
    const { faults: rules } = faults(second);
    rules.match(clone);
    rules.replace([{ id: 'other', effect: 'drop' }, second]);
    expect(rules.match(clone).ids).toBe('other,second');
    rules.replace([{ ...second, effect: 'drop' }]);
    expect(rules.match(clone).ids).toBeUndefined();
  });
});
