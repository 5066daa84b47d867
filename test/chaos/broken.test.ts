import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { JournalVerdict, Rule } from '../../src/simulators/journal/verdict.js';
import type { FaultRule } from '../../src/simulators/faults.js';
import { judged } from '../support/judged.js';
import { newName, StepWorld, type TestMachine } from '../support/step-world.js';
import { adoptByName } from './broken/adopt-by-name.js';
import type { Build } from './broken/build.js';
import { cancelledOverReady } from './broken/cancelled-over-ready.js';
import { deleteByVmid } from './broken/delete-by-vmid.js';
import { deleteNotFollowed } from './broken/delete-not-followed.js';
import { enqueueBeforeCommit } from './broken/enqueue-before-commit.js';
import { freeOnException } from './broken/free-on-exception.js';
import { freedIdReused } from './broken/freed-id-reused.js';
import { lockInsteadOfConstraint } from './broken/lock-instead-of-constraint.js';
import { newVmidAfter596 } from './broken/new-vmid-after-596.js';
import { noEpochCheck } from './broken/no-epoch-check.js';
import { upidNotStored } from './broken/upid-not-stored.js';
import { warningsAsFailure } from './broken/warnings-as-failure.js';

const BLUEPRINT = 'student-desktop';
const POOL = 'hatchery-demo';
/** The sweeper finds everything in the end: here nobody sweeps, so that what is not handed over shows. */
const TIMES = { overdueMs: 600_000 };

/** Rules of the checker, and beside them what the journal cannot show: each is checked on the real build, too. */
type Caught =
  | Rule
  | 'contract: a stale holder writes nothing'
  | 'contract: a task is known before it ends'
  | 'bound: the machine gets ready';

interface Story {
  readonly build: Build;
  readonly caughtBy: Caught;
  /** What happens; gives what the checker's journal cannot tell. */
  readonly tell: (at: Scene) => Promise<readonly Caught[] | void>;
}

/** One story in one world. */
class Scene {
  readonly machines: TestMachine[] = [];
  readonly #faults: string[] = [];

  constructor(
    readonly world: StepWorld,
    readonly isBroken: boolean,
  ) {}

  async create(login?: string): Promise<TestMachine> {
    const machine = await this.world.create(BLUEPRINT, login);
    this.machines.push(machine);
    return machine;
  }

  async ready(): Promise<TestMachine> {
    const machine = await this.create();
    await this.world.open(machine);
    await this.comesTo(machine, 'done');
    return machine;
  }

  /** The run's state is one of these. */
  async comesTo(machine: TestMachine, ...states: string[]): Promise<void> {
    await this.world.until(`the run is ${states.join(' or ')}`, async () =>
      states.includes(await this.world.runState(machine)),
    );
  }

  async giveUp(machine: TestMachine): Promise<void> {
    await this.world.assembly.intake.cancelBatch(machine.batch, this.world.admin);
  }

  fault(rule: Omit<FaultRule, 'id'>): void {
    const id = newName('fault-');
    this.#faults.push(id);
    this.world.site.simulators.context.faults.add({ id, ...rule });
  }

