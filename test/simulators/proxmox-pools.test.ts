import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createContext } from '../../src/simulators/create-context.js';
import {
  startProxmoxSimulator,
  type ProxmoxSimulator,
} from '../../src/simulators/proxmox/proxmox-simulator.js';
import { WireClient } from './proxmox-client.js';

describe('pools', () => {
  let context: ReturnType<typeof createContext>;
  let simulator: ProxmoxSimulator;
  let client: WireClient;
  let root: WireClient;

  beforeEach(async () => {
    context = createContext({ timeScale: 0.002 });
    simulator = await startProxmoxSimulator(context);
    client = new WireClient(simulator);
    root = new WireClient(simulator, simulator.rootToken);
  });
  afterEach(async () => {
    client.close();
    root.close();
    await simulator.stop();
    context.close();
  });

  it('are made and removed, nested ones below their parent, empty ones only', async () => {
    expect((await root.post('/pools', { poolid: 'a/b' })).reason).toBe(
      "create pool failed: parent 'a' of pool 'a/b' does not exist",
    );
    expect((await root.post('/pools', { poolid: 'a', comment: 'first' })).status).toBe(200);
    expect((await root.post('/pools', { poolid: 'a' })).reason).toBe(
      "create pool failed: pool 'a' already exists",
    );
    expect((await root.post('/pools', { poolid: 'a/b' })).status).toBe(200);
    expect((await root.get('/pools')).json.data).toEqual([
      { poolid: 'a', comment: 'first' },
      { poolid: 'a/b' },
      { poolid: 'hatchery-demo' },
      { poolid: 'prod' },
    ]);
    expect((await root.delete('/pools/a')).reason).toMatch(/^delete pool failed: pool 'a' is not empty/);
    expect((await root.delete('/pools?poolid=a/b')).status).toBe(200);
    expect((await root.delete('/pools/a')).status).toBe(200);
    expect((await root.delete('/pools/prod')).reason).toBe(
      "delete pool failed: pool 'prod' is not empty (contains VM 100)",
    );
    expect((await root.delete('/pools/a')).reason).toBe("delete pool failed: pool 'a' does not exist");
  });

  it('show members as the resource list does, and by type', async () => {
    await root.put('/pools/prod', { storage: 'ceph' });
    const [pool] = (await root.get('/pools?poolid=prod')).json.data as {
      members: Record<string, unknown>[];
    }[];
    expect(pool!.members.map(({ id }) => id)).toEqual(['qemu/100', 'lxc/101', 'storage/pve1/ceph']);
    expect(pool!.members[0]).toMatchObject({ name: 'gitlab', pool: 'prod', node: 'pve1' });
    expect((await root.get('/pools/prod?type=lxc')).json.data).toMatchObject({ members: [{ vmid: 101 }] });
    expect((await root.get('/pools?type=lxc')).status).toBe(400);
  });

  it('are changed whole or not at all', async () => {
    const refused = await root.put('/pools', { poolid: 'hatchery-demo', vms: '104,100' });
    expect(refused.reason).toBe(
      "update pools failed: VM 100 belongs already to pool 'prod' and 'allow-move' is not set",
    );
    expect(context.world.pools.get('hatchery-demo')!.members.size).toBe(0);
    const moved = await root.put('/pools', { poolid: 'hatchery-demo', vms: '104,100', 'allow-move': 1 });
    expect(moved.status).toBe(200);
    expect([...context.world.pools.get('prod')!.members]).toEqual([101]);
    expect((await root.put('/pools/hatchery-demo', { vms: 104 })).reason).toBe(
      'update pools failed: VM 104 is already a pool member',
    );
    expect((await root.put('/pools/hatchery-demo', { vms: '101', delete: 1 })).reason).toBe(
      'update pools failed: VM 101 is not a pool member',
    );
    expect((await root.put('/pools/prod', { storage: 'ceph', delete: 1 })).reason).toBe(
      "update pools failed: Storage 'ceph' is not a pool member",
    );
    expect((await root.put('/pools/none', { comment: 'x' })).reason).toBe(
      "update pools failed: pool 'none' does not exist",
    );
    const line = context.journal.read().findLast(({ op, effect }) => op === 'pools.put' && effect);
    expect(line?.params).toMatchObject({ pool: 'hatchery-demo', added: [104, 100], removed: [] });
  });

  it('take only what the caller may give away', async () => {
    expect(await client.put('/pools', { poolid: 'prod', vms: 104 })).toMatchObject({
      status: 403,
      reason: 'Permission check failed (/pool/prod, Pool.Allocate)',
    });
    expect(await client.put('/pools', { poolid: 'hatchery-demo', vms: 104 })).toMatchObject({
      status: 500,
      reason: 'update pools failed: 403 Permission check failed (/vms/104, Permissions.Modify|VM.Allocate)',
    });
    expect((await root.put('/pools', { poolid: 'hatchery-demo', vms: '99' })).json.errors).toEqual({
      vms: 'invalid format - value does not look like a valid VM ID\n',
    });
  });
});
