import type { WorldGuest } from '../world.js';
import { disksOf, sizeGiB } from './guest-config.js';
import type { Handled, Pve, PveCall } from './pve.js';

const MIB = 1_048_576;
const GIB = 1_073_741_824;

/** Live, by process: not from the broadcast. */
export function listGuests({ pve, node, account }: PveCall, kind: 'qemu' | 'lxc'): Handled {
  return {
    data: [...pve.world.guests.values()]
      .filter((guest) => guest.node === node && guest.kind === kind)
      .filter(({ vmid }) => account.at(`/vms/${vmid}`).has('VM.Audit'))
      .map((guest) => rowOf(pve, guest)),
  };
}

export function rowOf(pve: Pve, guest: WorldGuest): Record<string, unknown> {
  const { config, vmid, status } = guest;
  const name = nameOf(guest);
  return {
    vmid,
    status,
    ...sizesOf(guest),
    uptime: status === 'running' ? Math.floor((pve.context.clock.elapsedMs() - guest.startedAtMs) / 1000) : 0,
    ...(name === undefined ? {} : { name }),
    ...(guest.kind === 'lxc' ? { type: 'lxc' } : {}),
    ...(config['lock'] === undefined ? {} : { lock: config['lock'] }),
    ...(config['tags'] === undefined ? {} : { tags: config['tags'] }),
    ...(config['template'] === '1' ? { template: 1 } : {}),
    ...(status === 'running' ? { pid: pidOf(guest) } : {}),
  };
}

/** A container is never without one. */
export function nameOf({ kind, vmid, config }: WorldGuest): string | undefined {
  return kind === 'lxc' ? (config['hostname'] ?? `CT${vmid}`) : config['name'];
}

function pidOf({ vmid }: WorldGuest): number {
  return 100_000 + vmid;
}

/** What status/current adds about HA. */
export function haOf(pve: Pve, vmid: number): Record<string, unknown> {
  const state = pve.ha.stateOf(vmid);
  return state === undefined ? { managed: 0 } : { managed: 1, state };
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
