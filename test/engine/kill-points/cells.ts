import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import type { HoldPoint } from '../../../src/simulators/hold.js';
import type { KillPoint } from '../../../src/ports/checkpoints.js';

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

/** What the steps of a workflow do outside, as the simulators name it. */
export interface Deeds {
  readonly workflow: string;
  readonly blueprint: string;
  /** What each step writes, in its order. */
  readonly writes: Readonly<Record<string, readonly string[]>>;
  /** Effects of each step, newest first as they are undone, and what the undo of each writes. */
  readonly undoes: Readonly<
    Record<string, readonly { readonly effect: string; readonly writes: readonly string[] }[]>
  >;
  /** Remote tasks in their middle; `K5` = the step keeps the task's id, so that it has the point after the id came and before it is stored, too. */
  readonly tasks: Readonly<Record<string, Stand>>;
  /** The task of the undo that destroys the guest. */
  readonly destroy: { readonly step: string; readonly op: string };
  /** Reads that tell only about the one machine. */
  readonly reads: Readonly<Record<string, string>>;
  /** Steps, and steps whose undo, another matrix loses its workers at: they do the very same in both workflows. */
  readonly elsewhere?: readonly string[];
  readonly undoneElsewhere?: readonly string[];
  /** Steps that do nothing, because the blueprint asks for nothing of theirs: workers are lost in each of their writes in test/steps/every-step.test.ts. */
  readonly notAskedFor?: readonly string[];
}

const ALLOW = ['winrm.script.dhcp-filter-allow'];
const DESKTOP = [
  'guacamole.group.create',
  'guacamole.user.create',
  'guacamole.connection.create',
  'guacamole.permission.patch',
];
const UNDO_ALLOW = [{ effect: 'dhcp-filter', writes: ['winrm.script.dhcp-filter-remove'] }];
const UNDO_DESKTOP = [
  { effect: 'desktop-permission', writes: ['guacamole.permission.patch'] },
  { effect: 'desktop-connection', writes: ['guacamole.connection.delete'] },
  { effect: 'desktop-user', writes: ['guacamole.user.delete'] },
  { effect: 'desktop-group', writes: ['guacamole.group.delete'] },
];
const UNDO_CONTAINER = [{ effect: 'container', writes: ['lxc.config.put', 'lxc.stop', 'lxc.destroy'] }];

export const VM: Deeds = {
  workflow: 'student-vm',
  blueprint: 'student-desktop',
  writes: {
    reserve: [],
    'allow-mac': ALLOW,
    clone: ['qemu.clone'],
    configure: ['qemu.config.put'],
    resize: ['qemu.resize'],
    start: ['qemu.start'],
    address: [],
    desktop: DESKTOP,
  },
  undoes: {
    'allow-mac': UNDO_ALLOW,
    clone: [{ effect: 'guest', writes: ['qemu.config.put', 'qemu.stop', 'qemu.destroy'] }],
    desktop: UNDO_DESKTOP,
  },
  tasks: {
    clone: { point: { name: 'K5' }, hold: { op: 'qemu.clone', where: 'task' } },
    resize: { hold: { op: 'qemu.resize', where: 'task-start' } },
    start: { hold: { op: 'qemu.start', where: 'task' } },
  },
  destroy: { step: 'clone', op: 'qemu.destroy' },
  reads: { address: 'qemu.agent.interfaces' },
  notAskedFor: ['snippets', 'use-snippets'],
};

export const DESKTOP_CONTAINER: Deeds = {
  workflow: 'student-lxc-desktop',
  blueprint: 'debian-desktop-lxc',
  writes: {
    reserve: [],
    'allow-mac': ALLOW,
    clone: ['lxc.clone'],
    configure: ['lxc.config.put'],
    resize: ['lxc.resize'],
    // Script, arguments and report of the first boot.
    config: ['ssh.file.put', 'ssh.file.put', 'ssh.file.put', 'ssh.config.raw-lines'],
    start: ['lxc.start'],
    address: [],
    desktop: DESKTOP,
    'first-boot': [],
    'end-boot': ['ssh.config.raw-lines', 'ssh.file.remove', 'ssh.file.remove', 'ssh.file.remove'],
  },
  undoes: {
    'allow-mac': UNDO_ALLOW,
    clone: UNDO_CONTAINER,
    // The files went when the first boot was over.
    config: [
      { effect: 'container-config', writes: ['ssh.config.raw-lines'] },
      { effect: 'hook-files', writes: [] },
    ],
    desktop: UNDO_DESKTOP,
  },
  tasks: {
    clone: { point: { name: 'K5' }, hold: { op: 'lxc.clone', where: 'task' } },
    resize: { hold: { op: 'lxc.resize', where: 'task-start' } },
    start: { hold: { op: 'lxc.start', where: 'task' } },
  },
  destroy: { step: 'clone', op: 'lxc.destroy' },
  reads: { address: 'lxc.interfaces', 'first-boot': 'ssh.reports.read' },
  elsewhere: ['reserve', 'allow-mac', 'desktop'],
};

export const DEBIAN_CONTAINER: Deeds = {
  workflow: 'student-lxc-debian',
  blueprint: 'debian-12-lxc',
  writes: {
    reserve: [],
    'allow-mac': ALLOW,
    create: ['lxc.create'],
    config: ['ssh.config.raw-lines'],
    start: ['lxc.start'],
    address: [],
    desktop: DESKTOP,
    'first-boot': [],
    'end-boot': [],
  },
  undoes: {
    'allow-mac': UNDO_ALLOW,
    create: UNDO_CONTAINER,
    config: [{ effect: 'container-config', writes: ['ssh.config.raw-lines'] }],
    desktop: UNDO_DESKTOP,
  },
  tasks: { create: { point: { name: 'K5' }, hold: { op: 'lxc.create', where: 'task' } } },
  destroy: { step: 'create', op: 'lxc.destroy' },
  reads: {},
  elsewhere: ['reserve', 'allow-mac', 'config', 'start', 'address', 'desktop', 'first-boot', 'end-boot'],
  undoneElsewhere: ['create'],
};

