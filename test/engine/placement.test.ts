import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { BatchRequest } from '../../src/engine/intake.js';
import { assembled, people, type Assembled } from '../support/assembled.js';
import { addBlueprint } from '../support/blueprint-variants.js';
import { simulatedSite, type SimulatedSite } from '../support/simulated-site.js';

const NODES = ['pve1', 'pve2', 'pve3'];

let site: SimulatedSite;
let bench: Assembled;

beforeAll(async () => {
  site = await simulatedSite({
    timeScale: 0.03,
    world: {
      storages: [{ id: 'local-lvm', type: 'lvmthin', shared: false, sizeGiB: 1_024 }],
      templates: NODES.map((node, index) => ({
        vmid: 9_000 + index,
        node,
        name: 'debian-12-xfce',
        storage: 'local-lvm',
      })),
    },
  });
  await addBlueprint(site, 'pinned', {
    blueprint: ['clusters: [main]', 'clusters: [main]\nnodes: { only: [pve2, pve3], exclude: [pve3] }'],
  });
  await addBlueprint(site, 'misspelt', {
    blueprint: ['clusters: [main]', 'clusters: [main]\nnodes: { only: [pve9] }'],
  });
  await addBlueprint(site, 'copies', {
    blueprint: ['templates: [debian-12-xfce]', 'templates: [debian-12-xfce, debian-12-old]'],
  });
});
afterAll(async () => site?.stop());
beforeEach(async () => {
  bench = await assembled(site);
  return () => bench.close();
});

const aBatch = (blueprint: string, count: number): BatchRequest => ({
  name: 'l3-info',
  blueprint,
  rows: people(count),
  skipExisting: false,
});

describe('a class on a cluster whose nodes have local disks only', () => {
  it('stays on the nodes that its blueprint allows, and the plan says why', async () => {
    const plan = await bench.assembly.intake.plan(aBatch('pinned', 2), bench.teacher);
    expect(plan.items.map(({ node, template }) => [node, template])).toEqual([
      ['pve2', 9_001],
      ['pve2', 9_001],
    ]);
    expect(plan.items[0]?.reason).toMatch(/^the only node with room: memory \d+ %, cores \d+ %, disk \d+ %$/);
    const notes = plan.capacity.filter(({ kind }) => kind === 'node').map(({ note }) => note);
    expect(notes).toEqual(['the blueprint wants pve2 or pve3', undefined, 'excluded by the blueprint']);
  });

  it('is refused when its blueprint names a node that is not there', async () => {
    await expect(bench.assembly.intake.plan(aBatch('misspelt', 1), bench.teacher)).rejects.toMatchObject({
      message:
        'Unable to place machines of blueprint misspelt: it names pve9, and the cluster has no such node',
    });
  });

  it('does without a copy of the template that is not there, and the plan says so', async () => {
    const plan = await bench.assembly.intake.plan(aBatch('copies', 3), bench.teacher);
    expect(plan.items.map(({ verdict }) => verdict)).toEqual(['ok', 'ok', 'ok']);
    expect(plan.notes).toEqual(['No template is named debian-12-old: the batch does without that copy.']);
  });

  // Last: what it makes belongs to a deployment that the others do not know.
  it('is cloned on every node, each machine from the copy of the template that lies there', async () => {
    const { assembly, teacher, until } = bench;
    assembly.caretaker.start();
    const worker = await assembly.startWorker(10);
    await assembly.intake.create(aBatch('student-desktop', 6), teacher, undefined);
    await until(`select count(*) = 6 as ok from machines where state = 'ready'`);
    await worker.stop();
    await assembly.caretaker.stop();
    const clones = site.simulators.context.journal
      .read()
      .filter((line) => line.event === 'request' && line.op === 'qemu.clone')
      .map((line) => line.node ?? '')
      .sort((a, b) => a.localeCompare(b));
    expect(clones).toEqual(NODES.flatMap((node) => [node, node]));
    const rows = await assembly.database.query<{ node: string }>('select node from machines order by node');
    expect(rows.map(({ node }) => node)).toEqual(clones);
  });
});
