import type { Handled, PveCall } from './pve.js';

/** Starting or stopping a managed guest only asks the HA manager: the task ends at once. */
export function askHa({ pve, node, vmid, account, op, faults }: PveCall, wanted: 'start' | 'stop'): Handled {
  const setup = { node, type: `ha${wanted}`, id: String(vmid), actor: account.id, op, vmid, faults };
  const task = pve.tasks.start(setup, async (running) => {
    running.log(`Requesting HA ${wanted} for VM ${vmid}`);
    pve.ha.requestState(vmid, wanted === 'start' ? 'started' : 'stopped');
    return { effect: false };
  });
  return { data: task.upid, journal: { upid: task.upid } };
}
