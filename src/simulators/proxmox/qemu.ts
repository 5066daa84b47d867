import type { WorldGuest } from '../world.js';
import { need } from './auth.js';
import { agentEnabled, disksOf, sizeGiB } from './guest-config.js';
import { OPTIONAL_FLAG } from './params.js';
import { guestOn, type Pve, type Route } from './pve.js';

const MIB = 1_048_576;
const GIB = 1_073_741_824;

export const qemuRoutes: readonly Route[] = [
  {
    method: 'GET',
    path: '/nodes/{node}/qemu',
    op: 'qemu.list',
    kind: 'protected-read',
    params: { full: OPTIONAL_FLAG },
    handle: ({ pve, node, account }) => ({
      data: listGuests(pve, node, 'qemu', (vmid) => account.at(`/vms/${vmid}`).has('VM.Audit')),
    }),
  },
  {
    method: 'GET',
    path: '/nodes/{node}/qemu/{vmid}/status/current',
    op: 'qemu.status',
    kind: 'protected-read',
    params: {},
    permit: (account, path) => need(account, `/vms/${path['vmid']}`, 'VM.Audit'),
    handle({ pve, node, vmid }) {
      const guest = guestOn(pve, node, vmid);
      const running = guest.status === 'running' ? { pid: 100_000 + vmid } : {};
      const agent = agentEnabled(guest) ? { agent: 1 } : {};
      return {
        data: { ...rowOf(pve, guest), qmpstatus: guest.status, ha: { managed: 0 }, ...agent, ...running },
      };
    },
  },
  {
    method: 'GET',
    path: '/nodes/{node}/lxc',
    op: 'lxc.list',
    kind: 'protected-read',
    params: {},
    handle: ({ pve, node, account }) => ({
      data: listGuests(pve, node, 'lxc', (vmid) => account.at(`/vms/${vmid}`).has('VM.Audit')),
    }),
  },
  {
    method: 'GET',
    path: '/nodes/{node}/lxc/{vmid}/config',
    op: 'lxc.config.get',
    kind: 'read',
    params: {},
    permit: (account, path) => need(account, `/vms/${path['vmid']}`, 'VM.Audit'),
    handle: ({ pve, node, vmid }) => ({ data: { ...guestOn(pve, node, vmid, 'lxc').config } }),
  },
];

/** Live, by process: not from the broadcast. */
function listGuests(
  pve: Pve,
  node: string,
  kind: 'qemu' | 'lxc',
  maySee: (vmid: number) => boolean,
): unknown[] {
  return [...pve.world.guests.values()]
    .filter((guest) => guest.node === node && guest.kind === kind && maySee(guest.vmid))
    .map((guest) => rowOf(pve, guest));
}

function rowOf(pve: Pve, guest: WorldGuest): Record<string, unknown> {
  const { config, vmid, status } = guest;
  return {
    vmid,
    status,
    ...sizesOf(guest),
    uptime: status === 'running' ? Math.floor((pve.context.clock.elapsedMs() - guest.startedAtMs) / 1000) : 0,
    ...(config['name'] === undefined ? {} : { name: config['name'] }),
    ...(config['hostname'] === undefined ? {} : { name: config['hostname'], type: 'lxc' }),
    ...(config['lock'] === undefined ? {} : { lock: config['lock'] }),
    ...(config['tags'] === undefined ? {} : { tags: config['tags'] }),
    ...(config['template'] === '1' ? { template: 1 } : {}),
  };
}

/** Processors, memory and main disk in the units of the lists (bytes). */
export function sizesOf({ config, status }: WorldGuest): Record<string, number> {
  const memory = Number(config['memory'] ?? 512) * MIB;
  const main = disksOf(config).find((disk) => !disk.isCloudInit);
  const cpus = Number(config['cores'] ?? 1) * Number(config['sockets'] ?? 1);
  const isRunning = status === 'running';
  return {
    cpus,
    cpu: isRunning ? 0.02 : 0,
    mem: isRunning ? Math.floor(memory * 0.4) : 0,
    maxmem: memory,
    disk: 0,
    maxdisk: Math.round(sizeGiB(main?.options['size'] ?? '0') * GIB),
    netin: 0,
    netout: 0,
    diskread: 0,
    diskwrite: 0,
  };
}
