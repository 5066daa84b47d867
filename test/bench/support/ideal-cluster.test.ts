import { describe, expect, it } from 'vitest';
import { distance, lockUse } from './distance.js';
import { bestRun, bootsOf, criticalPathMs, idealRun, type IdealClass } from './ideal-cluster.js';

const NODES = ['pve1', 'pve2', 'pve3'];

function aClass(machines: number, over: Partial<IdealClass> = {}): IdealClass {
  return {
    machines: Array.from({ length: machines }, (_, index) => ({
      vmid: 10_100 + index,
      node: NODES[index % NODES.length]!,
    })),
    world: { boot: { medianMs: 25_000, p95Ms: 27_500 } },
    seed: '1',
    of: 'linked',
    ...over,
  };
}

const localTemplates = (nodes: readonly string[]): IdealClass['world'] => ({
  templates: nodes.map((node, index) => ({
    vmid: 9000 + index,
    node,
    name: `debian-${node}`,
    storage: 'local-lvm',
  })),
});

describe('the ideal cluster', () => {
  it('is the same for the same seed, and another one for another', async () => {
    const [one, two, other] = await Promise.all([
      idealRun(aClass(6)),
      idealRun(aClass(6)),
      idealRun(aClass(6, { seed: '2' })),
    ]);
    expect(one).toEqual(two);
    expect(one.makespanMs).not.toBe(other.makespanMs);
  });

  it('never lets the storage’s lock idle while a machine wants it', async () => {
    const { lock, makespanMs } = await idealRun(aClass(60));
    expect(lock.heldMs / (lock.lastMs - lock.firstMs)).toBeGreaterThan(0.98);
    expect(makespanMs).toBeGreaterThan(lock.heldMs);
  });

  it('makes the first of many nearly as soon as it makes one alone, and half of them at half time', async () => {
    const wanted = aClass(120);
    const { readyAtMs, makespanMs } = await idealRun(wanted);
    const ready = [...readyAtMs.values()].toSorted((a, b) => a - b);
    const alone = await criticalPathMs({ ...wanted, machines: wanted.machines.slice(0, 1) });
    expect(ready).toHaveLength(120);
    expect(ready[0]! / alone).toBeLessThan(1.1);
    expect(ready[60]! / makespanMs).toBeLessThan(0.6);
  });

  it('has no machine ready before its agent is up', async () => {
    const wanted = aClass(12);
    const { readyAtMs } = await idealRun(wanted);
    for (const [vmid, { upMs }] of bootsOf(wanted)) expect(readyAtMs.get(vmid)).toBeGreaterThan(upMs);
  });

  it('loses time to polling, less with more clones in flight, until they wait in vain', async () => {
    const wanted = aClass(120);
    const handedOver = await idealRun(wanted);
    const polled = async (inFlight: number) => idealRun(wanted, { storageLock: 'polled', inFlight });
    const [few, some, many] = await Promise.all([polled(1), polled(4), polled(12)]);
    expect(few.makespanMs).toBeGreaterThan(some.makespanMs);
    expect(some.makespanMs).toBeGreaterThan(handedOver.makespanMs);
    expect(few.lockTimeouts).toBe(0);
    expect(many.lockTimeouts).toBeGreaterThan(some.lockTimeouts);
  });

  it('uses the local storages of three nodes beside each other', async () => {
    const three = await idealRun(aClass(30, { world: localTemplates(NODES) }));
    const one = aClass(30, { world: localTemplates(['pve1']) });
    const onOne = await idealRun({
      ...one,
      machines: one.machines.map(({ vmid }) => ({ vmid, node: 'pve1' })),
    });
    expect(onOne.lock.heldMs).toBeGreaterThan(2 * three.lock.heldMs);
    expect(onOne.makespanMs).toBeGreaterThan(three.makespanMs);
  });

  it('shares a storage’s rate between full copies', async () => {
    const [one, four] = await Promise.all([1, 4].map((count) => idealRun(aClass(count, { of: 'full' }))));
    expect(four!.makespanMs - one!.makespanMs).toBeGreaterThan(60_000);
  });
});

