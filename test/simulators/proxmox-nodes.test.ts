import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createContext } from '../../src/simulators/create-context.js';
import {
  startProxmoxSimulator,
  type ProxmoxSimulator,
} from '../../src/simulators/proxmox/proxmox-simulator.js';
import { WireClient } from './proxmox-client.js';

type Row = Record<string, unknown>;

describe('the node calls', () => {
  let context: ReturnType<typeof createContext>;
  let simulator: ProxmoxSimulator;
  let client: WireClient;
  let root: WireClient;

  beforeAll(async () => {
    context = createContext({ timeScale: 0.002 });
    simulator = await startProxmoxSimulator(context);
    client = new WireClient(simulator);
    root = new WireClient(simulator, simulator.rootToken);
  });
  afterAll(async () => {
    client.close();
    root.close();
    await simulator.stop();
    context.close();
  });

  it('list every node with the fingerprint of its certificate', async () => {
    const nodes = (await client.get('/nodes')).json.data as Row[];
    expect(nodes.map(({ node, ssl_fingerprint }) => [node, ssl_fingerprint])).toEqual(
      Object.entries(simulator.fingerprints),
    );
    expect(nodes[0]).toMatchObject({ status: 'online', type: 'node', id: 'node/pve1' });
  });

  it('show the certificates of the node that is asked about', async () => {
    const [ca, own] = (await client.get('/nodes/pve2/certificates/info')).json.data as Row[];
    expect(ca).toMatchObject({ filename: 'pve-root-ca.pem', pem: simulator.caPem });
    expect(own).toMatchObject({
      filename: 'pve-ssl.pem',
      fingerprint: simulator.fingerprints['pve2'],
      subject: '/O=Proxmox Virtual Environment/CN=pve2',
      san: ['localhost', 'pve2', '127.0.0.1', '0:0:0:0:0:0:0:1'],
    });
  });

  it('tell version, time and status of a node, the last two to auditors', async () => {
    expect((await client.get('/nodes/pve2/version')).json.data).toMatchObject({ release: '9.1' });
    const time = (await client.get('/nodes/pve2/time')).json.data as { time: number; localtime: number };
    expect(Math.abs(time.time - Date.now() / 1000)).toBeLessThan(60);
    expect((await root.get('/nodes/pve3/status')).json.data).toMatchObject({
      pveversion: 'pve-manager/9.1.11/51c1ae1f0c1a3ae9',
      loadavg: [expect.any(String), expect.any(String), expect.any(String)],
      cpuinfo: { cpus: 128 },
    });
  });

  it('name what lies below a node without asking it', async () => {
    const names = (await client.get('/nodes/nowhere')).json.data as Row[];
    expect(names.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['qemu', 'tasks', 'storage', 'time']),
    );
  });

  it('list the interfaces of a node', async () => {
    const all = (await client.get('/nodes/pve2/network')).json.data as Row[];
    expect(all.map(({ iface, type }) => [iface, type])).toEqual([
      ['eno1', 'eth'],
      ['vmbr0', 'bridge'],
    ]);
    expect((await client.get('/nodes/pve2/network?type=any_bridge')).json.data).toMatchObject([
      { iface: 'vmbr0', address: '10.10.0.12' },
    ]);
    expect((await client.get('/nodes/pve2/network?type=wifi')).status).toBe(400);
  });
});