  end(): void {
    for (const id of this.#faults) this.world.site.simulators.context.faults.remove(id);
  }
}

const STORIES: Readonly<Record<string, Story>> = {
  'free on exception': {
    build: freeOnException,
    caughtBy: 'left-behind',
    async tell(scene) {
      const machine = await scene.ready();
      const vmid = await scene.world.vmid(machine);
      scene.fault({ match: { op: 'qemu.config.get', vmid, nth: [1, 2] }, effect: 'status', value: 500 });
      await scene.giveUp(machine);
      await scene.comesTo(machine, 'cancelled');
    },
  },
  'adopt by name': {
    build: adoptByName,
    caughtBy: 'foreign-write',
    async tell(scene) {
      const login = newName('s');
      scene.world.site.simulators.proxmox.foreign.create({
        vmid: 700,
        node: 'pve1',
        kind: 'qemu',
        owner: 'foreign:alice',
        name: `vm-${login}`,
        pool: POOL,
      });
      const machine = await scene.create(login);
      await scene.world.open(machine);
      await scene.comesTo(machine, 'done', 'parked');
    },
  },
  'delete by VMID': {
    build: deleteByVmid,
    caughtBy: 'foreign-write',
    async tell(scene) {
      const machine = await scene.create();
      await scene.world.open(machine, ['reserve', 'clone']);
      await scene.world.stepIs('done', machine, 'clone');
      const vmid = await scene.world.vmid(machine);
      const { foreign } = scene.world.site.simulators.proxmox;
      foreign.remove(vmid);
      foreign.create({
        vmid,
        node: 'pve1',
        kind: 'qemu',
        owner: 'foreign:alice',
        name: 'alice',
        running: false,
        pool: POOL,
      });
      await scene.giveUp(machine);
      await scene.world.open(machine);
      await scene.comesTo(machine, 'cancelled', 'parked');
    },
  },
  'new VMID after 596': {
    build: newVmidAfter596,
    caughtBy: 'double-machine',
    async tell(scene) {
      scene.fault({ match: { op: 'qemu.clone', nth: 1 }, when: 'after', effect: 'status', value: 596 });
      await scene.ready();
    },
  },
  'WARNINGS as failure': {
    build: warningsAsFailure,
    caughtBy: 'bound: the machine gets ready',
    async tell(scene) {
      scene.fault({ match: { op: 'qemu.clone' }, when: 'during', effect: 'act', value: { do: 'warn' } });
      const machine = await scene.create();
      await scene.world.open(machine);
      await scene.comesTo(machine, 'done', 'parked', 'failed');
      return (await scene.world.runState(machine)) === 'done' ? [] : ['bound: the machine gets ready'];
    },
  },
  'no epoch check': {
    build: noEpochCheck,
    caughtBy: 'contract: a stale holder writes nothing',
    async tell(scene) {
      const machine = await scene.ready();
      const { stepId } = await scene.world.one<{ stepId: string }>(
        `select id as "stepId" from steps where run_id = $1 and key = 'clone'`,
        [machine.runId],
      );
      const stale = { stepId, epoch: 1, workerId: machine.runId };
      const isTaken = await scene.world.parts.store.note(stale, 'clone-1', { sinceMs: 0, value: 'late' });
      return isTaken ? ['contract: a stale holder writes nothing'] : [];
    },
  },
  'enqueue before commit': {
    build: enqueueBeforeCommit,
    caughtBy: 'unended-run',
    async tell(scene) {
      const machine = await scene.create();
      await scene.world.open(machine);
      await scene.world.until('it is ready, or nothing is handed over any more', async () => {
        const { isIdle } = await scene.world.one<{ isIdle: boolean }>(
          `select exists (select 1 from steps where run_id = $1 and state = 'ready' and slots is null and worker_id is null
             and due_at < clock_timestamp() - interval '2 s') as "isIdle"`,
          [machine.runId],
        );
        return isIdle || (await scene.world.runState(machine)) === 'done';
      });
    },
  },
  'UPID not stored before polling': {
    build: upidNotStored,
    caughtBy: 'contract: a task is known before it ends',
    async tell(scene) {
      const { holds } = scene.world.site.simulators.context;
      holds.hold('qemu.clone', 'task-end');
      const machine = await scene.create();
      await scene.world.open(machine);
      await holds.reached('qemu.clone', 'task-end');
      // The answer with the id was given before the task began.
      const isKnown = async (): Promise<boolean> => {
        const { remote } = await scene.world.one<{ remote: object }>(
          `select remote from steps where run_id = $1 and key = 'clone'`,
          [machine.runId],
        );
        return Object.values(remote).some((note: object) => 'value' in note);
      };
      const known = scene.isBroken
        ? await isKnown()
        : await scene.world.until('the id is stored', isKnown).then(() => true);
      holds.release('qemu.clone', 'task-end');
      await scene.comesTo(machine, 'done');
      return known ? [] : ['contract: a task is known before it ends'];
    },
  },
  'lock instead of constraint': {
    build: lockInsteadOfConstraint,
    caughtBy: 'mac-collision',
    async tell(scene) {
      const [first, second] = [await scene.create(), await scene.create()];
      // Two that hold the same lock have computed the same MAC; the second one writes it now.
      await scene.world.assembly.database
        .transaction(async (queries) => {
          await queries.query(`update reservations set value = $1 where kind = 'mac' and machine_id = $2`, [
            first.mac,
            second.id,
          ]);
          await queries.query('update machines set mac = $1 where id = $2', [first.mac, second.id]);
        })
        .catch((error: unknown) => expect(scene.isBroken, String(error)).toBe(false));
      for (const machine of [first, second]) await scene.world.open(machine);
      for (const machine of [first, second]) await scene.world.stepIs('done', machine, 'configure');
      // On the broken build the effect's own constraint keeps the second one from DHCP for ever.
      if (!scene.isBroken) await scene.world.runsAre('done', [first, second]);
    },
  },
  'delete not followed': {
    build: deleteNotFollowed,
    caughtBy: 'left-behind',
    async tell(scene) {
      const machine = await scene.create();
      await scene.world.open(machine, ['reserve', 'clone']);
      await scene.world.stepIs('done', machine, 'clone');
      scene.fault({
        match: { op: 'qemu.destroy', nth: 1 },
        effect: 'task-error',
        value: "cfs-lock 'storage-ceph' error: got lock request timeout",
      });
      await scene.giveUp(machine);
      await scene.world.open(machine);
      await scene.comesTo(machine, 'cancelled');
    },
  },
  'cancelled over ready': {
    build: cancelledOverReady,
    caughtBy: 'left-behind',
    async tell(scene) {
      const machine = await scene.ready();
      await scene.giveUp(machine);
      await scene.comesTo(machine, 'cancelled');
    },
  },
  'freed id reused at once': {
    build: freedIdReused,
    caughtBy: 'reused-early',
    async tell(scene) {
      await scene.world.remove([await scene.ready()]);
      await scene.ready();
    },
  },
};

/** Findings of the checker and of the story itself. */
async function findingsOf(scene: Scene, { tell }: Story): Promise<readonly Caught[]> {
  try {
    const told = await tell(scene);
    let verdict!: JournalVerdict;
    await scene.world.until('every remote task has ended', async () => {
      verdict = await judged(scene.world, scene.machines);
      return verdict.counts.openTasks === 0;
    });
    expect(verdict.missing).toEqual([]);
    return [...(told ?? []), ...new Set(verdict.findings.map(({ rule }) => rule))];
  } finally {
    scene.end();
  }
}

describe('the real build', () => {
  let world: StepWorld;
  beforeAll(async () => {
    world = await StepWorld.start({ times: TIMES });
  });
  afterAll(async () => world?.close());

  it.each(Object.entries(STORIES))('passes the story of "%s"', async (_name, story) => {
    expect(await findingsOf(new Scene(world, false), story)).toEqual([]);
  });
});

describe('a broken build', () => {
  let world: StepWorld | undefined;
  afterEach(async () => {
    await world?.close();
    world = undefined;
  });

  it.each(Object.entries(STORIES))('"%s" is caught', async (_name, story) => {
    world = await StepWorld.start({ times: TIMES, build: story.build });
    expect(await findingsOf(new Scene(world, true), story)).toContain(story.caughtBy);
  });
});
