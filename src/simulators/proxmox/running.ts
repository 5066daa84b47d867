import { leaseFor, type WorldGuest } from '../world.js';
import { drawBootMs, drawMs } from './durations.js';
import { hasCloudInitDrive } from './cloud-init.js';
import { agentEnabled, macOf } from './guest-config.js';
import { runStartHooks } from './lxc-start.js';
import { phoneHome } from './phone-home.js';
import type { Pve } from './pve.js';

/** The guest boots now, whoever started it; gives what the journal says about it: its MAC, the address it will report, and whether DHCP knew it. */
export function bringUp(pve: Pve, guest: WorldGuest): Record<string, unknown> {
  const { context, world } = pve;
  const mac = macOf(guest);
  guest.status = 'running';
  guest.isPaused = false;
  guest.isFrozen = false;
  guest.startedAtMs = context.clock.elapsedMs();
  const isContainer = guest.kind === 'lxc';
  guest.agentUpAtMs =
    guest.startedAtMs +
    (isContainer ? drawMs(context, 'container-network', guest.vmid) : drawBootMs(context, guest.vmid));
  guest.address = mac === undefined ? undefined : leaseFor(world, mac);
  if (hasCloudInitDrive(guest)) phoneHome(pve, guest);
  runStartHooks(pve, guest);
  return {
    mac,
    address: isContainer || agentEnabled(guest) ? guest.address : undefined,
    allowed: mac !== undefined && world.dhcp.allow.has(mac),
  };
}

export function takeDown(guest: WorldGuest): void {
  guest.status = 'stopped';
  guest.isPaused = false;
  guest.address = undefined;
}
