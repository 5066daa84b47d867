import { afterEach, describe, expect, it } from 'vitest';
import { WireClient } from '../simulators/proxmox-client.js';
import type { JournalLine } from '../../src/simulators/journal.js';
import {
  cloneRequests,
  done,
  expectFired,
  expectNoBlindClone,
  expectRemoved,
  expectWhole,
  worldWithFaults,
  openBatch,
} from '../support/faulty-class.js';
import type { StepWorld, TestMachine } from '../support/step-world.js';

/* Transport and unknown outcomes: rows F18-F25. Each test says the reaction that its row asks for, and is judged on the journal. */

let world: StepWorld;
afterEach(async () => world?.close());

/** Once each, by VMID. */
const onceEach = async (machines: readonly TestMachine[]): Promise<Record<string, number>> =>
  Object.fromEntries(await Promise.all(machines.map(async (one) => [await world.vmid(one), 1])));

/** Each machine was cloned once, and no request was repeated blindly. */
async function expectClonedOnce(machines: readonly TestMachine[]): Promise<void> {
  const once = await onceEach(machines);
  expect(done(world, 'qemu.clone')).toEqual(once);
  expectNoBlindClone(world, Object.keys(once).map(Number));
}

describe('transport', () => {
  it('F18: a clone that goes on after 596 or silence is found, and never asked for again', async () => {
    world = await worldWithFaults('F18');
    const machines = await openBatch(world, 3);
    await world.runsAre('done', machines);
    expectFired(world, 'proxy-gave-up', 'no-answer-at-all', 'start-596');
    await expectClonedOnce(machines);
    expect(done(world, 'qemu.start')).toEqual(await onceEach(machines));
    await expectWhole(world, machines);
  });

  it('F19: what was accepted before the cut is found by its traces, deletes included', async () => {
    world = await worldWithFaults('F19');
    const machines = await openBatch(world, 4);
    await world.runsAre('done', machines);
    await expectClonedOnce(machines);
    expect(done(world, 'qemu.resize')).toEqual(await onceEach(machines));
    expect(done(world, 'qemu.start')).toEqual(await onceEach(machines));
    await expectWhole(world, machines);
    await expectRemoved(world, machines);
    expectFired(world, 'clone-reset', 'clone-truncated', 'clone-dropped');
    expectFired(world, 'config-reset', 'resize-reset', 'start-reset', 'destroy-reset');
    expect(Object.values(done(world, 'qemu.destroy'))).toEqual([1, 1, 1, 1]);
  });

  it('F20: what was never done is sent again under the same VMID, after at least two looks', async () => {
    // Few at a time: whoever waits too long for the lock of the storage, in simulated time, loses its VMID.
    world = await worldWithFaults('F20', { site: { cluster: { limits: { clonesPerStorage: 2 } } } });
    const machines = await openBatch(world, 6);
    await world.runsAre('done', machines);
    expectFired(world, 'lost-first', 'lost-second', 'lost-before');
    const [lost, ...others] = cloneRequests(world);
    const next = others.find(({ vmid }) => vmid === lost!.vmid)!;
    const looks = world
      .journal()
      .filter(
        ({ event, op, ns, params }) =>
          event === 'request' &&
          op === 'tasks.list' &&
          params?.['typefilter'] === 'qmclone' &&
          BigInt(ns) > BigInt(lost!.ns) &&
          BigInt(ns) < BigInt(next.ns),
      );
    expect(looks.length).toBeGreaterThanOrEqual(2);
    await expectClonedOnce(machines);
    await expectWhole(world, machines);
  });

  it('F21: work on a node that is down waits for it, reads go through the others', async () => {
    world = await worldWithFaults('F21');
    const machines = await world.createBatch('student-desktop', ['s1', 's2', 's3', 's4']);
    // No guest runs yet that would be off when its node is back.
    for (const machine of machines) await world.open(machine, ['reserve', 'allow-mac', 'clone', 'configure']);
    await world.until('the node is down', () => world.journal().some(({ fault }) => fault === 'node-down'));
    for (const machine of machines) await world.open(machine);
    await world.runsAre('done', machines);
    expectFired(world, 'node-down');
    expect(world.journal().filter(({ status }) => status === 595).length).toBeGreaterThan(0);
    await expectClonedOnce(machines);
    await expectWhole(world, machines);
  });

  it('F22: a node that is off makes the picture partial: its guests keep their ids, and machines go elsewhere', async () => {
    const guests = [10_001, 10_003].map((vmid) => ({
      vmid,
      node: 'pve3',
      kind: 'lxc' as const,
      owner: 'carol',
    }));
    world = await worldWithFaults('F22', { site: { world: { guests } } });
    const machines = await openBatch(world, 6);
    await world.runsAre('done', machines);
    expectFired(world, 'node-off');
    const vmids = await Promise.all(machines.map((machine) => world.vmid(machine)));
    expect(vmids).not.toEqual(expect.arrayContaining([10_001]));
    expect(vmids).not.toEqual(expect.arrayContaining([10_003]));
    expect(cloneRequests(world).some(({ params }) => params?.['target'] === 'pve3')).toBe(false);
    await expectClonedOnce(machines);
    await expectWhole(world, machines);
  });

  it('F23: a ticket that is refused is replaced once, and the request is repeated: nothing is done twice', async () => {
    world = await worldWithFaults('F23', {
      site: {
        cluster: ({ userPassword }) => ({ account: { username: 'hatchery@pve', password: userPassword } }),
      },
    });
    const machines = await openBatch(world, 4);
    await world.runsAre('done', machines);
    expectFired(world, 'expires-before-clone', 'expires-after-config', 'expires-after-start');
    expect(world.journal().filter(({ status }) => status === 401).length).toBeGreaterThan(0);
    const attempts = await world.query('select outcome, error from attempts where error is not null');
    expect(attempts).toEqual([]);
    const signIns = world.journal().filter(({ op, status }) => op === 'access.ticket' && status === 200);
    expect(signIns.length).toBeGreaterThan(1);
    await expectClonedOnce(machines);
    expect(done(world, 'qemu.start')).toEqual(await onceEach(machines));
    await expectWhole(world, machines);
  });

  it('F24: never more than three writes at once for a node, and no listing for each machine', async () => {
    world = await worldWithFaults('F24');
    const machines = await openBatch(world, 12);
    await world.runsAre('done', machines);
    expectFired(world, 'slow-clone', 'slow-config', 'slow-resize', 'slow-start');
    const most = Math.max(...['pve1', 'pve2', 'pve3'].map((node) => mostAtOnce(world.journal(), node)));
    expect(most).toBeGreaterThan(1);
    expect(most).toBeLessThanOrEqual(3);
    const reads = world.journal().filter(({ event }) => event === 'request');
    expect(reads.filter(({ op }) => op === 'qemu.list' || op === 'storage.content')).toEqual([]);
    await expectWhole(world, machines);
  });

  it('F25: a node that the cluster does not have is refused at the plan, and never asked for', async () => {
    world = await worldWithFaults('F25', { site: { cluster: { nodes: { exclude: ['pve33'] } } } });
    await expect(openBatch(world, 1)).rejects.toMatchObject({
      code: 'settings-invalid',
      message: expect.stringContaining('excludes pve33') as string,
    });
    expect(world.journal().filter(({ effect }) => effect === true)).toEqual([]);
    // The fault is what it would have met; the cluster was asked, and for no such node.
    expect(world.journal().some(({ op }) => op === 'cluster.resources')).toBe(true);
    expect(
      world.journal().filter(({ node, fault }) => node === 'pve33' || fault === 'misspelt-node'),
    ).toEqual([]);
    const client = new WireClient(world.site.simulators.proxmox);
    expect(await client.get('/nodes/pve33/qemu')).toMatchObject({ status: 596 });
    client.close();
    expectFired(world, 'misspelt-node');
  });
});

/** Writes of one node under way at the same time: a rule's line tells when one arrived, the request's line when it was done. */
function mostAtOnce(lines: readonly JournalLine[], node: string): number {
  const changes = lines.flatMap((line) => {
    if (line.node !== node || line.fault === undefined) return [];
    if (line.event === 'fault') return [{ at: BigInt(line.ns), by: 1 }];
    return line.event === 'request' ? [{ at: BigInt(line.ns), by: -1 }] : [];
  });
  changes.sort((a, b) => (a.at === b.at ? a.by - b.by : a.at < b.at ? -1 : 1));
  let now = 0;
  return changes.reduce((most, { by }) => Math.max(most, (now += by)), 0);
}
