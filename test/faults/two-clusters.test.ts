import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { startSimulators, type Simulators } from '../../src/simulators/simulators.js';
import { addBlueprint } from '../support/blueprint-variants.js';
import { BLUEPRINT, FaultWorld } from '../support/fault-world.js';
import type { SimulatedSite } from '../support/simulated-site.js';

const ELSEWHERE = 'desktop-elsewhere';
let second: Required<Simulators>;
let at: FaultWorld;

/** Another Proxmox VE with the same range of ids, and a blueprint whose machines go there. */
async function addCluster(site: SimulatedSite): Promise<void> {
  second = (await startSimulators({
    which: ['proxmox'],
    timeScale: site.timeScale,
    world: { cluster: 'second', seed: 'second' },
  })) as Required<Simulators>;
  const { endpoints, caFile, token } = second.proxmox;
  const secretFile = join(site.configDir, 'second-token');
  await writeFile(secretFile, token.secret, { mode: 0o600 });
  const definition = {
    name: 'second',
    kind: 'proxmox',
    endpoints,
    trust: { caFile },
    token: { id: token.id, secret: { file: secretFile } },
    pool: 'hatchery-demo',
    vmids: { from: 10_000, to: 19_999 },
  };
  await writeFile(join(site.configDir, 'clusters', 'second.yaml'), stringify(definition));
  await addBlueprint(site, ELSEWHERE, { blueprint: ['clusters: [main]', 'clusters: [second]'] });
}

beforeAll(async () => {
  at = await FaultWorld.start({ prepare: addCluster });
});
afterAll(async () => {
  await at?.close();
  await second?.stop();
});

it('F09: an id belongs to one cluster: what holds it in the other is neither in the way nor touched', async () => {
  const here = await at.world.create(BLUEPRINT);
  const there = await at.world.create(ELSEWHERE);
  const vmid = await at.world.vmid(here);
  expect(await at.world.vmid(there)).toBe(vmid);
  await at.with('F09-two-clusters', async () => {
    await at.upTo('start', here);
    expect(await at.expectOneGuest(here)).not.toBe(vmid);
    at.expectUntouched(vmid);
    await at.upTo('start', there);
    expect(await at.world.vmid(there)).toBe(vmid);
    expect(second.proxmox.guest(vmid)).toMatchObject({ status: 'running', config: { name: there.name } });
    await at.giveUp(there);
    expect(second.proxmox.guest(vmid)).toBeUndefined();
    expect(at.proxmox.guest(vmid)).toMatchObject({ owner: 'alice', status: 'running' });
    at.expectUntouched(vmid);
  });
});