describe('containers on the ideal cluster', () => {
  const DESKTOP = { source: 'templates', storage: 'ceph', isOnNode: true, hasFirstBoot: true } as const;
  const PLAIN = { ...DESKTOP, source: 'archive', hasFirstBoot: false } as const;

  it('are ready when their first boot is over', async () => {
    const wanted = aClass(12, { of: DESKTOP });
    const { readyAtMs } = await idealRun(wanted);
    for (const [vmid, { upMs, firstBootMs }] of bootsOf(wanted)) {
      expect(firstBootMs).toBeGreaterThan(0);
      expect(readyAtMs.get(vmid)).toBeGreaterThan(upMs + firstBootMs);
    }
  });

  it('are cloned from every copy of their template beside each other, from each once at a time', async () => {
    const copies = (count: number): IdealClass['world'] => ({
      containerTemplates: NODES.slice(0, count).map((node, index) => ({
        vmid: 9100 + index,
        node,
        name: 'debian-12-desktop-lxc',
      })),
    });
    const [one, three] = await Promise.all(
      [1, 3].map((count) => idealRun(aClass(60, { of: DESKTOP, world: copies(count) }))),
    );
    expect(one!.lock.heldMs / (one!.lock.lastMs - one!.lock.firstMs)).toBeLessThan(0.6);
    expect(three!.lock.heldMs / (three!.lock.lastMs - three!.lock.firstMs)).toBeGreaterThan(0.8);
    expect(one!.makespanMs).toBeGreaterThan(1.3 * three!.makespanMs);
  });

  it('are unpacked by several nodes beside each other, each as many at once as is best', async () => {
    const wanted = aClass(60, { of: PLAIN });
    const onOne = { ...wanted, machines: wanted.machines.map(({ vmid }) => ({ vmid, node: 'pve1' })) };
    const [best, allOnOne, oneByOne] = await Promise.all([
      bestRun(wanted),
      bestRun(onOne),
      idealRun(wanted, { inFlight: 1 }),
    ]);
    expect(best.makespanMs).toBeLessThan(oneByOne.makespanMs);
    expect(allOnOne.makespanMs).toBeGreaterThan(2 * best.makespanMs);
  });
});

describe('the use of a lock', () => {
  it('is split into held, free although somebody waited, and free because nobody asked', () => {
    const use = lockUse([
      { askedMs: 100, gotMs: 100, endedMs: 600 },
      // Sees 300 ms late that it is free.
      { askedMs: 200, gotMs: 900, endedMs: 1_000 },
      // Nobody asks until 1500; the one that asked in vain makes no hold.
      { askedMs: 1_500, gotMs: 1_700, endedMs: 2_000 },
      { askedMs: 1_600, gotMs: undefined, endedMs: 1_650 },
    ]);
    expect(use).toEqual({
      ...{ firstMs: 100, lastMs: 2_000, heldMs: 900, pollingMs: 500 },
      unasked: [{ fromMs: 1_000, toMs: 1_500 }],
    });
  });
});

describe('the distance to the ideal cluster', () => {
  it('has parts that add up to it, and says what clones were at while nobody asked for the lock', () => {
    const machine = { id: 'one', vmid: 100, node: 'pve1' };
    const record = {
      machines: [machine],
      steps: [{ vmid: 100, key: 'clone', dueMs: 0, claimedMs: 400, doneMs: 3_500, attempts: 1 }],
      lock: [
        { askedMs: 1_000, gotMs: 1_200, endedMs: 1_900 },
        { askedMs: 2_200, gotMs: 2_200, endedMs: 3_000 },
      ],
      tasks: [{ vmid: 100, op: 'qemu.clone', startedMs: 900, endedMs: 3_100, verdict: 'OK' }],
      ...{ calls: {}, winrmCommands: 0, lockTimeouts: 0 },
    };
    const ideal = {
      readyAtMs: new Map([[100, 31_000]]),
      makespanMs: 31_000,
      lock: { firstMs: 200, heldMs: 1_400, lastMs: 1_800 },
      ...{ lockTimeouts: 0, lockWaitMs: 0 },
    };
    const found = distance(record, 35_000, ideal)!;
    expect(found).toMatchObject({ total: 4, lead: 1, held: 0.1, polling: 0, unasked: 0.1, tail: 2.8 });
    expect(found.lead + found.held + found.polling + found.unasked + found.tail).toBeCloseTo(found.total);
    expect(found.during).toEqual({ inTask: 0.3, request: 0, unseen: 0, queue: 0, nothingDue: 0 });
    expect(found.inFlight).toEqual({ request: 0, task: 1, unseen: 0 });
  });
});
