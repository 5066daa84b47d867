import type { Account } from './auth.js';
import type { Handled, PveCall, Route } from './pve.js';
import { OPTIONAL_COUNT, OPTIONAL_FLAG, OPTIONAL_TEXT, VMID } from './params.js';
import type { Task } from './task-engine.js';
import { nodeOfUpid } from './upid.js';
import { forbidden, parameterErrors } from './wire.js';

export const taskRoutes: readonly Route[] = [
  {
    method: 'GET',
    path: '/nodes/{node}/tasks',
    op: 'tasks.list',
    kind: 'read',
    params: {
      start: OPTIONAL_COUNT,
      limit: OPTIONAL_COUNT,
      userfilter: OPTIONAL_TEXT,
      typefilter: OPTIONAL_TEXT,
      vmid: { ...VMID, optional: true },
      errors: OPTIONAL_FLAG,
      source: { type: 'string', optional: true, enum: ['archive', 'active', 'all'] },
      since: { type: 'integer', optional: true },
      until: { type: 'integer', optional: true },
      statusfilter: OPTIONAL_TEXT,
    },
    handle: listTasks,
  },
  {
    method: 'GET',
    path: '/nodes/{node}/tasks/{upid}/status',
    op: 'task.status',
    kind: 'protected-read',
    params: {},
    handle: (call) => ({ data: statusOf(taskOf(call)) }),
  },
  {
    method: 'GET',
    path: '/nodes/{node}/tasks/{upid}/log',
    op: 'task.log',
    kind: 'protected-read',
    params: { start: OPTIONAL_COUNT, limit: OPTIONAL_COUNT, download: OPTIONAL_FLAG },
    handle: readLog,
  },
  {
    method: 'DELETE',
    path: '/nodes/{node}/tasks/{upid}',
    op: 'task.stop',
    kind: 'protected-read',
    params: {},
    handle: stopTask,
  },
];

function listTasks({ pve, account, node, params }: PveCall): Handled {
  const source = params.text('source') ?? 'archive';
  const seesAll = account.at(`/nodes/${node}`).has('Sys.Audit');
  const matching = pve.tasks.ofNode(node).filter((task) => {
    const isRunning = task.exitStatus === undefined;
    if (!seesAll && !isOwn(account, task)) return false;
    if (source === 'archive' && isRunning) return false;
    if (source === 'active' && !isRunning) return false;
    if (params.has('vmid') && task.id !== params.text('vmid')) return false;
    if (params.has('typefilter') && task.type !== params.text('typefilter')) return false;
    if (params.has('userfilter') && !task.user.includes(params.need('userfilter'))) return false;
    if (params.has('since') && task.startTime < params.number('since')!) return false;
    if (params.has('until') && task.startTime > params.number('until')!) return false;
    if (params.flag('errors') && (isRunning || task.exitStatus === 'OK')) return false;
    return !params.has('statusfilter') || params.need('statusfilter').split(',').includes(statusClass(task));
  });
  const start = params.number('start') ?? 0;
  const limit = params.number('limit') ?? 50;
  const page = matching.slice(start, limit === 0 ? undefined : start + limit);
  const data = page.map((task) => ({
    ...headOf(task),
    status: task.exitStatus ?? 'RUNNING',
    ...(task.endTime === undefined ? {} : { endtime: task.endTime }),
  }));
  return { data, total: matching.length };
}

function statusClass(task: Task): string {
  const { exitStatus } = task;
  if (exitStatus === 'OK') return 'ok';
  if (exitStatus?.startsWith('WARNINGS:')) return 'warning';
  return exitStatus === undefined || exitStatus === 'unexpected status' ? 'unknown' : 'error';
}

function headOf(task: Task): Record<string, unknown> {
  const mark = task.user.indexOf('!');
  const who =
    mark < 0 ? { user: task.user } : { user: task.user.slice(0, mark), tokenid: task.user.slice(mark + 1) };
  const { upid, node, pid, pstart, startTime, type, id } = task;
  return { upid, node, pid, pstart, starttime: startTime, type, id, ...who };
}

function statusOf(task: Task): Record<string, unknown> {
  return task.exitStatus === undefined
    ? { ...headOf(task), status: 'running' }
    : { ...headOf(task), status: 'stopped', exitstatus: task.exitStatus };
}

function taskOf(call: PveCall): Task {
  const upid = call.path['upid'] ?? '';
  if (nodeOfUpid(upid) === undefined) throw parameterErrors({ upid: 'unable to parse worker upid' });
  const task = call.pve.tasks.find(call.node, upid);
  if (!task) throw parameterErrors({ upid: 'no such task' });
  if (!isOwn(call.account, task) && !call.account.at(`/nodes/${call.node}`).has('Sys.Audit'))
    throw forbidden(`/nodes/${call.node}, Sys.Audit`);
  return task;
}

function isOwn(account: Account, task: Task): boolean {
  return task.user === account.id || task.user === account.user;
}

function readLog(call: PveCall): Handled {
  const { lines } = taskOf(call);
  const start = call.params.number('start') ?? 0;
  const limit = call.params.number('limit') ?? 50;
  const shown = lines
    .slice(start, limit === 0 ? undefined : start + limit)
    .map((t, index) => ({ n: start + index + 1, t }));
  return { data: lines.length === 0 ? [{ n: 1, t: 'no content' }] : shown, total: lines.length };
}

function stopTask(call: PveCall): Handled {
  const task = taskOf(call);
  if (!isOwn(call.account, task) && !call.account.at(`/nodes/${call.node}`).has('Sys.Modify'))
    throw forbidden(`/nodes/${call.node}, Sys.Modify`);
  call.pve.tasks.interrupt(task);
  return { data: null, journal: { effect: task.exitStatus === undefined, upid: task.upid, vmid: task.vmid } };
}