interface Workflow {
  readonly steps: Readonly<Record<string, { readonly needs?: readonly string[] }>>;
}

const ANSWERS = {
  before: 'the request sent and not carried out',
  after: 'carried out and not answered',
} as const;

/** Every point of every step of one workflow. */
export class Matrix {
  /** As the workflow's file has them: one that is added there has no cells yet, and the matrix says so. */
  readonly steps: readonly string[];
  readonly forward: readonly Cell[];
  readonly back: readonly Cell[];
  readonly #defined: Workflow['steps'];

  constructor(readonly deeds: Deeds) {
    const file = join(import.meta.dirname, '../../../workflows', `${deeds.workflow}.yaml`);
    this.#defined = (parse(readFileSync(file, 'utf8')) as Workflow).steps;
    this.steps = Object.keys(this.#defined).filter((step) => deeds.notAskedFor?.includes(step) !== true);
    this.forward = this.#cells((step) => this.#forwardCells(step));
    this.back = this.#cells((step) => this.#undoCells(step));
  }

  get name(): string {
    return this.deeds.workflow;
  }

  /** Every step that has to be done before this one is due. */
  needsOf(step: string): string[] {
    const direct = this.#defined[step]?.needs ?? [];
    return [...new Set(direct.flatMap((need) => [...this.needsOf(need), need]))];
  }

  /** Why a step has no cell of a point. */
  absence(step: string, point: KillPoint): string | undefined {
    const { tasks, undoes, elsewhere = [], undoneElsewhere = [] } = this.deeds;
    const task = tasks[step];
    if (point !== 'K10' && elsewhere.includes(step)) return 'the very same step is in another matrix';
    switch (point) {
      case 'K3':
        return step === 'reserve'
          ? 'it writes nothing and reads only the inventory that all share: no request is its own'
          : undefined;
      case 'K4':
        if (task?.point) return undefined;
        return task
          ? 'it stores no task id: the state of the guest says what its task has done, so after the answer comes K5'
          : 'it starts no remote task';
      case 'K5':
        return task ? undefined : 'it starts no remote task';
      case 'K8':
        if (undoneElsewhere.includes(step)) return 'the undo of the same effect is in another matrix';
        return step in undoes
          ? undefined
          : 'it makes nothing of its own: the guest goes with the undo of the step that made it';
      case 'K10':
        return 'everything is allocated in the one transaction that accepts a batch, before any step: test/engine/kill-points-accept.test.ts';
      default:
        return undefined;
    }
  }

  /** It needs a copy of the template from which nobody else clones. */
  isContainerClone({ step, isUndo }: Cell): boolean {
    return !isUndo && this.deeds.writes[step]?.includes('lxc.clone') === true;
  }

  /** Where each write stands in the life of a machine. */
  orderOf(op: string): number {
    const { writes, undoes, reads } = this.deeds;
    const made = this.steps.flatMap((step) => [...writes[step]!, ...[reads[step] ?? []].flat()]);
    const undone = Object.values(undoes).flatMap((effects) => effects.flatMap((effect) => effect.writes));
    return [...made, ...undone].indexOf(op);
  }

  #cells(ofStep: (step: string) => readonly Cell[]): readonly Cell[] {
    return this.steps.flatMap((step) =>
      ofStep(step).filter(({ of }) => this.absence(step, of) === undefined),
    );
  }

  /** Where a worker can be lost that makes the step. */
  #forwardCells(step: string): Cell[] {
    const { writes, reads, tasks } = this.deeds;
    const own = writes[step];
    if (own === undefined) throw new Error(`what does step ${step} write? The matrix does not know it`);
    const requests = [...new Set([...own, ...(reads[step] === undefined ? [] : [reads[step]])])];
    return [
      ...(['K1', 'K2', 'K6', 'K9', 'K7', 'K4'] as const).map((name) =>
        cell(step, name, '', { point: { name } }),
      ),
      ...requests.flatMap((op) => unanswered(step, 'K3', op)),
      ...(tasks[step] ? [cell(step, 'K5', 'its task at work', tasks[step])] : []),
    ];
  }

  /** K8: the points of the undo, which has intents behind it and so begins where K2 is. */
  #undoCells(step: string): Cell[] {
    const { undoes, destroy } = this.deeds;
    const effects = undoes[step] ?? [];
    const at = (title: string, nth: number): Cell =>
      cell(step, 'K8', title, { point: { name: 'K8', nth } }, true);
    return [
      ...effects.flatMap(({ effect }, index) => [
        at(`before ${effect} is undone`, 2 * index + 1),
        at(`${effect} undone and not written down`, 2 * index + 2),
      ]),
      ...effects.flatMap(({ writes }) => writes.flatMap((op) => unanswered(step, 'K8', op, true))),
      ...(step === destroy.step
        ? [cell(step, 'K8', 'its task at work', { hold: { op: destroy.op, where: 'task' } }, true)]
        : []),
    ];
  }
}

const cell = (step: string, of: KillPoint, title: string, stand: Stand, isUndo = false): Cell => ({
  step,
  of,
  isUndo,
  title: `${step} at ${of}${title && `, ${title}`}`,
  ...stand,
});

const unanswered = (step: string, of: KillPoint, op: string, isUndo = false): Cell[] =>
  (['before', 'after'] as const).map((where) =>
    cell(step, of, `${op} ${ANSWERS[where]}`, { hold: { op, where } }, isUndo),
  );
