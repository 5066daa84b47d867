import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { snippetFiles } from '../../src/core/cloud-init/snippets.js';
import { phoneHomeCommand, vendorData } from '../../src/core/vendor-data.js';
import { createContext } from '../../src/simulators/create-context.js';
import {
  startProxmoxSimulator,
  type ProxmoxSimulator,
} from '../../src/simulators/proxmox/proxmox-simulator.js';

const MAC = '02:00:00:aa:bb:cc';
const TOKEN = 'hatchery0f0f';
const VOLUME = 'nas:snippets/vendor.yaml';

describe('a simulated guest with vendor data', () => {
  let context: ReturnType<typeof createContext>;
  let simulator: ProxmoxSimulator;
  let server: Server;
  let bodies: string[];

  beforeEach(async () => {
    bodies = [];
    server = createServer((request, response) => {
      let body = '';
      request.on('data', (chunk: Buffer) => (body += chunk.toString()));
      request.on('end', () => {
        bodies.push(`${request.url} ${body}`);
        response.writeHead(204).end();
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    context = createContext({
      timeScale: 0.0001,
      world: {
        storages: [{ id: 'nas', type: 'nfs', shared: true, sizeGiB: 100, content: ['images', 'snippets'] }],
        templates: [],
        files: [
          { volid: VOLUME, text: vendorData(`http://127.0.0.1:${port}`) },
          ...snippetFiles(
            { user: { bootcmd: ['ls'] }, vendor: { timezone: 'UTC' } },
            { id: '1', name: 'vm', mac: MAC, login: 'ada', user: { name: 'ada', sshKeys: [] } },
            phoneHomeCommand(`http://127.0.0.1:${port}`),
          ).map(({ part, text }) => ({ volid: `nas:snippets/own-${part}.yaml`, text })),
          { volid: 'nas:snippets/nonsense.yaml', text: 'bootcmd: [ {' },
          { volid: 'nas:snippets/other.yaml', text: 'bootcmd: [ls, [rm, -rf, /]]\n' },
        ],
      },
    });
    simulator = await startProxmoxSimulator(context);
    context.world.dhcp.allow.set(MAC, { description: '' });
    simulator.foreign.create({ vmid: 500, node: 'pve1', kind: 'qemu', owner: 'alice', running: false });
    Object.assign(guest().config, {
      ide2: 'nas:500/vm-500-cloudinit.qcow2,media=cdrom',
      net0: `virtio=${MAC.toUpperCase()},bridge=vmbr0`,
      cicustom: `vendor=${VOLUME}`,
      smbios1: `uuid=0190aaaa-0000-7000-8000-000000000001,serial=${TOKEN}`,
    });
  });
  afterEach(async () => {
    await simulator.stop();
    context.close();
    await new Promise((resolve) => server.close(resolve));
  });

  const guest = () => simulator.guest(500)!;
  /** Boots it and lets an hour go by. */
  async function boot(): Promise<void> {
    simulator.foreign.setRunning(500, true);
    await context.clock.sleep(3_600_000);
    simulator.foreign.setRunning(500, false);
  }
  const call = (): string =>
    `/api/v1/phone-home ${JSON.stringify({ token: TOKEN, addresses: [{ mac: MAC, address: '10.20.0.11' }] })}`;

  it('phones home at its first boot only', async () => {
    await boot();
    await expect.poll(() => bodies).toEqual([call()]);
    await boot();
    expect(bodies).toEqual([call()]);
    expect(context.journal.read().filter(({ op }) => op === 'guest.phone-home')).toMatchObject([
      { event: 'foreign', actor: 'foreign:guest', vmid: 500, effect: false, status: 204 },
    ]);
  });

  it('reads a serial number that is encoded', async () => {
    guest().config['smbios1'] = `base64=1,serial=${Buffer.from(TOKEN).toString('base64')}`;
    await boot();
    await expect.poll(() => bodies).toEqual([call()]);
  });

  it.each([
    [
      'user data that hides those of vendor data',
      'user=nas:snippets/own-user.yaml,vendor=nas:snippets/other.yaml',
    ],
    ['vendor data of its own', 'vendor=nas:snippets/own-vendor.yaml'],
  ])(
    'phones home by the commands of %s',
    async (_, cicustom) => {
      Object.assign(guest().config, { cicustom });
      await boot();
      expect(bodies).toEqual([call()]);
    },
    20_000,
  );

  it.each([
    ['with user data that hides the command', { cicustom: `user=nas:snippets/other.yaml,vendor=${VOLUME}` }],
    ['without a token of ours', { smbios1: 'serial=Q35' }],
    ['with vendor data that is no YAML', { cicustom: 'vendor=nas:snippets/nonsense.yaml' }],
    ['with other commands', { cicustom: 'vendor=nas:snippets/other.yaml' }],
  ])('keeps silent %s', async (_, config) => {
    Object.assign(guest().config, config);
    await boot();
    expect(bodies).toEqual([]);
  });
});
