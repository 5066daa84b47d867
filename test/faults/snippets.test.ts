import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { checkSnippetFiles } from '../../src/app/clusters/check-snippet-files.js';
import { plainCall } from '../../src/ports/call.js';
import { addBlueprint, CLOUD_INIT, withSnippets } from '../support/blueprint-variants.js';
import { FaultWorld } from '../support/fault-world.js';
import { undoOf, type TestMachine } from '../support/step-world.js';

const WITH_FILES = 'desktop-with-files';
const PINNED = 'desktop-on-two-nodes';
const FILES = {
  user: { runcmd: [['mkdir', '/srv/{login}']] },
  network: { version: 2, ethernets: { lan: { match: { macaddress: '{mac}' }, dhcp4: true } } },
  vendor: { timezone: 'Europe/Paris' },
};

/** Until it is started. */
const FORWARD = ['reserve', 'allow-mac', 'snippets', 'clone', 'configure', 'resize', 'use-snippets', 'start'];

const NODES = ['pve1', 'pve2', 'pve3'];

describe('cloud-init files of virtual machines', { timeout: 90_000 }, () => {
  let at: FaultWorld;
  beforeAll(async () => {
    at = await FaultWorld.start({
      prepare: async (site) => {
        await addBlueprint(site, WITH_FILES, { blueprint: [CLOUD_INIT, withSnippets(FILES)] });
        const pinned = `${withSnippets({ vendor: FILES.vendor })}\nnodes: { only: [pve1, pve2] }`;
        await addBlueprint(site, PINNED, { blueprint: [CLOUD_INIT, pinned] });
      },
    });
  });
  afterAll(async () => {
    await at?.expectCleanJournal();
    await at?.close();
  });

  const world = () => at.world.site.simulators.world;
  /** Of the storage, as an admin does; nobody goes by an inventory of before. */
  const change = async (to: Partial<ReturnType<typeof world>['storages'][number]>): Promise<void> => {
    Object.assign(
      world().storages.find(({ id }) => id === 'local')!,
      to,
    );
    await at.world.assembly.hypervisors.get('main').inventory({ maxAgeMs: 0 });
  };
  const keysOf = ({ id }: TestMachine): string[] =>
    [...world().files.keys()].filter((key) => key.includes(id)).sort();
  const nodesOf = (machine: TestMachine): string[] => [
    ...new Set(keysOf(machine).map((key) => world().files.get(key)!.node!)),
  ];
  const told = (machine: TestMachine, part: string, node: string): unknown =>
    parse(
      [...world().files.values()].find(
        (file) => file.node === node && file.volid.endsWith(`${machine.id}-${part}.yaml`),
      )!.text,
    );
  const guestOf = async (machine: TestMachine) => at.proxmox.guest(await at.world.vmid(machine))!;
  const started = async (machine: TestMachine): Promise<void> => {
    await at.world.open(machine, FORWARD);
    await at.world.stepIs('done', machine, 'start');
  };
  const goneWithoutTrace = async (machine: TestMachine): Promise<void> => {
    await at.giveUp(machine);
    expect(keysOf(machine)).toEqual([]);
    expect(await guestOf(machine)).toBeUndefined();
  };

  it('lie on every node that may start the machine, and are gone with it', async () => {
    const machine = await at.world.create(WITH_FILES);
    await at.world.open(machine);
    await at.world.runsAre('done', [machine]);
    expect(nodesOf(machine)).toEqual(['pve1', 'pve2', 'pve3']);
    expect(keysOf(machine)).toHaveLength(9);
    for (const node of ['pve1', 'pve2', 'pve3']) {
      expect(told(machine, 'user', node)).toMatchObject({
        hostname: machine.name,
        user: 'student',
        runcmd: [['mkdir', `/srv/${machine.login}`]],
      });
      expect(told(machine, 'network', node)).toMatchObject({
        ethernets: { lan: { match: { macaddress: machine.mac } } },
      });
      expect(told(machine, 'vendor', node)).toEqual(FILES.vendor);
    }
    const { config, status } = await guestOf(machine);
    expect(status).toBe('running');
    expect(config['cicustom']).toBe(
      ['user', 'network', 'vendor']
        .map((part) => `${part}=local:snippets/hatchery-${machine.id}-${part}.yaml`)
        .join(','),
    );
    await at.remove(machine);
    expect(keysOf(machine)).toEqual([]);
  });

  it('S04: are refused to a login that a command would run, before anything is made', async () => {
    await expect(at.world.create(WITH_FILES, '$(touch x)')).rejects.toMatchObject({
      code: 'roster-invalid',
      problems: [expect.objectContaining({ column: 'login', code: 'login-invalid' })],
    });
  });

  it('E07: are there whole or not at all, whatever happens to a write', async () => {
    await at.with('E07-snippet-write', async () => {
      const machine = await at.world.create(PINNED);
      await started(machine);
      expect(nodesOf(machine)).toEqual(['pve1', 'pve2']);
      for (const node of nodesOf(machine)) expect(told(machine, 'vendor', node)).toEqual(FILES.vendor);
      const writes = at.lines({ event: 'request', op: 'ssh.file.put', effect: true });
      expect(writes).toHaveLength(2);
      await goneWithoutTrace(machine);
    });
  });

  it('F47: follow a guest that moved to a node where nobody expected it, and are removed there too', async () => {
    const machine = await at.world.create(PINNED);
    await at.world.open(machine, FORWARD.slice(0, -1));
    await at.world.stepIs('done', machine, 'use-snippets');
    at.proxmox.foreign.migrate(await at.world.vmid(machine), 'pve3');
    await started(machine);
    expect(await guestOf(machine)).toMatchObject({ node: 'pve3', status: 'running' });
    expect(nodesOf(machine).sort()).toEqual(['pve1', 'pve2', 'pve3']);
    await goneWithoutTrace(machine);
  });

  it('are put right before the start when somebody edited one or took it away', async () => {
    const machine = await at.world.create(WITH_FILES);
    await at.world.open(machine, FORWARD.slice(0, -1));
    await at.world.stepIs('done', machine, 'use-snippets');
    const { node } = await guestOf(machine);
    const own = keysOf(machine).filter((key) => world().files.get(key)!.node === node);
    world().files.delete(own[0]!);
    const edited = world().files.get(own[1]!)!;
    world().files.set(own[1]!, { ...edited, text: '#cloud-config\nusers: [root2]\n' });
    await started(machine);
    expect(keysOf(machine)).toHaveLength(9);
    expect(world().files.get(own[1]!)!.text).toBe(edited.text);
    await goneWithoutTrace(machine);
  });

  it('are put again when one is missing in the moment of the start', async () => {
    const { holds } = at.world.site.simulators.context;
    const machine = await at.world.create(WITH_FILES);
    await at.world.open(machine, FORWARD.slice(0, -1));
    await at.world.stepIs('done', machine, 'use-snippets');
    holds.hold('qemu.start', 'before');
    await at.world.open(machine, ['start']);
    await holds.reached('qemu.start', 'before');
    const { node } = await guestOf(machine);
    for (const key of keysOf(machine)) if (world().files.get(key)!.node === node) world().files.delete(key);
    holds.release('qemu.start', 'before');
    await at.world.stepIs('done', machine, 'start');
    expect(keysOf(machine)).toHaveLength(9);
    await goneWithoutTrace(machine);
  });

  it('F21: wait for no node but the one of their machine', async () => {
    const machine = await at.world.create(WITH_FILES);
    const { node } = await at.world.one<{ node: string }>('select node from machines where id = $1', [
      machine.id,
    ]);
    const away = ['pve3', 'pve2'].find((name) => name !== node)!;
    await at.proxmox.conditions.powerOff(away);
    await started(machine);
    expect(nodesOf(machine)).toHaveLength(2);
    await at.proxmox.conditions.powerOn(away);
    const { assembly } = at.world;
    const { snippets } = await assembly.useOf('main');
    const found = await checkSnippetFiles(assembly.nodeFiles.get('main')!, snippets, NODES, plainCall());
    expect(found).toEqual(
      NODES.map((name) =>
        expect.objectContaining({ ok: name !== away, subject: `cloud-init files on ${name}` }),
      ),
    );
    await goneWithoutTrace(machine);
  });

  it('are one for all nodes on a shared storage, and are removed through another node when theirs is off', async () => {
    await change({ shared: true });
    const machine = await at.world.create(WITH_FILES);
    await at.world.open(machine, [...FORWARD, 'address', 'desktop']);
    await at.world.runsAre('done', [machine]);
    expect(keysOf(machine)).toHaveLength(3);
    await at.world.deleteKept(machine);
    await at.world.open(machine, ['desktop', 'clone', 'allow-mac'].map(undoOf));
    await at.world.kept(machine, undoOf('snippets'));
    const { nodes } = await at.world.one<{ nodes: string[] }>(
      `select payload -> 'nodes' as nodes from effects e join steps s on s.id = e.step_id where s.run_id = $1 and e.kind = 'snippet-files'`,
      [machine.runId],
    );
    await at.proxmox.conditions.powerOff(nodes[0]!);
    await at.world.open(machine);
    await at.world.runsAre('cancelled', [machine]);
    await at.proxmox.conditions.powerOn(nodes[0]!);
    expect(keysOf(machine)).toEqual([]);
    await change({ shared: false });
  });

  it('park where the storage takes none, with what to do', async () => {
    const machine = await at.world.create(WITH_FILES);
    await change({ content: ['iso', 'vztmpl'] });
    await at.world.open(machine);
    const error = await at.parked(machine);
    expect(error.message).toContain('this node knows no path for local:snippets/hatchery-');
    expect(error.hint).toContain('content snippets');
    await change({ content: ['iso', 'vztmpl', 'snippets'] });
    await at.retry(machine);
    await at.world.runsAre('done', [machine]);
    await goneWithoutTrace(machine);
  });
});
