import { leaseFor } from '../world.js';
import { need } from './auth.js';
import { lockFile } from './clone.js';
import { drawMs } from './durations.js';
import { agentEnabled, disksOf, macOf } from './guest-config.js';
import { askHa } from './ha-request.js';
import type { LockUser } from './locks.js';
import { OPTIONAL_COUNT, OPTIONAL_FLAG, OPTIONAL_TEXT } from './params.js';
import { checkUnlocked, guestOn, type Handled, type PveCall, type Route } from './pve.js';
import type { Task, TaskResult } from './task-engine.js';
import { failure } from './wire.js';

const permit: Route['permit'] = (account, path) => need(account, `/vms/${path['vmid']}`, 'VM.PowerMgmt');

export const powerRoutes: readonly Route[] = [
  {
    method: 'POST',
    path: '/nodes/{node}/qemu/{vmid}/status/start',
    op: 'qemu.start',
    kind: 'fork',
    params: { timeout: OPTIONAL_COUNT, skiplock: OPTIONAL_FLAG, machine: OPTIONAL_TEXT },
    permit,
    handle: (call) => power(call, 'start'),
  },
  {
    method: 'POST',
    path: '/nodes/{node}/qemu/{vmid}/status/stop',
    op: 'qemu.stop',
    kind: 'fork',
    params: {
      timeout: OPTIONAL_COUNT,
      skiplock: OPTIONAL_FLAG,
      keepActive: OPTIONAL_FLAG,
      'overrule-shutdown': OPTIONAL_FLAG,
    },
    permit,
    handle: (call) => power(call, 'stop'),
  },
  {
    method: 'POST',
    path: '/nodes/{node}/qemu/{vmid}/status/shutdown',
    op: 'qemu.shutdown',
    kind: 'fork',
    params: {
      timeout: OPTIONAL_COUNT,
      forceStop: OPTIONAL_FLAG,
      skiplock: OPTIONAL_FLAG,
      keepActive: OPTIONAL_FLAG,
    },
    permit,
    handle: (call) => power(call, 'shutdown'),
  },
];

/** Who wants it: a call, or the HA manager as root. */
export type PowerUser = Pick<PveCall, 'pve' | 'node' | 'vmid' | 'op' | 'faults'> & {
  readonly account: Pick<PveCall['account'], 'id'>;
};

/** The config must be there when the call comes; everything else shows in the task. */
function power(call: PveCall, how: 'start' | 'stop' | 'shutdown'): Handled {
  guestOn(call.pve, call.node, call.vmid);
  if (call.pve.ha.isManaged(call.vmid)) return askHa(call, how === 'start' ? 'start' : 'stop');
  const task = powerTask(call, how);
  return { data: task.upid, journal: { upid: task.upid } };
}

/** The real task, under the guest's flock. */
export function powerTask(by: PowerUser, how: 'start' | 'stop' | 'shutdown'): Task {
  const { pve, node, vmid, account, op, faults } = by;
  const setup = { node, type: `qm${how}`, id: String(vmid), actor: account.id, op, vmid, faults };
  return pve.tasks.start(setup, (running) => {
    const user: LockUser = {
      actor: account.id,
      node,
      vmid,
      upid: running.upid,
      signal: running.signal,
      log: (line) => running.log(line),
    };
    return pve.files.with(user, lockFile(vmid), 'exclusive', 10_000, () =>
      how === 'start' ? start(by, running, user) : halt(by, user, how),
    );
  });
}

async function start({ pve, node, vmid }: PowerUser, task: Task, user: LockUser): Promise<TaskResult> {
  const { clock } = pve.context;
  const guest = guestOn(pve, node, vmid);
  checkUnlocked(guest);
  if (guest.config['template'] === '1') throw failure("you can't start a vm if it's a template");
  if (guest.status === 'running') throw failure(`VM ${vmid} already running`);
  if (Object.keys(guest.pending).length > 0) pve.conditions.needQuorum();
  for (const [key, value] of Object.entries(guest.pending)) {
    if (value === null) delete guest.config[key];
    else guest.config[key] = value;
  }
  guest.pending = {};
  for (const { volid } of disksOf(guest.config)) pve.conditions.needVolume(vmid, volid);
  const starting = pve.tasks.runningOn(node).filter((one) => one.type === 'qmstart').length;
  const load = Math.max(1, starting / 8);
  if (Object.values(guest.config).some((value) => /cloudinit/.test(value))) {
    task.log('generating cloud-init ISO');
    await clock.sleep(drawMs(pve.context, 'cloud-init-iso', vmid), user.signal);
  }
  await task.pass('task');
  await clock.sleep(drawMs(pve.context, 'start', vmid) * load, user.signal);
  const mac = macOf(guest);
  guest.status = 'running';
  guest.startedAtMs = clock.elapsedMs();
  guest.agentUpAtMs = guest.startedAtMs + drawMs(pve.context, 'agent-up', vmid);
  guest.address = mac === undefined ? undefined : leaseFor(pve.world, mac);
  return {
    effect: true,
    incarnation: guest.incarnation,
    params: {
      mac,
      address: agentEnabled(guest) ? guest.address : undefined,
      allowed: mac !== undefined && pve.world.dhcp.allow.has(mac),
    },
  };
}

async function halt(
  { pve, node, vmid }: PowerUser,
  user: LockUser,
  how: 'stop' | 'shutdown',
): Promise<TaskResult> {
  const guest = guestOn(pve, node, vmid);
  checkUnlocked(guest);
  const result = { incarnation: guest.incarnation };
  if (guest.status === 'stopped') return { ...result, effect: false };
  await pve.context.clock.sleep(drawMs(pve.context, how, vmid), user.signal);
  guest.status = 'stopped';
  guest.address = undefined;
  return { ...result, effect: true };
}
