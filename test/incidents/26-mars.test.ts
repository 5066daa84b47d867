import { afterEach, describe, expect, it } from 'vitest';
import { loadSite } from '../../src/app/config/site.js';
import { startSimulators, type Simulators } from '../../src/simulators/simulators.js';
import { assembled, people, type Assembled } from '../support/assembled.js';
import { writeSite } from '../support/simulated-site.js';
import { deploymentWorld, deploymentToken } from './deployments.js';
import { NaiveDeployment } from './naive-deployment.js';
import { takeFreedIds, wrongWrites } from './wrong-writes.js';

/*
 * 26 March 2025: a test deployment and the production of an association, each with a database of its own, took their VMIDs from one range
 * of one cluster. One node did not answer lookups, which counted as "free"; the error path of a failed create deleted whatever had the id.
 */

const SCALE = 0.01;
const EACH = 8;
const RANGE = { from: 10_000, to: 10_099 };
/** Each talks to one node only, by which the journal tells them apart. */
const SENDERS = { pve1: 'production', pve3: 'test' };
const ENDPOINTS = { production: 0, test: 2 } as const;
type Name = keyof typeof ENDPOINTS;
const NAMES: readonly Name[] = ['production', 'test'];

/** Own tokens fence each deployment in its pool; with the shared one only marks protect. */
const TOKENS = ['own tokens', 'one shared root token'] as const;

let simulators: Required<Simulators>;
const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function theDay(): Promise<void> {
  simulators = (await startSimulators({
    which: ['proxmox', 'winrm', 'guacamole'],
    timeScale: SCALE,
    world: deploymentWorld(NAMES),
    faults: [
      {
        id: 'lookups-595',
        match: {
          op: 'qemu.config.get',
          node: 'pve2',
          nth: Array.from({ length: 12 }, (_, index) => index + 1),
        },
        effect: 'status',
        value: { status: 595, message: 'No route to host' },
      },
      {
        id: 'clones-fail',
        match: { op: 'qemu.clone', nth: [2, 3, 5, 9] },
        when: 'during',
        effect: 'task-error',
        value: "clone failed: cfs-lock 'storage-ceph' error: got lock request timeout",
      },
    ],
  })) as Required<Simulators>;
  closers.push(() => simulators.stop());
  const { proxmox, context } = simulators;
  takeFreedIds(context.journal, (vmid) => {
    if (proxmox.guest(vmid) === undefined)
      proxmox.foreign.create({ vmid, node: 'pve2', kind: 'qemu', owner: 'club', name: `club-${vmid}` });
  });
}

const tokenOf = (tokens: (typeof TOKENS)[number], name: Name) =>
  tokens === 'own tokens'
    ? deploymentToken(simulators, name)
    : { ...simulators.proxmox.rootToken, mayWriteOutsidePool: true };

const foreignGuests = (): number =>
  simulators.proxmox.guests().filter((guest) => guest.owner === 'club').length;
const fired = (id: string): number =>
  simulators.context.journal.read().filter((line) => line.event === 'fault' && line.fault === id).length;

describe.each(TOKENS)('two deployments on one range, with %s', (tokens) => {
  it('the product: no write to a guest of somebody else, and who loses stops with a clear message', async () => {
    await theDay();
    const benches: Assembled[] = [];
    for (const name of NAMES) {
      const configDir = await writeSite(simulators, {
        token: tokenOf(tokens, name),
        pool: `hatchery-${name}`,
        endpoints: [simulators.proxmox.endpoints[ENDPOINTS[name]]],
        vmids: RANGE,
        nodes: { exclude: ['pve2'] },
      });
      const bench = await assembled(
        { simulators, configDir, timeScale: SCALE, stop: async () => {} },
        { site: loadSite({ configDir, env: {} }), watchMs: 500 },
      );
      bench.assembly.caretaker.start();
      const worker = await bench.assembly.startWorker(16);
      closers.push(
        () => bench.close(),
        () => bench.assembly.caretaker.stop(),
        () => worker.stop(),
      );
      benches.push(bench);
    }
    const create = (bench: Assembled, name: string) =>
      bench.assembly.intake.create(
        { name, blueprint: 'student-desktop', rows: people(EACH, name), skipExisting: false },
        bench.admin,
        undefined,
      );
    await Promise.all(benches.map((bench, index) => create(bench, NAMES[index]!)));
    // At rest: whoever is stopped begins nothing more, whoever is not comes to its end.
    await Promise.all(
      benches.map((bench) =>
        bench.until(
          `select not exists (select from steps where worker_id is not null)
              and (exists (select from cluster_stops) or not exists (select from runs where finished_at is null and state <> 'parked')) as ok`,
        ),
      ),
    );
    const stops = await Promise.all(benches.map((bench) => bench.assembly.parts.stops.of('main')));
    expect(stops.flat().length).toBeGreaterThan(0);
    for (const [index, stop] of stops.entries()) {
      if (stop.length === 0) continue;
      expect(stop[0]).toMatchObject({
        code: 'foreign-guest',
        message: expect.stringContaining(
          'another Hatchery deployment has guests in our VMID range 10000-10099',
        ) as string,
        hint: expect.stringContaining('give each a range of its own') as string,
      });
      await expect(create(benches[index]!, 'once-more')).rejects.toMatchObject({ code: 'foreign-guest' });
    }
    expect(wrongWrites(simulators.context.journal.read(), SENDERS)).toEqual([]);
    expect(foreignGuests()).toBeGreaterThan(0);
    for (const id of ['lookups-595', 'clones-fail']) expect([id, fired(id) > 0]).toEqual([id, true]);
  });

  it('a naive build: the judge of this test sees it write to guests of others', async () => {
    await theDay();
    const naive = NAMES.map((name) =>
      NaiveDeployment.on(simulators.proxmox, ENDPOINTS[name], tokenOf(tokens, name), {
        pool: `hatchery-${name}`,
        ...RANGE,
      }),
    );
    await Promise.all(
      naive.map((one, index) => one.createAll(people(EACH, NAMES[index]).map(({ login }) => login))),
    );
    for (const one of naive) one.close();
    expect(wrongWrites(simulators.context.journal.read(), SENDERS)).not.toEqual([]);
  });
});
