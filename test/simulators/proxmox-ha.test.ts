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
