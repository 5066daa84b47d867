import type { GuestKind } from './guest-kind.js';
import type { LockUser } from './locks.js';
import type { Handled, PveCall } from './pve.js';
import type { Task, TaskResult } from './task-engine.js';
import { parameterErrors } from './wire.js';

/** The flock of one guest's config on its node. */
export function lockFile(vmid: number, kind: GuestKind = 'qemu'): string {
  return kind === 'qemu'
    ? `/var/lock/qemu-server/lock-${vmid}.conf`
    : `/run/lock/lxc/pve-config-${vmid}.lock`;
}

/** How long everything but create (5 s) and clone (1 s, containers 5 s) waits for that flock. */
export const FLOCK_MS = 10_000;

/** Who asks for locks on behalf of a task. */
export function lockUser(task: Task): LockUser {
  return {
    actor: task.actor,
    node: task.node,
    vmid: task.vmid,
    upid: task.upid,
    signal: task.signal,
    log: (line) => task.log(line),
  };
}

/** Forks a task about the guest of the path and answers with its UPID. */
export function forkTask(
  { pve, node, vmid, account, op, faults }: PveCall,
  type: string,
  work: (task: Task, user: LockUser) => Promise<TaskResult>,
): Handled & { readonly task: Task } {
  const setup = { node, type, id: String(vmid), actor: account.id, op, vmid, faults };
  const task = pve.tasks.start(setup, (running) => work(running, lockUser(running)));
  return { task, data: task.upid, journal: { upid: task.upid } };
}

/** The same, with the guest's flock held from the first to the last moment. */
export function forkLocked(
  call: PveCall,
  type: string,
  work: (task: Task, user: LockUser) => Promise<TaskResult>,
  kind: GuestKind = 'qemu',
): Handled {
  return forkTask(call, type, (task, user) =>
    call.pve.files.with(user, lockFile(call.vmid, kind), 'exclusive', FLOCK_MS, () => work(task, user)),
  );
}

/** Parameters that only a ticket of root@pam may set. */
export function checkRootParams({ params, account }: PveCall, ...keys: string[]): void {
  if (account.isRoot) return;
  for (const key of keys)
    if ((params.text(key) ?? '0') !== '0') throw parameterErrors({ [key]: 'Only root may use this option.' });
}
