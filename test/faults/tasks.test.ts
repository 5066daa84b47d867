import { afterEach, describe, expect, it } from 'vitest';
import {
  cloneRequests,
  done,
  expectFired,
  expectNoBlindClone,
  expectRemoved,
  expectWhole,
  faultyWorld,
  openBatch,
} from '../support/faulty-world.js';
import type { StepWorld, TestMachine } from '../support/step-world.js';

/* Tasks and half-made guests: rows F26-F33. Each test says the reaction that its row asks for, and is judged on the journal. */

let world: StepWorld;
afterEach(async () => world?.close());

/** Once each, by VMID. */
const onceEach = async (machines: readonly TestMachine[]): Promise<Record<string, number>> =>
  Object.fromEntries(await Promise.all(machines.map(async (one) => [await world.vmid(one), 1])));

describe('tasks', { timeout: 90_000 }, () => {
  it('F26: a task that fails after its 200 is followed to its verdict and done again, deletes too', async () => {
    world = await faultyWorld('F26');
    const machines = await openBatch(world, 4);
    await world.runsAre('done', machines);
    const once = await onceEach(machines);
    expect(done(world, 'qemu.clone')).toEqual(once);
    expectNoBlindClone(world, Object.keys(once).map(Number));
    expect(done(world, 'qemu.start')).toEqual(await onceEach(machines));
    await expectWhole(world, machines);
    await expectRemoved(world, machines);
    expectFired(world, 'first-start-fails', 'first-destroy-fails', 'clone-fails');
    expect(Object.values(done(world, 'qemu.destroy'))).toEqual([1, 1, 1, 1]);
  });

  it('F27: a task that ends with warnings is a success: nothing is made twice, deletes included', async () => {
    world = await faultyWorld('F27');
    const machines = await openBatch(world, 3);
    await world.runsAre('done', machines);
    expectFired(world, 'clone-warns-first', 'warns');
    expect(cloneRequests(world)).toHaveLength(3);
    expect(done(world, 'qemu.start')).toEqual(await onceEach(machines));
    await expectWhole(world, machines);
    await expectRemoved(world, machines);
    expectFired(world, 'destroy-warns-first');
    const verdicts = world.journal().map(({ params }) => params?.['verdict']);
    expect(verdicts).toContain('WARNINGS: 2');
    expect(Object.values(done(world, 'qemu.destroy'))).toEqual([1, 1, 1]);
  });

  it('F29: a task that ended without a verdict is judged by what is there', async () => {
    world = await faultyWorld('F29');
    const machines = await openBatch(world, 2);
    await world.runsAre('done', machines);
    expectFired(world, 'clone-cut-short', 'resize-cut-short', 'start-cut-short');
    expect(cloneRequests(world)).toHaveLength(2);
    expect(done(world, 'qemu.start')).toEqual(await onceEach(machines));
    await expectWhole(world, machines);
    await expectRemoved(world, machines);
    expectFired(world, 'destroy-cut-short');
  });

  it('F30: a task that its node has forgotten is judged by what is there', async () => {
    world = await faultyWorld('F30');
    const machines = await openBatch(world, 2);
    await world.runsAre('done', machines);
    expectFired(world, 'clone-forgotten', 'start-forgotten');
    expect(cloneRequests(world)).toHaveLength(2);
    await expectWhole(world, machines);
    await expectRemoved(world, machines);
    expectFired(world, 'destroy-forgotten');
  });

  it('F32: a step that finds its work done already is done', async () => {
    const templates = [
      { vmid: 9000, node: 'pve1', name: 'debian-12-xfce', storage: 'ceph', diskGiB: 20, usedGiB: 3 },
    ];
    world = await faultyWorld('F32', { site: { world: { templates } } });
    const machines = await openBatch(world, 2);
    await world.runsAre('done', machines);
    expectFired(world, 'started-by-hand');
    expect(done(world, 'qemu.resize')).toEqual({});
    expect(Object.values(done(world, 'qemu.start'))).toEqual([1]);
    await expectWhole(world, machines);
  });
});
