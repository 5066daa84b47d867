import type { WorldGuest } from '../world.js';
import { needAny } from './auth.js';
import { agentEnabled } from './guest-config.js';
import { guestOn, type PveCall, type Route } from './pve.js';
import { failure } from './wire.js';

/** A ping of a sleeping agent keeps the worker this long. */
const PING_MS = 3_000;

/** The older version knows one privilege for all of it. */
export const permitAgent =
  (...privileges: string[]): Route['permit'] =>
  (account, path, _, world) =>
    needAny(account, `/vms/${path['vmid']}`, ...(world.version === '8.4' ? ['VM.Monitor'] : privileges));

/** A guest whose agent answers. The ping before a command takes 3 s when nobody does. */
export async function awake({ pve, node, vmid }: PveCall): Promise<WorldGuest> {
  const guest = guestOn(pve, node, vmid);
  if (!agentEnabled(guest)) throw failure('No QEMU guest agent configured');
  if (guest.status !== 'running') throw failure(`VM ${vmid} is not running`);
  if (guest.isPaused || pve.context.clock.elapsedMs() < pve.conditions.agentOf(guest).upAtMs) {
    await pve.context.clock.sleep(PING_MS);
    throw failure('QEMU guest agent is not running');
  }
  return guest;
}

/** All that an agent does while its file systems are frozen: it could not even write a line to its log. */
const WHILE_FROZEN = new Set(['ping', 'info', 'fsfreeze-status', 'fsfreeze-thaw']);

/** Why the agent refuses this command now; `undefined` = it does not. */
export function refusalOf(guest: WorldGuest, command: string): string | undefined {
  if (!guest.isFrozen || WHILE_FROZEN.has(command)) return undefined;
  return `Command guest-${command} has been disabled: the agent is in frozen state`;
}

/** For a command whose errors Proxmox VE looks at: the guest, or what its agent says. */
export async function ready(call: PveCall, command: string): Promise<WorldGuest> {
  const guest = await awake(call);
  const refusal = refusalOf(guest, command);
  if (refusal !== undefined) throw agentError(refusal);
  return guest;
}

export function agentError(text: string): Error {
  return failure(`Agent error: ${text}`);
}
