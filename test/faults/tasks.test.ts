import { afterEach, describe, expect, it } from 'vitest';
import { addBlueprint } from '../support/blueprint-variants.js';
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
import { StepWorld, type TestMachine } from '../support/step-world.js';

/* Tasks and half-made guests: rows F26-F33. Each test says the reaction that its row asks for, and is judged on the journal. */

let world: StepWorld;
afterEach(async () => world?.close());

/** Once each, by VMID. */
const onceEach = async (machines: readonly TestMachine[]): Promise<Record<string, number>> =>
  Object.fromEntries(await Promise.all(machines.map(async (one) => [await world.vmid(one), 1])));

/** The shipped workflow with less patience for a clone. */
const impatient = (timeout: string): { workflow: readonly [string, string] } => {
  const use = 'uses: clone-template, needs: [snippets]';
  return { workflow: [use, `${use}, timeout: ${timeout}`] };
};

const cloneOutcomes = async (machine: TestMachine): Promise<(string | null)[]> => {
  const rows = await world.query<{ outcome: string | null }>(
    `select a.outcome from attempts a join steps s on s.id = a.step_id
      where s.run_id = $1 and s.key = 'clone' order by a.epoch`,
    [machine.runId],
  );
  return rows.map(({ outcome }) => outcome);
};

const errorOf = (machine: TestMachine): Promise<{ code: string; message: string; hint: string }> =>
  world
    .one<{ error: { code: string; message: string; hint: string } }>(
      `select error from steps where run_id = $1 and key = 'clone'`,
      [machine.runId],
    )
    .then(({ error }) => error);

describe('tasks', () => {
  it('F26: a task that fails after its 200 is followed to its verdict and done again, deletes too', async () => {
    world = await worldWithFaults('F26');
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
    world = await worldWithFaults('F27');
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
    const kept = await world.query<{ key: string; kind: string; warnings: string[] }>(
      'select s.key, a.kind, a.warnings from attempts a join steps s on s.id = a.step_id where a.warnings is not null',
    );
    const clone = kept.find(
      ({ key, kind, warnings }) => key === 'clone' && kind === 'act' && warnings.length === 2,
    );
    expect(clone?.warnings[1]).toMatch(/^WARN: simulated warning 2 \(task UPID:pve1:.*:qmclone:9000:/);
    expect(kept).toContainEqual(expect.objectContaining({ key: 'clone', kind: 'undo' }));
    expect(Object.values(done(world, 'qemu.destroy'))).toEqual([1, 1, 1]);
  });

  it('F28: a task whose verdict is not told yet is asked again, and nothing fails', async () => {
    world = await worldWithFaults('F28');
    const machines = await openBatch(world, 2);
    await world.runsAre('done', machines);
    expectFired(world, 'list-without-verdict', 'status-without-verdict');
    expect(cloneRequests(world)).toHaveLength(2);
    expect(await world.query('select outcome from attempts where error is not null')).toEqual([]);
    await expectWhole(world, machines);
  });

  it('F29: a task that ended without a verdict is judged by what is there', async () => {
    world = await worldWithFaults('F29');
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
    world = await worldWithFaults('F30');
    const machines = await openBatch(world, 2);
    await world.runsAre('done', machines);
    expectFired(world, 'clone-forgotten', 'start-forgotten');
    expect(cloneRequests(world)).toHaveLength(2);
    await expectWhole(world, machines);
    await expectRemoved(world, machines);
    expectFired(world, 'destroy-forgotten');
  });

  it('F31: a clone that outlives its patience is followed again, and no second one is started', async () => {
    world = await worldWithFaults('F31', {
      prepare: (site) => addBlueprint(site, 'impatient', impatient('2s')),
    });
    const machines = await openBatch(world, 1, 'impatient');
    await world.runsAre('done', machines);
    expectFired(world, 'long-clone');
    expect(cloneRequests(world)).toHaveLength(1);
    const outcomes = await cloneOutcomes(machines[0]!);
    expect(outcomes.filter((outcome) => outcome === 'retry').length).toBeGreaterThan(0);
    expect(outcomes.at(-1)).toBe('done');
    await expectWhole(world, machines);
  });

  it('F31: a clone that takes longer but goes forward is not timed out', async () => {
    world = await StepWorld.start({
      site: { timeScale: 0.1 },
      prepare: (site) =>
        addBlueprint(site, 'copied', { ...impatient('3s'), blueprint: ['clone: linked', 'clone: full'] }),
    });
    const machines = await openBatch(world, 1, 'copied');
    await world.runsAre('done', machines);
    const copied = world.journal().find(({ event, op }) => event === 'task-end' && op === 'qemu.clone')!;
    const begun = world.journal().find(({ event, op }) => event === 'task-start' && op === 'qemu.clone')!;
    expect(BigInt(copied.ns) - BigInt(begun.ns)).toBeGreaterThan(3_000_000_000n);
    expect(await cloneOutcomes(machines[0]!)).toEqual(['done']);
  });

  it('F32: a step that finds its work done already is done', async () => {
    const templates = [
      { vmid: 9000, node: 'pve1', name: 'debian-12-xfce', storage: 'ceph', diskGiB: 20, usedGiB: 3 },
    ];
    world = await worldWithFaults('F32', { site: { world: { templates } } });
    const machines = await openBatch(world, 2);
    await world.runsAre('done', machines);
    expectFired(world, 'started-by-hand');
    expect(done(world, 'qemu.resize')).toEqual({});
    expect(Object.values(done(world, 'qemu.start'))).toEqual([1]);
    await expectWhole(world, machines);
  });

  it('F33: a clone whose node died waits, then parks with all that is its own; when the node is back it is cleaned and made again', async () => {
    world = await worldWithFaults('F33', { site: { timeScale: 0.004 } });
    const { proxmox } = world.site.simulators;
    const [machine] = (await openBatch(world, 1)) as [TestMachine];
    const vmid = await world.vmid(machine);
    await world.runsAre('parked', [machine]);
    expectFired(world, 'dies-mid-clone');
    expect(await errorOf(machine)).toMatchObject({ code: 'cluster-unreachable' });
    const held = await world.query<{ kind: string }>(
      'select kind from reservations where machine_id = $1 and released_at is null order by kind',
      [machine.id],
    );
    expect(held.map(({ kind }) => kind)).toEqual(['mac', 'name', 'person', 'vmid']);
    expect(cloneRequests(world)).toHaveLength(1);

    await proxmox.conditions.powerOn('pve1');
    expect(proxmox.guest(vmid)?.config).toMatchObject({ lock: 'clone' });
    await world.assembly.intake.retryRun(machine.runId, world.admin);
    await world.runsAre('running', [machine]);
    await world.runsAre('parked', [machine]);
    const { code, hint } = await errorOf(machine);
    expect(code).toBe('outcome-unknown');
    expect(hint).toContain(`qm unlock ${vmid} && qm destroy ${vmid}`);
    expect(cloneRequests(world)).toHaveLength(1);

    // The admin does what the hint says.
    proxmox.foreign.remove(vmid, 'root');
    await world.assembly.intake.retryRun(machine.runId, world.admin);
    await world.runsAre('done', [machine]);
    expect(await world.vmid(machine)).toBe(vmid);
    expect(cloneRequests(world)).toHaveLength(2);
    await expectWhole(world, [machine]);
  });
});
