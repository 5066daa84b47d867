import { afterEach, describe, expect, it } from 'vitest';
import { createContext, type ContextSettings } from '../../src/simulators/create-context.js';
import {
  startProxmoxSimulator,
  type ProxmoxSimulator,
} from '../../src/simulators/proxmox/proxmox-simulator.js';
import { WireClient } from './proxmox-client.js';

type Row = Record<string, unknown>;

describe('the cluster calls', () => {
  let context: ReturnType<typeof createContext>;
  let simulator: ProxmoxSimulator;
  let client: WireClient;
  let root: WireClient;

  const begin = async (settings: ContextSettings = {}): Promise<void> => {
    context = createContext({ timeScale: 0.002, ...settings });
    simulator = await startProxmoxSimulator(context);
    client = new WireClient(simulator);
    root = new WireClient(simulator, simulator.rootToken);
  };
  afterEach(async () => {
    client.close();
    root.close();
    await simulator.stop();
    context.close();
  });
  const rows = async (type: string, who = client): Promise<Row[]> =>
    (await who.get(`/cluster/resources?type=${type}`)).json.data as Row[];
  const row = async (vmid: number): Promise<Row | undefined> =>
    (await rows('vm')).find((one) => one['vmid'] === vmid);
  const restricted = async (acl: { path: string; privileges: string[] }[]): Promise<WireClient> => {
    await begin({ world: { tokens: [{ id: 'eve@pve!tok', secret: 's', acl }] } });
    return new WireClient(simulator, { id: 'eve@pve!tok', secret: 's' });
  };

  describe('resources', () => {
    it('shows a fresh guest as unknown and without a name until the next broadcast', async () => {
      await begin({ timeScale: 0.02 });
      await root.task(await root.post('/nodes/pve1/qemu/9000/clone', { newid: 500, name: 'fresh' }));
      const news = (): unknown[] => [...simulator.guests()].filter(({ vmid }) => vmid === 500);
      expect(news()).toHaveLength(1);
      simulator.foreign.create({ vmid: 501, node: 'pve1', kind: 'qemu', owner: 'eve', name: 'late' });
      const early = await row(501);
      expect(early).toMatchObject({ id: 'qemu/501', node: 'pve1', status: 'unknown' });
      expect(early).not.toHaveProperty('name');
      let late = early;
      while (late?.['status'] === 'unknown') late = await row(501);
      expect(late).toMatchObject({ name: 'late', status: 'running', template: 0, maxcpu: 2 });
    });

    it('shows the dead predecessor of a VMID that is used again', async () => {
      await begin({ timeScale: 0.02 });
      simulator.foreign.remove(104, 'bob');
      expect(await row(104)).toBeUndefined();
      simulator.foreign.create({
        vmid: 104,
        node: 'pve1',
        kind: 'qemu',
        owner: 'eve',
        name: 'successor',
        running: false,
      });
      expect(await row(104)).toMatchObject({ node: 'pve1', name: 'windows-dc', status: 'running' });
      let now = await row(104);
      while (now?.['name'] !== 'successor') now = await row(104);
      expect(now).toMatchObject({ status: 'stopped' });
    });

    it('keeps the last status of guests on a dead node for five minutes, then they are unknown', async () => {
      await begin();
      await simulator.conditions.powerOff('pve3');
      expect(await row(104)).toMatchObject({ status: 'running', name: 'windows-dc' });
      expect((await rows('node')).map((node) => [node['node'], node['status']])).toEqual([
        ['pve1', 'online'],
        ['pve2', 'online'],
        ['pve3', 'offline'],
      ]);
      let now = await row(104);
      while (now?.['status'] !== 'unknown') now = await row(104);
      expect(now).not.toHaveProperty('name');
      expect((await row(100))?.['status']).toBe('running');
    });

    it('lists each storage once per node that has it, with what it holds', async () => {
      await begin({
        world: {
          storages: [
            { id: 'ceph', type: 'rbd', shared: true, sizeGiB: 100 },
            {
              id: 'local',
              type: 'dir',
              shared: false,
              sizeGiB: 10,
              content: ['iso', 'snippets'],
              nodes: ['pve2'],
            },
            { id: 'gone', type: 'nfs', shared: true, sizeGiB: 10, isDisabled: true },
          ],
        },
      });
      const seen = await rows('storage');
      expect(seen.map(({ id }) => id)).toEqual([
        'storage/pve1/ceph',
        'storage/pve2/ceph',
        'storage/pve3/ceph',
        'storage/pve2/local',
      ]);
      expect(seen[3]).toMatchObject({
        plugintype: 'dir',
        shared: 0,
        content: 'iso,snippets',
        status: 'available',
      });
    });

    it('hides guests, storages and numbers from those who may not audit them', async () => {
      const eve = await restricted([{ path: '/vms/100', privileges: ['VM.Audit'] }]);
      expect((await rows('vm', eve)).map(({ vmid }) => vmid)).toEqual([100]);
      expect(await rows('storage', eve)).toEqual([]);
      const [node] = await rows('node', eve);
      expect(node).toEqual({ id: 'node/pve1', type: 'node', node: 'pve1', status: 'online', level: '' });
      eve.close();
    });

    it('is the memory of one worker for two seconds', async () => {
      await begin({ timeScale: 0.05 });
      const before = await row(104);
      expect(before?.['status']).toBe('running');
      simulator.foreign.setRunning(104, false, 'bob');
      expect((await row(104))?.['status']).toBe('running');
    });
  });

  describe('status', () => {
    it('tells who is online and whether there is quorum', async () => {
      await begin();
      await simulator.conditions.powerOff('pve2');
      simulator.conditions.loseQuorum();
      const [cluster, ...nodes] = (await client.at(2).get('/cluster/status')).json.data as Row[];
      expect(cluster).toMatchObject({ type: 'cluster', name: 'simcluster', nodes: 3, quorate: 0 });
      expect(nodes.map(({ name, online, local }) => [name, online, local])).toEqual([
        ['pve1', 1, 0],
        ['pve2', 0, 0],
        ['pve3', 1, 1],
      ]);
    });
  });

  describe('nextid', () => {
    it('takes the range of the datacenter and reserves nothing', async () => {
      await begin({ world: { nextId: [104, 106] } });
      expect((await client.get('/cluster/nextid')).json.data).toBe('105');
      expect((await client.get('/cluster/nextid')).json.data).toBe('105');
      simulator.foreign.create({ vmid: 105, node: 'pve1', kind: 'lxc', owner: 'eve' });
      expect(await client.get('/cluster/nextid')).toMatchObject({
        status: 500,
        reason: 'unable to get any free VMID in range [104, 106]',
      });
      expect((await client.get('/cluster/nextid?vmid=105')).json.errors).toEqual({
        vmid: 'VM 105 already exists',
      });
      expect((await client.get('/cluster/nextid?vmid=777')).json.data).toBe('777');
    });
  });

  describe('tasks', () => {
    it('lists what runs and what ended lately, and to a token without Sys.Audit nothing, not even its own', async () => {
      const eve = await restricted([
        { path: '/vms/104', privileges: ['VM.PowerMgmt'] },
        { path: '/nodes', privileges: [] },
      ]);
      await root.task(await root.post('/nodes/pve3/qemu/104/status/stop'));
      simulator.hold('qemu.start', 'task');
      await eve.post('/nodes/pve3/qemu/104/status/start');
      await simulator.reached('qemu.start', 'task');
      const seen = (await client.get('/cluster/tasks')).json.data as Row[];
      expect(seen.map(({ type, status }) => [type, status])).toEqual([
        ['qmstart', undefined],
        ['qmstop', 'OK'],
      ]);
      expect(seen[0]).not.toHaveProperty('endtime');
      expect((await eve.get('/cluster/tasks')).json.data).toEqual([]);
      expect((await eve.get('/nodes/pve3/tasks?source=active')).json.data).toMatchObject([
        { type: 'qmstart' },
      ]);
      eve.close();
      simulator.release('qemu.start', 'task');
    });

    it('is cut to 32 KiB per node, so that of many running tasks the oldest are missing', async () => {
      await begin();
      simulator.hold('qemu.clone', 'task-start');
      for (let newid = 20_000; newid < 20_180; newid += 1)
        await root.post('/nodes/pve1/qemu/9000/clone', { newid });
      const seen = (await client.get('/cluster/tasks')).json.data as Row[];
      expect(seen.length).toBeGreaterThan(100);
      expect(seen.length).toBeLessThan(180);
      expect(JSON.stringify(seen).length).toBeLessThan(32_768);
      expect((await client.get('/nodes/pve1/tasks?source=active&limit=500')).json.total).toBe(180);
      simulator.release('qemu.clone', 'task-start');
    });
  });

  it('name what lies below them', async () => {
    await begin({ world: { version: '8.4' } });
    const names = ((await client.get('/cluster')).json.data as Row[]).map(({ name }) => name);
    expect(names).toContain('nextid');
    expect(names).not.toContain('bulk-action');
    expect((await root.get('/cluster/options')).json.data).toMatchObject({
      'next-id': { lower: '100', upper: '1000000' },
    });
  });
});
