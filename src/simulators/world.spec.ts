import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadWorld, saveWorld } from './state-file.js';
import { buildWorld, readWorldSpec } from './build-world.js';
import { drawBootMs } from './proxmox/durations.js';
import { SimRandom } from './seed.js';
import { leaseFor, type World } from './world.js';

describe('the simulated world', () => {
  let dir: string;
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'world-spec-'));
  });
  afterEach(() => rmSync(dir, { recursive: true }));

  it('has three nodes, a template, and foreign guests inside the range of the deployment', () => {
    const world = buildWorld();
    expect(world.nodes.map(({ name }) => name)).toEqual(['pve1', 'pve2', 'pve3']);
    expect(world.guests.get(9000)!.config).toMatchObject({
      name: 'debian-12-xfce',
      template: '1',
      agent: '1',
    });
    const inside = [...world.guests.values()].filter(
      ({ vmid }) => vmid >= world.range[0] && vmid <= world.range[1],
    );
    expect(inside.map(({ vmid, kind }) => `${kind}/${vmid}`)).toEqual(['qemu/10003', 'lxc/10007']);
    expect(world.pools.get('hatchery-demo')!.members.size).toBe(0);
  });

  it('has copies of a container template and an archive on every node, where the storages for them are', () => {
    const world = buildWorld();
    const copies = [...world.guests.values()].filter(
      ({ config }) => config['hostname'] === 'debian-12-desktop-lxc',
    );
    expect(copies.map(({ vmid, node }) => [vmid, node])).toEqual([
      [9100, 'pve1'],
      [9101, 'pve2'],
      [9102, 'pve3'],
    ]);
    expect([...world.files.keys()]).toEqual(
      ['pve1', 'pve2', 'pve3'].map((node) => `${node}/local:vztmpl/debian-12-standard_12.12-1_amd64.tar.zst`),
    );
    const storages = [{ id: 'big', type: 'rbd', shared: true, sizeGiB: 10 }] as const;
    const other = buildWorld({ storages: [...storages], templates: [], guests: [] });
    expect([other.guests.size, other.files.size]).toEqual([0, 0]);
  });

  it('is the same for the same seed, but for the secrets', () => {
    const [one, two, other] = [buildWorld({}, '5'), buildWorld({}, '5'), buildWorld({}, '6')];
    expect(one.guests).toEqual(two.guests);
    expect(one.guests).not.toEqual(other.guests);
    expect(one.tokens.get(one.tokenId)!.secret).not.toBe(two.tokens.get(two.tokenId)!.secret);
  });

  it('is read from YAML, with the place of what is wrong', () => {
    const file = join(dir, 'world.yaml');
    writeFileSync(
      file,
      'nodes: [n1]\ntemplates: [{ vmid: 900, node: n1, name: t, storage: big }]\nstorages: [{ id: big, type: nfs, shared: true, sizeGiB: 10 }]\nguests: []\n',
    );
    expect([...buildWorld(readWorldSpec(file)).guests.keys()]).toEqual([900]);
    writeFileSync(file, 'nodes: [n1]\nguests: [{ vmid: 5, node: n1, kind: qemu, owner: bob }]\n');
    expect(() => readWorldSpec(file)).toThrow(/guests\[0\]\.vmid/);
    expect(() =>
      buildWorld({
        nodes: ['n1'],
        templates: [],
        guests: [{ vmid: 500, node: 'n2', kind: 'lxc', owner: 'bob' }],
      }),
    ).toThrow(/there is no node "n2"/);
  });

  it('says how long its guests boot', () => {
    const draws = (world: World): number[] =>
      Array.from({ length: 1_000 }, (_, vmid) =>
        drawBootMs({ world, random: new SimRandom('1') }, vmid),
      ).sort((a, b) => a - b);
    const even = draws(buildWorld({ boot: { medianMs: 25_000, p95Ms: 27_500 } }));
    expect(even[500]).toBeGreaterThan(24_500);
    expect(even[500]).toBeLessThan(25_500);
    expect(even[50]).toBeGreaterThan(22_000);
    expect(even[950]).toBeLessThan(28_000);
    expect(draws(buildWorld())[950]).toBeGreaterThan(45_000);
    expect(() => buildWorld({ boot: { medianMs: 25_000, p95Ms: 20_000 } })).toThrow(/p95Ms/);
  });

  it('is saved whole for its owner only, and lives on', () => {
    const file = join(dir, 'state.json');
    const world = buildWorld();
    world.dhcp.allow.set('bc:24:11:00:00:01', { description: 'x' });
    world.pools.get('hatchery-demo')!.members.add(10_003);
    saveWorld(file, world);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(loadWorld(file)).toEqual({ ...world, life: 2 });
    expect(loadWorld(join(dir, 'none.json'))).toBeUndefined();
    saveWorld(file, { ...world, format: 1 });
    expect(() => loadWorld(file)).toThrow('another version of the simulators saved it');
  });

  it('leases one address per allowed MAC, always the same', () => {
    const world = buildWorld();
    expect(leaseFor(world, 'BC:24:11:00:00:01')).toBeUndefined();
    world.dhcp.allow.set('bc:24:11:00:00:01', { description: 'x' });
    world.dhcp.allow.set('bc:24:11:00:00:02', { description: 'y' });
    const first = leaseFor(world, 'BC:24:11:00:00:01');
    expect(first).toMatch(/^10\.20\./);
    expect(leaseFor(world, 'bc:24:11:00:00:01')).toBe(first);
    expect(leaseFor(world, 'bc:24:11:00:00:02')).not.toBe(first);
    world.dhcp.denyEnabled = true;
    world.dhcp.deny.set('bc:24:11:00:00:01', { description: 'z' });
    expect(leaseFor(world, 'bc:24:11:00:00:01')).toBeUndefined();
  });
});
