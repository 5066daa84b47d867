import { need, type Account } from './auth.js';
import type { Handled, PveCall, Route } from './pve.js';
import { TASK_INDEX } from './indexes.js';
import { OPTIONAL_COUNT, OPTIONAL_FLAG, OPTIONAL_TEXT, VMID } from './params.js';
import type { Task } from './task-engine.js';
import { headOf } from './task-lists.js';
import { nodeOfUpid } from './upid.js';
import { parameterErrors } from './wire.js';

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
      statusfilter: {
        type: 'string',
        list: true,
        optional: true,
        format: (value) =>
          ['ok', 'error', 'warning', 'unknown'].includes(value.toLowerCase())
            ? undefined
            : `'${value}' is not a valid status type`,
      },
    },
    handle: listTasks,
  },
  {
    method: 'GET',
    path: '/nodes/{node}/tasks/{upid}',
    op: 'task.index',
    kind: 'read',
    params: {},
    local: true,
    handle: () => ({ data: TASK_INDEX }),
  },
  {
    method: 'GET',
    path: '/nodes/{node}/tasks/{upid}/status',
    op: 'task.status',
    kind: 'protected-read',
    params: {},
    handle: (call) => ({ data: statusOf(taskOf(call, 'Sys.Audit')) }),
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
  const states = params.list('statusfilter').map((state) => state.toLowerCase());
  const userfilter = params.text('userfilter')?.toLowerCase();
  const listed = [
    ...(source === 'archive' ? [] : pve.tasks.runningOn(node)),
    ...(source === 'active' ? [] : pve.tasks.archivedOn(node)),
  ];
  const matching = listed.filter((task) => {
    if (!seesAll && !isOwn(account, task)) return false;
    if (params.has('vmid') && task.id !== params.text('vmid')) return false;
    if (params.has('typefilter') && task.type !== params.text('typefilter')) return false;
    if (userfilter !== undefined && !task.user.toLowerCase().includes(userfilter)) return false;
    if (params.has('since') && task.startTime < params.number('since')!) return false;
    if (params.has('until') && task.startTime > params.number('until')!) return false;
    if (params.flag('errors') && (task.exitStatus ?? 'OK') === 'OK') return false;
    return states.length === 0 || states.includes(statusClass(task));
  });
  const start = params.number('start') ?? 0;
  const page = matching.slice(start, start + (params.number('limit') ?? 50));
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

function statusOf(task: Task): Record<string, unknown> {
  return task.exitStatus === undefined
    ? { ...headOf(task), status: 'running' }
    : { ...headOf(task), status: 'stopped', exitstatus: task.exitStatus };
}

/** The task of the path; whose it is not needs this privilege on the node. */
function taskOf({ pve, path, node, account }: PveCall, privilege: 'Sys.Audit' | 'Sys.Modify'): Task {
  const upid = path['upid'] ?? '';
  if (nodeOfUpid(upid) === undefined) throw parameterErrors({ upid: 'unable to parse worker upid' });
  const task = pve.tasks.find(node, upid);
  if (!task) throw parameterErrors({ upid: 'no such task' });
  if (!isOwn(account, task)) need(account, `/nodes/${node}`, privilege);
  return task;
}

/** A user owns what its tokens started, a token only what it started itself. */
function isOwn({ id }: Account, { user }: Task): boolean {
  return user === id || user.startsWith(`${id}!`);
}

function readLog(call: PveCall): Handled {
  const { lines } = taskOf(call, 'Sys.Audit');
  const start = call.params.number('start') ?? 0;
  const limit = call.params.number('limit') ?? 50;
  const shown = lines
    .slice(start, limit === 0 ? undefined : start + limit)
    .map((t, index) => ({ n: start + index + 1, t }));
  return { data: lines.length === 0 ? [{ n: 1, t: 'no content' }] : shown, total: Math.max(1, lines.length) };
}

function stopTask(call: PveCall): Handled {
  const task = taskOf(call, 'Sys.Modify');
  const isRunning = task.exitStatus === undefined;
  call.pve.tasks.interrupt(task);
  return { data: null, journal: { effect: isRunning, upid: task.upid, vmid: task.vmid } };
}
