import { afterEach, describe, expect, it } from 'vitest';
import { createContext, type ContextSettings } from '../../src/simulators/create-context.js';
import {
  startProxmoxSimulator,
  type ProxmoxSimulator,
} from '../../src/simulators/proxmox/proxmox-simulator.js';
import { WireClient } from './proxmox-client.js';

describe('HA', () => {
  let context: ReturnType<typeof createContext>;
  let simulator: ProxmoxSimulator;
  let client: WireClient;
  let root: WireClient;

  const begin = async (world: ContextSettings['world'] = {}): Promise<void> => {
    context = createContext({ timeScale: 0.002, world });
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
  const until = async (holds: () => boolean): Promise<void> => {
    while (!holds()) await client.get('/version');
  };

  it('is asked of a guest once, by whoever has Sys.Console', async () => {
    await begin();
    expect(await client.post('/cluster/ha/resources', { sid: 'vm:100' })).toMatchObject({
      status: 403,
      reason: 'Permission check failed (/, Sys.Console)',
    });
    expect((await root.post('/cluster/ha/resources', { sid: '100', comment: 'x' })).status).toBe(200);
    expect((await root.post('/cluster/ha/resources', { sid: 'vm:100' })).reason).toBe(
      "create resource failed: resource ID 'vm:100' already defined",
    );
    expect((await root.post('/cluster/ha/resources', { sid: 'vm:777' })).reason).toBe(
      "resource 'vm:777' does not exists in cluster",
    );
    expect((await client.get('/cluster/ha/resources?type=vm')).json.data).toMatchObject([
      { sid: 'vm:100', state: 'started', max_restart: 1, comment: 'x', type: 'vm' },
    ]);
    const stale = await root.put('/cluster/ha/resources/vm:100', { state: 'disabled', digest: 'abc' });
    expect(stale.reason).toBe(
      'update resource failed: detected modified configuration - file changed by other user? Try again.',
    );
    expect((await root.delete('/cluster/ha/resources/vm:100')).status).toBe(200);
    expect((await root.delete('/cluster/ha/resources/vm:100')).reason).toBe(
      "cannot delete service 'vm:100', not HA managed!",
    );
  });

  it('turns a start and a stop into a request that ends at once; the real task is of root@pam', async () => {
    await begin({ ha: ['vm:104'] });
    const asked = await root.post('/nodes/pve3/qemu/104/status/stop');
    expect(asked.json.data).toMatch(/^UPID:pve3:.*:hastop:104:root@pam!simulator:$/);
    expect(await root.task(asked)).toEqual({
      exit: 'OK',
      log: ['Requesting HA stop for VM 104', 'TASK OK'],
    });
    await until(() => simulator.guest(104)?.status === 'stopped');
    const start = await root.post('/nodes/pve3/qemu/104/status/start');
    expect(start.json.data).toMatch(/:hastart:104:/);
    await until(() => simulator.guest(104)?.status === 'running');
    const tasks = (await client.get('/nodes/pve3/tasks?vmid=104&source=all')).json.data as {
      type: string;
      user: string;
    }[];
    expect(tasks.map(({ type, user }) => `${type} ${user}`)).toEqual(
      expect.arrayContaining(['qmstop root@pam', 'qmstart root@pam']),
    );
  });

  it('protects a guest from being destroyed, unless it is purged too', async () => {
    await begin({ ha: ['vm:104'] });
    await root.task(await root.post('/nodes/pve3/qemu/104/status/stop'));
    await until(() => simulator.guest(104)?.status === 'stopped');
    expect((await root.delete('/nodes/pve3/qemu/104')).reason).toBe(
      'unable to remove VM 104 - used in HA resources and purge parameter not set.',
    );
    const purged = await root.task(await root.delete('/nodes/pve3/qemu/104?purge=1'));
    expect(purged.exit).toBe('OK');
    expect((await root.get('/cluster/ha/resources')).json.data).toEqual([]);
  });

  it('moves the guests of a dead node to one that lives, and starts them there', async () => {
    await begin({ ha: ['vm:104'] });
    await simulator.conditions.powerOff('pve3');
    await until(() => simulator.guest(104)?.node !== 'pve3');
    await until(() => simulator.guest(104)?.status === 'running');
    const moved = context.journal.read().find(({ op }) => op === 'foreign.migrate');
    expect(moved).toMatchObject({ actor: 'foreign:ha-manager', vmid: 104, node: simulator.guest(104)?.node });
    expect(simulator.guest(10_007)?.node).toBe('pve3');
  });

  describe('is asked to move a guest', () => {
    const move = { target: 'pve1', online: 1 };
    const types = async (node: string): Promise<string[]> => {
      const { data } = (await client.get(`/nodes/${node}/tasks?vmid=104&source=all`)).json;
      return (data as { type: string; user: string }[]).map(({ type, user }) => `${type} ${user}`);
    };

    it('by a task that ends at once; the real one is of root@pam', async () => {
      await begin({ ha: ['vm:104'] });
      expect((await root.post('/nodes/pve3/qemu/104/migrate', { target: 'pve1' })).reason).toBe(
        "can't migrate running VM without --online",
      );
      simulator.hold('qemu.migrate', 'task');
      const asked = await root.post('/nodes/pve3/qemu/104/migrate', move);
      expect(asked.json.data).toMatch(/^UPID:pve3:.*:hamigrate:104:root@pam!simulator:$/);
      expect(await root.task(asked)).toEqual({
        exit: 'OK',
        log: ['Requesting HA migration for VM 104 to node pve1', 'TASK OK'],
      });
      await simulator.reached('qemu.migrate', 'task');
      expect((await client.get('/nodes/pve3/qemu/104/status/current')).json.data).toMatchObject({
        ha: { state: 'migrate' },
      });
      simulator.release('qemu.migrate', 'task');
      await until(() => simulator.guest(104)?.node === 'pve1');
      expect(simulator.guest(104)?.status).toBe('running');
      expect(await types('pve3')).toContain('qmigrate root@pam');
      const ended = context.journal
        .read()
        .filter(({ event, op }) => event === 'task-end' && op === 'qemu.migrate')
        .map(({ actor, effect }) => [actor, effect]);
      expect(ended).toEqual([
        ['root@pam!simulator', false],
        ['root@pam', true],
      ]);
    });

    it('in error only after it was disabled', async () => {
      await begin({ ha: ['vm:104'] });
      simulator.foreign.edit(104, { lock: 'backup' });
      simulator.foreign.setRunning(104, false);
      const current = async (): Promise<unknown> =>
        ((await client.get('/nodes/pve3/qemu/104/status/current')).json.data as { ha: { state?: string } })
          .ha;
      while (!JSON.stringify(await current()).includes('error')) await client.get('/version');
      simulator.foreign.edit(104, { lock: null });
      expect(await root.task(await root.post('/nodes/pve3/qemu/104/migrate', move))).toEqual({
        exit: "command 'ha-manager migrate vm:104 pve1' failed: exit code 255",
        log: [
          'Requesting HA migration for VM 104 to node pve1',
          "service 'vm:104' in error state, must be disabled and fixed first",
          "TASK ERROR: command 'ha-manager migrate vm:104 pve1' failed: exit code 255",
        ],
      });
    });

    it('over its own call, live or shut down on the way', async () => {
      await begin({ ha: ['vm:104'] });
      const ask = '/cluster/ha/resources/vm:100/migrate';
      expect((await client.post(ask, { node: 'pve1' })).reason).toBe(
        'Permission check failed (/, Sys.Console)',
      );
      expect((await root.post(ask, { node: 'pve1' })).reason).toBe("resource 'vm:100' is not HA managed");
      const nowhere = await root.post('/cluster/ha/resources/104/migrate', { node: 'pve9' });
      expect(nowhere.json.data).toEqual({ sid: 'vm:104', 'requested-node': 'pve9' });
      const relocate = await root.post('/cluster/ha/resources/104/relocate', { node: 'pve2' });
      expect(relocate.json.data).toEqual({ sid: 'vm:104', 'requested-node': 'pve2' });
      await until(() => simulator.guest(104)?.node === 'pve2');
      await until(() => simulator.guest(104)?.status === 'running');
      expect(await types('pve3')).toEqual(['qmigrate root@pam', 'qmshutdown root@pam']);
      await root.post('/cluster/ha/resources/vm:104/migrate', { node: 'pve1' });
      await until(() => simulator.guest(104)?.node === 'pve1');
      expect(await types('pve2')).toEqual(['qmigrate root@pam', 'qmstart root@pam']);
    });

    it('together with those that must be where it is, and never to where another must not meet it', async () => {
      await begin({ ha: ['vm:104', 'vm:100', 'vm:10003'] });
      const affinity = (rule: string, kind: string, resources: string): Promise<unknown> =>
        root.post('/cluster/ha/rules', { rule, type: 'resource-affinity', affinity: kind, resources });
      await affinity('with', 'positive', 'vm:104,vm:10003');
      await affinity('without', 'negative', 'vm:100,vm:10003');
      const to = (node: string): Promise<{ json: { data?: unknown } }> =>
        root.post('/cluster/ha/resources/vm:104/migrate', { node });
      expect((await to('pve1')).json.data).toEqual({
        sid: 'vm:104',
        'requested-node': 'pve1',
        'blocking-resources': [{ sid: 'vm:100', cause: 'resource-affinity' }],
      });
      const refused = await root.task(await root.post('/nodes/pve3/qemu/104/migrate', move));
      expect(refused.log).toContain(
        "- resource 'vm:100' on target node 'pve1' in negative affinity with resource 'vm:104'",
      );
      expect((await root.get('/nodes/pve3/qemu/104/migrate')).json.data).toMatchObject({
        'dependent-ha-resources': ['vm:10003'],
      });
      await root.delete('/cluster/ha/rules/without');
      expect((await to('pve1')).json.data).toEqual({
        sid: 'vm:104',
        'requested-node': 'pve1',
        'comigrated-resources': ['vm:10003'],
      });
      for (const vmid of [104, 10_003]) await until(() => simulator.guest(vmid)?.node === 'pve1');
    });

    it('in 8 without a word', async () => {
      await begin({ version: '8.4', ha: ['vm:104'] });
      const asked = await root.post('/cluster/ha/resources/vm:104/migrate', { node: 'pve1' });
      expect(asked.json).toEqual({ data: null });
      await until(() => simulator.guest(104)?.node === 'pve1');
    });
  });

  it('keeps a guest to the nodes of a strict rule', async () => {
    await begin({ ha: ['vm:104'] });
    const unmanaged = { rule: 'r1', type: 'node-affinity', resources: 'vm:100', nodes: 'pve2' };
    expect((await root.post('/cluster/ha/rules', unmanaged)).reason).toBe(
      'create ha rule failed: cannot use unmanaged resource(s) vm:100.',
    );
    const rule = { rule: 'r1', type: 'node-affinity', resources: 'vm:104', nodes: 'pve2:5,pve3', strict: 1 };
    expect((await root.post('/cluster/ha/rules', rule)).status).toBe(200);
    expect((await root.get('/cluster/ha/rules/r1')).json.data).toMatchObject({
      nodes: 'pve2:5,pve3',
      strict: '1',
    });
    await simulator.conditions.powerOff('pve3');
    await until(() => simulator.guest(104)?.node !== 'pve3');
    expect(simulator.guest(104)?.node).toBe('pve2');
  });

  it('has rules and no groups in 9, groups and no rules in 8', async () => {
    await begin({ ha: ['vm:104'] });
    expect((await root.get('/cluster/ha/groups')).reason).toBe(
      'cannot index groups: ha groups have been migrated to rules',
    );
    expect((await root.put('/cluster/ha/resources/vm:104', { group: 'g1' })).reason).toBe(
      "invalid parameter 'group': ha groups have been migrated to rules",
    );
    await simulator.stop();
    context.close();
    client.close();
    root.close();
    await begin({ version: '8.4', ha: ['vm:104'] });
    expect((await root.get('/cluster/ha/rules')).status).toBe(501);
    expect((await root.post('/cluster/ha/groups', { group: 'g1', nodes: 'pve1,pve2:2' })).status).toBe(200);
    expect((await root.put('/cluster/ha/resources/vm:104', { group: 'g1' })).status).toBe(200);
    expect((await root.delete('/cluster/ha/groups/g1')).reason).toBe(
      "delete ha group failed: ha group is used by service 'vm:104'",
    );
  });
});
