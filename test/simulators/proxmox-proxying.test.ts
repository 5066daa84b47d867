import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createContext } from '../../src/simulators/create-context.js';
import {
  startProxmoxSimulator,
  type ProxmoxSimulator,
} from '../../src/simulators/proxmox/proxmox-simulator.js';
import { WireClient } from './proxmox-client.js';

describe('a call that another node executes', () => {
  let context: ReturnType<typeof createContext>;
  let simulator: ProxmoxSimulator;
  let client: WireClient;
  let root: WireClient;

  beforeEach(async () => {
    context = createContext({ timeScale: 0.01 });
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

  /** So many that listing them takes longer than any node waits for another. */
  const fillCeph = (): void => {
    for (let n = 0; n < 40_000; n += 1) {
      const volid = `ceph:vm-${100_000 + n}-disk-0`;
      context.world.volumes.set(volid, {
        volid,
        storage: 'ceph',
        node: undefined,
        vmid: 100_000 + n,
        sizeGiB: 1,
        usedGiB: 0,
        parent: undefined,
      });
    }
  };

  it('needs its permission before it is carried there, and its parameters after', async () => {
    expect(await client.get('/nodes/nowhere/qemu/100/config')).toMatchObject({
      status: 500,
      reason:
        "hostname lookup 'nowhere' failed - failed to get address info for: nowhere: Name or service not known",
    });
    expect((await client.put('/nodes/nowhere/qemu/100/config', { colour: 'red' })).status).toBe(403);
    expect((await root.put('/nodes/nowhere/qemu/100/config', { colour: 'red' })).status).toBe(500);
  });

  it('is given up after 30 s with an empty 596', async () => {
    fillCeph();
    const reply = await root.get('/nodes/pve2/storage/ceph/content');
    expect(reply).toMatchObject({ status: 596, reason: 'Connection timed out', text: '' });
  });

  it('waits for one of three workers there, and takes effect though its caller was told 596', async () => {
    fillCeph();
    const slow = [1, 2, 3].map(() => root.get('/nodes/pve3/storage/ceph/content'));
    const reads = await client.get('/nodes/pve3/qemu/104/config');
    expect(reads.status).toBe(200);
    const write = await root.put('/nodes/pve3/qemu/104/config', { tags: 'late' });
    expect(write.status).toBe(596);
    await Promise.all(slow);
    const isWritten = (): boolean => simulator.guest(104)?.config['tags'] === 'late';
    while (!isWritten()) await client.get('/version');
    const line = context.journal.read().find(({ op }) => op === 'qemu.config.put');
    expect(line).toMatchObject({ status: 596, effect: true, vmid: 104, params: { tags: 'late' } });
  });
});
