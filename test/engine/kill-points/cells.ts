import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import type { HoldPoint } from '../../../src/simulators/hold.js';
import type { KillPoint } from '../../../src/ports/checkpoints.js';

interface Workflow {
  readonly steps: Readonly<Record<string, { readonly needs?: readonly string[] }>>;
}
const WORKFLOW_FILE = join(import.meta.dirname, '../../../workflows/student-vm.yaml');
const { steps: DEFINED } = parse(readFileSync(WORKFLOW_FILE, 'utf8')) as Workflow;

/** Nothing that this blueprint asks for: workers are lost in each of their writes in test/steps/every-step.test.ts. */
const NOT_ASKED_FOR = ['snippets', 'use-snippets'];

/** The steps of the student workflow as its file has them: one that is added there has no cells yet, and the matrix says so. */
export const STEPS: readonly string[] = Object.keys(DEFINED).filter((step) => !NOT_ASKED_FOR.includes(step));

/** Every step that has to be done before this one is due. */
export function needsOf(step: string): string[] {
  const direct = DEFINED[step]?.needs ?? [];
  return [...new Set(direct.flatMap((need) => [...needsOf(need), need]))];
}

export const POINTS: readonly KillPoint[] = ['K1', 'K2', 'K3', 'K4', 'K5', 'K6', 'K7', 'K8', 'K9', 'K10'];

/** Where the worker stands when it is lost: at a point of the engine, or with a request of its own stopped on the other side. */
interface Stand {
  readonly point?: { readonly name: KillPoint; readonly nth?: number };
  readonly hold?: { readonly op: string; readonly where: HoldPoint };
}

/** One machine of a matrix. */
export interface Cell extends Stand {
  readonly step: string;
  readonly of: KillPoint;
  /** In the undo of the step. */
  readonly isUndo: boolean;
  readonly title: string;
}

/** What each step writes outside, in its order, as the simulators name it. */
export const WRITES: Readonly<Record<string, readonly string[]>> = {
  reserve: [],
  'allow-mac': ['winrm.script.dhcp-filter-allow'],
  clone: ['qemu.clone'],
  configure: ['qemu.config.put'],
  resize: ['qemu.resize'],
  start: ['qemu.start'],
  address: [],
  desktop: [
    'guacamole.group.create',
    'guacamole.user.create',
    'guacamole.connection.create',
    'guacamole.permission.patch',
  ],
};

/** Effects of each step, newest first as they are undone, and what the undo of each writes. */
export const UNDOES: Readonly<Record<string, readonly { effect: string; writes: readonly string[] }[]>> = {
  'allow-mac': [{ effect: 'dhcp-filter', writes: ['winrm.script.dhcp-filter-remove'] }],
  clone: [{ effect: 'guest', writes: ['qemu.config.put', 'qemu.stop', 'qemu.destroy'] }],
  desktop: [
    { effect: 'desktop-permission', writes: ['guacamole.permission.patch'] },
    { effect: 'desktop-connection', writes: ['guacamole.connection.delete'] },
    { effect: 'desktop-user', writes: ['guacamole.user.delete'] },
    { effect: 'desktop-group', writes: ['guacamole.group.delete'] },
  ],
};

/** Remote tasks in their middle. Only the clone keeps its task's id: only it has the point after the id came and before it is stored. */
const TASKS: Readonly<Record<string, Stand>> = {
  clone: { point: { name: 'K5' }, hold: { op: 'qemu.clone', where: 'task' } },
  resize: { hold: { op: 'qemu.resize', where: 'task-start' } },
  start: { hold: { op: 'qemu.start', where: 'task' } },
};

/** Reads that tell only about the one machine. */
const READS: Readonly<Record<string, string>> = { address: 'qemu.agent.interfaces' };

/** Why a step has no cell of a point. */
export function absence(step: string, point: KillPoint): string | undefined {
  const hasTask = step in TASKS;
  switch (point) {
    case 'K3':
      return step === 'reserve'
        ? 'it writes nothing and reads only the inventory that all share: no request is its own'
        : undefined;
    case 'K4':
      if (step === 'clone') return undefined;
      return hasTask
        ? 'it stores no task id: the state of the guest says what its task has done, so after the answer comes K5'
        : 'it starts no remote task';
    case 'K5':
      return hasTask ? undefined : 'it starts no remote task';
    case 'K8':
      return step in UNDOES
        ? undefined
        : 'it makes nothing of its own: the guest goes with the undo of clone';
    case 'K10':
      return 'everything is allocated in the one transaction that accepts a batch, before any step: test/engine/kill-points-accept.test.ts';
    default:
      return undefined;
  }
}

const cell = (step: string, of: KillPoint, title: string, stand: Stand, isUndo = false): Cell => ({
  step,
  of,
  isUndo,
  title: `${step} at ${of}${title && `, ${title}`}`,
  ...stand,
});

const ANSWERS = {
  before: 'the request sent and not carried out',
  after: 'carried out and not answered',
} as const;

const unanswered = (step: string, of: KillPoint, op: string, isUndo = false): Cell[] =>
  (['before', 'after'] as const).map((where) =>
    cell(step, of, `${op} ${ANSWERS[where]}`, { hold: { op, where } }, isUndo),
  );

/** Forward: where a worker can be lost that makes the step. */
export function forwardCells(step: string): Cell[] {
  const writes = WRITES[step];
  if (writes === undefined) throw new Error(`what does step ${step} write? The matrix does not know it`);
  const read = READS[step];
  return [
    ...(['K1', 'K2', 'K6', 'K9', 'K7'] as const).map((name) => cell(step, name, '', { point: { name } })),
    ...(absence(step, 'K4') === undefined ? [cell(step, 'K4', '', { point: { name: 'K4' } })] : []),
    ...[...writes, ...(read === undefined ? [] : [read])].flatMap((op) => unanswered(step, 'K3', op)),
    ...(step in TASKS ? [cell(step, 'K5', 'its task at work', TASKS[step]!)] : []),
  ];
}

/** K8: the points of the undo, which has intents behind it and so begins where K2 is. */
export function undoCells(step: string): Cell[] {
  const effects = UNDOES[step] ?? [];
  return [
    ...effects.flatMap(({ effect }, index) => [
      cell(step, 'K8', `before ${effect} is undone`, { point: { name: 'K8', nth: 2 * index + 1 } }, true),
      cell(
        step,
        'K8',
        `${effect} undone and not written down`,
        { point: { name: 'K8', nth: 2 * index + 2 } },
        true,
      ),
    ]),
    ...effects.flatMap(({ writes }) => writes.flatMap((op) => unanswered(step, 'K8', op, true))),
    ...(step === 'clone'
      ? [cell(step, 'K8', 'its task at work', { hold: { op: 'qemu.destroy', where: 'task' } }, true)]
      : []),
  ];
}
