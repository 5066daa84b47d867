import { leaseFor } from '../world.js';
import { need } from './auth.js';
import { lockFile } from './clone.js';
import { drawMs } from './durations.js';
import { agentEnabled, macOf } from './guest-config.js';
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
    handle: (call) => inTask(call, 'qmstart', (task, user) => start(call, task, user)),
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
    handle: (call) => inTask(call, 'qmstop', (_, user) => halt(call, user, 'stop')),
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
    handle: (call) => inTask(call, 'qmshutdown', (_, user) => halt(call, user, 'shutdown')),
  },
];

/** The config must be there when the call comes; everything else shows in the task, under the guest's flock. */
function inTask(
  call: PveCall,
  type: string,
  work: (task: Task, user: LockUser) => Promise<TaskResult>,
): Handled {
  const { pve, node, vmid, account, op, faults } = call;
  guestOn(pve, node, vmid);
  const task = pve.tasks.start(
    { node, type, id: String(vmid), actor: account.id, op, vmid, faults },
    (running) => {
      const user: LockUser = {
        actor: account.id,
        node,
        vmid,
        upid: running.upid,
        signal: running.signal,
        log: (line) => running.log(line),
      };
      return pve.files.with(user, lockFile(vmid), 'exclusive', 10_000, () => work(running, user));
    },
  );
  return { data: task.upid, journal: { upid: task.upid } };
}

async function start({ pve, node, vmid }: PveCall, task: Task, user: LockUser): Promise<TaskResult> {
  const { clock } = pve.context;
  const guest = guestOn(pve, node, vmid);
  checkUnlocked(guest);
  if (guest.config['template'] === '1') throw failure("you can't start a vm if it's a template");
  if (guest.status === 'running') throw failure(`VM ${vmid} already running`);
  for (const [key, value] of Object.entries(guest.pending)) {
    if (value === null) delete guest.config[key];
    else guest.config[key] = value;
  }
  guest.pending = {};
  const starting = pve.tasks
    .ofNode(node)
    .filter((one) => one.type === 'qmstart' && one.exitStatus === undefined).length;
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
  { pve, node, vmid }: PveCall,
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
