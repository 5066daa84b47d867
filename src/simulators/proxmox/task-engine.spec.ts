import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createContext } from '../create-context.js';
import { TaskEngine, type Task } from './task-engine.js';

describe('a task', () => {
  let context: ReturnType<typeof createContext>;
  let tasks: TaskEngine;
  beforeEach(() => {
    context = createContext({ timeScale: 0.001 });
    tasks = new TaskEngine(context);
  });
  afterEach(() => context.close());

  const setup = () => ({
    node: 'pve1',
    type: 'qmclone',
    id: '9000',
    actor: 'a@pve!b',
    op: 'qemu.clone',
    vmid: 105,
    faults: context.faults.match({ sim: 'proxmox', op: 'qemu.clone' }),
  });
  const ended = async (task: Task): Promise<Task> => {
    while (task.exitStatus === undefined) await context.clock.sleep(100);
    return task;
  };

  it('that is killed ends without a verdict, and nothing of it goes on', async () => {
    context.holds.hold('qemu.clone', 'task');
    const seen: string[] = [];
    const task = tasks.start(setup(), async (running) => {
      running.log('one line');
      running.did(() => ({ effect: true, incarnation: 'half' }));
      try {
        await running.pass('task');
        seen.push('went on');
        return { effect: true };
      } catch (error) {
        seen.push('cleaned up');
        throw error;
      } finally {
        seen.push('finally');
      }
    });
    await context.holds.reached('qemu.clone', 'task');
    tasks.kill(task.upid);
    expect(task).toMatchObject({ exitStatus: 'unexpected status', lines: ['one line'] });
    context.holds.release('qemu.clone', 'task');
    await context.clock.sleep(1_000);
    expect(seen).toEqual([]);
    expect(context.journal.read().at(-1)).toMatchObject({
      event: 'task-end',
      effect: true,
      incarnation: 'half',
      params: { verdict: 'unexpected status' },
    });
  });

  it('dies in its clean-up when that takes more than 5 s after TERM', async () => {
    let isClean = false;
    const task = tasks.start(setup(), async (running) => {
      try {
        await context.clock.sleep(60_000, running.signal);
      } finally {
        await context.clock.sleep(600_000);
        isClean = true;
      }
      return {};
    });
    tasks.interrupt(task);
    expect((await ended(task)).exitStatus).toBe('unexpected status');
    expect(isClean).toBe(false);
  });

  it('dies with its node, and is unknown when the logs are gone', async () => {
    const task = tasks.start(setup(), async () => {
      await context.clock.sleep(60_000);
      return {};
    });
    tasks.nodeDown('pve1');
    expect(tasks.find('pve1', task.upid)?.exitStatus).toBe('unexpected status');
    tasks.forget('pve1');
    expect(tasks.find('pve1', task.upid)).toBeUndefined();
  });

  it('leaves the index when about a thousand ended after it, yet its log is still there', async () => {
    const all = Array.from({ length: 1_500 }, () => tasks.start(setup(), async () => ({})));
    for (const task of all) await ended(task);
    expect(tasks.archivedOn('pve1').length).toBeGreaterThan(600);
    expect(tasks.archivedOn('pve1').length).toBeLessThan(1_300);
    expect(tasks.archivedOn('pve1')[0]).toBe(all.at(-1));
    expect(tasks.find('pve1', all[0]!.upid)).toBe(all[0]);
  });
});
