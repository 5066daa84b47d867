import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createContext } from '../create-context.js';
import { SimProcess } from '../process.js';
import { ClusterLocks, FileLocks } from './locks.js';

describe('locks', () => {
  let context: ReturnType<typeof createContext>;
  beforeEach(() => {
    context = createContext({ timeScale: 0.001 });
  });
  afterEach(() => context.close());

  const user = { actor: 'a@b!c', node: 'pve1' };
  const gate = (): { work: () => Promise<string>; open: () => void } => {
    let open: () => void = () => undefined;
    const opened = new Promise<void>((resolve) => {
      open = resolve;
    });
    return { work: () => opened.then(() => 'done'), open };
  };

  describe('of files', () => {
    it('let readers in together and a writer after them, in the order of asking', async () => {
      const locks = new FileLocks(context);
      const order: string[] = [];
      const [one, two] = [gate(), gate()];
      const readers = [one, two].map((reader) => locks.with(user, 'x', 'shared', 10_000, reader.work));
      const writer = locks.with(user, 'x', 'exclusive', 60_000, async () => void order.push('writer'));
      const late = locks.with(user, 'x', 'shared', 60_000, async () => void order.push('late reader'));
      one.open();
      two.open();
      await Promise.all([...readers, writer, late]);
      expect(order).toEqual(['writer', 'late reader']);
    });

    it('are given up on after the wait, with the text and a journal line', async () => {
      const locks = new FileLocks(context);
      const holder = gate();
      const held = locks.with(user, '/var/lock/x', 'exclusive', 1_000, holder.work);
      await expect(locks.with(user, '/var/lock/x', 'shared', 1_000, holder.work)).rejects.toThrow(
        "can't lock file '/var/lock/x' - got timeout",
      );
      holder.open();
      await held;
      await expect(locks.with(user, '/var/lock/x', 'exclusive', 1_000, holder.work)).resolves.toBe('done');
      expect(context.journal.read().filter(({ event }) => event === 'hold')).toEqual([
        expect.objectContaining({ effect: false, resource: 'pve1:x' }),
      ]);
    });

    it('are per node', async () => {
      const locks = new FileLocks(context);
      const holder = gate();
      const held = locks.with(user, 'x', 'exclusive', 1_000, holder.work);
      await expect(
        locks.with({ ...user, node: 'pve2' }, 'x', 'exclusive', 1_000, async () => 'other'),
      ).resolves.toBe('other');
      holder.open();
      await held;
    });

    it('leave the queue when the task is stopped', async () => {
      const locks = new FileLocks(context);
      const holder = gate();
      const stopper = new AbortController();
      const held = locks.with(user, 'x', 'exclusive', 1_000, holder.work);
      const waiting = locks.with({ ...user, signal: stopper.signal }, 'x', 'exclusive', 60_000, holder.work);
      stopper.abort();
      await expect(waiting).rejects.toThrow('interrupted');
      holder.open();
      await held;
      await expect(locks.with(user, 'x', 'exclusive', 1_000, async () => 'free')).resolves.toBe('free');
    });
  });

  it('of files are free at once when their holder is killed, and a killed one leaves the queue', async () => {
    const locks = new FileLocks(context);
    const [holder, waiter] = [new SimProcess(), new SimProcess()];
    const never = gate();
    void holder.run(() => locks.with(user, 'x', 'exclusive', 1_000, never.work));
    void waiter.run(() => locks.with(user, 'x', 'exclusive', 60_000, never.work));
    const last = locks.with(user, 'x', 'exclusive', 60_000, async () => 'free');
    waiter.kill();
    holder.kill();
    await expect(last).resolves.toBe('free');
  });

  it('of the cluster stay when their holder is killed, until they are 120 s old', async () => {
    const locks = new ClusterLocks(context);
    const holder = new SimProcess();
    void holder.run(() => locks.with(user, 'storage-ceph', gate().work));
    holder.kill();
    await expect(locks.with(user, 'storage-ceph', async () => 'early')).rejects.toThrow(
      'lock request timeout',
    );
    await context.clock.sleep(120_000);
    await expect(locks.with(user, 'storage-ceph', async () => 'late')).resolves.toBe('late');
  });

  describe('of the cluster', () => {
    it('are obtained within 10 s or not at all', async () => {
      const locks = new ClusterLocks(context);
      const holder = gate();
      const held = locks.with(user, 'storage-ceph', holder.work);
      const lines: string[] = [];
      const refused = locks.with({ ...user, log: (line) => lines.push(line) }, 'storage-ceph', holder.work);
      await expect(refused).rejects.toThrow("cfs-lock 'storage-ceph' error: got lock request timeout");
      expect(lines[0]).toBe("trying to acquire cfs lock 'storage-ceph' ...");
      holder.open();
      await held;
    });

    it('abort work that takes more than 60 s', async () => {
      const locks = new ClusterLocks(context);
      const endless = locks.with(user, 'storage-ceph', () => new Promise<never>(() => undefined));
      await expect(endless).rejects.toThrow("'storage-ceph'-locked command timed out - aborting");
      await expect(locks.with(user, 'storage-ceph', async () => 'free')).resolves.toBe('free');
    });
  });
});
