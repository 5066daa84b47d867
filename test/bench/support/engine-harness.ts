import { randomBytes, randomUUID } from 'node:crypto';
import { z } from 'zod';
import { localMac } from '../../../src/core/address.js';
import type { MachineInput } from '../../../src/core/machine.js';
import { BullDispatch, BullStepWorker } from '../../../src/drivers/bullmq/bull-dispatch.js';
import { PostgresBatchStore } from '../../../src/drivers/postgres/batch-store.js';
import { PostgresClusterStops } from '../../../src/drivers/postgres/cluster-stops.js';
import { Database } from '../../../src/drivers/postgres/database.js';
import { PostgresRunStore } from '../../../src/drivers/postgres/run-store.js';
import { PostgresSlotLimits } from '../../../src/drivers/postgres/slot-limits.js';
import { PostgresSlots } from '../../../src/drivers/postgres/slots.js';
import { PostgresStepGroups } from '../../../src/drivers/postgres/step-groups.js';
import { connectRedis } from '../../../src/drivers/redis/connect-redis.js';
import { RedisLocks } from '../../../src/drivers/redis/redis-locks.js';
import { RedisWakeUps } from '../../../src/drivers/redis/redis-wake-ups.js';
import { systemClock } from '../../../src/drivers/system-clock.js';
import { Caretaker } from '../../../src/engine/caretaker.js';
import { newMachine } from '../../../src/engine/compose-machines.js';
import { DEFAULT_TIMES, type EngineParts } from '../../../src/engine/engine.js';
import { OutageBreaker } from '../../../src/engine/outage-breaker.js';
import { RetryBudget } from '../../../src/engine/retry-budget.js';
import { EngineWorker } from '../../../src/engine/worker.js';
import type { CompiledPlan } from '../../../src/plan/compiled-plan.js';
import { defineStep, type AnyStep, type StepPorts } from '../../../src/plan/step.js';
import { compileWorkflow } from '../../../src/plan/workflow.js';
import type { RunStore } from '../../../src/ports/run-store.js';
import type { BenchStores } from './stores.js';

const OWNER = '00000000-0000-4000-8000-000000000001';
const BLUEPRINT = '00000000-0000-4000-8000-000000000002';
const KEYS = ['one', 'two', 'three', 'four', 'five', 'six'] as const;
export const STEPS_PER_RUN = KEYS.length;
/** Machines of one accept, as a large class. */
const ACCEPT_AT_ONCE = 500;

const WORKFLOW = `id: no-op
inputs: { machine: Machine }
steps:
${KEYS.map((key, index) => `  ${key}: { uses: no-op, ${index === 0 ? '' : `needs: [${KEYS[index - 1]}], `}with: { machine: "\${{ inputs.machine }}" } }`).join('\n')}
`;

/** What a stretch of work was like. */
interface Stretch {
  readonly seconds: number;
  readonly statements: number;
  /** Milliseconds from the commit that ended a step to the begin of the next step's act. */
  readonly handOffsMs: readonly number[];
}

/** The engine of one process on stores of the bench's own, with a workflow of six steps that do nothing. */
export class EngineHarness {
  #closers: (() => unknown)[] = [];
  #plan!: CompiledPlan;
  #row = 0;
  /** Of the runs that are due. */
  #mayBegin = 0;
  #onRunEnd: () => void = () => {};
  readonly #committedAt = new Map<string, number>();
  #handOffs: number[] = [];
  #database!: Database;
  #parts!: EngineParts;
  #batches!: PostgresBatchStore;

  private constructor(private readonly stores: BenchStores) {}

  static async start(stores: BenchStores): Promise<EngineHarness> {
    const harness = new EngineHarness(stores);
    await harness.#assemble();
    return harness;
  }

  async #assemble(): Promise<void> {
    const { postgresUrl, redisUrl } = this.stores;
    const problem = (error: Error): void => void process.stderr.write(`${error.stack}\n`);
    const prefix = '{bench}';
    this.#database = new Database(postgresUrl, { onError: problem });
    const redis = connectRedis(redisUrl, problem);
    const wakeUps = new RedisWakeUps(redis, prefix, problem);
    await wakeUps.start();
    const dispatch = new BullDispatch(connectRedis(redisUrl, problem), prefix, problem);
    const vmids = () => ({ from: 100, to: 999_999 });
    const steps = new Map<string, AnyStep>([['no-op', this.#noOp()]]);
    const warn = (facts: object, sentence: string): void =>
      void process.stderr.write(`${sentence} ${JSON.stringify(facts)}\n`);
    const common = {
      stops: new PostgresClusterStops(this.#database),
      clock: systemClock,
      log: { debug: () => {}, info: () => {}, warn, error: warn },
      random: Math.random,
      ports: { remoteTimeScale: 1 } as unknown as StepPorts,
    };
    this.#parts = {
      ...common,
      breaker: new OutageBreaker(common),
      retryBudget: new RetryBudget(1),
      store: this.#gated(new PostgresRunStore(this.#database, { quarantineMs: () => 60_000, vmids })),
      groups: new PostgresStepGroups(this.#database),
      slots: new PostgresSlots(this.#database),
      slotLimits: new PostgresSlotLimits(this.#database),
      rangeOf: vmids,
      dispatch,
      locks: new RedisLocks(redis, { prefix, holder: 'bench', lockMs: DEFAULT_TIMES.leaseMs }),
      wakeUps,
      checkpoints: {
        reach: async (point, { runId, step }) => {
          if (point !== 'K7') return;
          if (step === KEYS.at(-1)) this.#onRunEnd();
          else this.#committedAt.set(runId!, performance.now());
        },
      },
      steps,
      effects: new Map(),
      deployment: randomUUID(),
      times: DEFAULT_TIMES,
    };
    this.#batches = new PostgresBatchStore(this.#database);
    this.#plan = compileWorkflow('no-op.yaml', WORKFLOW, steps);
    await this.#database.query(`insert into users (id, login, role) values ($1, 'bench', 'admin')`, [OWNER]);
    await this.#database.query(
      `insert into blueprint_versions (id, name, version, digest, definition) values ($1, 'bench', 1, '', '{}')`,
      [BLUEPRINT],
    );
    await this.#database.query('insert into workflow_versions (id, workflow, plan) values ($1, $2, $3)', [
      this.#plan.version,
      'no-op',
      JSON.stringify(this.#plan),
    ]);
    this.#closers = [
      async () => dispatch.close(),
      async () => wakeUps.stop(),
      () => redis.disconnect(),
      async () => this.#database.close(),
    ];
  }

  #noOp(): AnyStep {
    return defineStep({
      id: 'no-op',
      version: 1,
      summary: 'Does nothing',
      input: z.object({ machine: z.object({ id: z.string() }).loose() }),
      output: z.object({ ok: z.boolean() }),
      locks: () => [],
      effects: () => [],
      timeout: '1m',
      retry: { attempts: 3, first: '1s', max: '10s' },
      lateWrites: 'none',
      act: async (_input, _ports, run) => {
        const endedAt = this.#committedAt.get(run.runId);
        if (endedAt !== undefined) {
          this.#committedAt.delete(run.runId);
          this.#handOffs.push(performance.now() - endedAt);
        }
        return { ok: true };
      },
    });
  }

  /**
   * Accepts `runs` machines into one batch, then lets a worker with room for `inFlight` attempts take them to their end.
   * So many of them are `due` at a time: each run that ends lets the next one in.
   */
  async work(
    { runs, inFlight, due }: { runs: number; inFlight: number; due: number },
    around: { begin: () => Promise<void>; end: () => Promise<void> },
  ): Promise<Stretch> {
    await this.#accept(runs);
    let next = Math.min(due, runs);
    let ended = 0;
    const allEnded = new Promise<void>((resolve) => {
      this.#onRunEnd = () => {
        ended += 1;
        if (ended === runs) resolve();
        else if (next < runs) {
          next += 1;
          this.#letIn(1);
        }
      };
    });
    const { times } = this.#parts;
    const engine = new EngineWorker(this.#parts);
    const caretaker = new Caretaker(this.#parts, {
      clusters: ['main'],
      limitOf: () => 4,
      notify: async () => {},
    });
    await engine.start();
    const jobs = new BullStepWorker(
      connectRedis(this.stores.redisUrl, () => {}),
      { prefix: '{bench}', concurrency: inFlight, onError: () => {} },
      (stepId) => engine.handle(stepId),
    );
    await jobs.ready();
    caretaker.start();
    await systemClock.sleep(times.sweepMs);
    this.#handOffs = [];
    const statements = this.#database.statements;
    await around.begin();
    const from = performance.now();
    this.#letIn(next);
    await allEnded;
    const seconds = (performance.now() - from) / 1000;
    await around.end();
    const stretch = {
      seconds,
      statements: this.#database.statements - statements,
      handOffsMs: this.#handOffs,
    };
    await jobs.pause();
    await caretaker.stop();
    await engine.stop();
    await jobs.close();
    return stretch;
  }

  /** Lets the relay hand over so many more of the runs that are due. */
  #letIn(runs: number): void {
    this.#mayBegin += runs;
    this.#parts.wakeUps.notify('outbox');
  }

  /** Runs wait in the outbox, as they do behind a busy relay: whatever else let them in would cost as much as a step. */
  #gated(store: RunStore): RunStore {
    const relay: RunStore['relay'] = async (publish, batch) => {
      const taken = await store.relay(publish, Math.min(batch, this.#mayBegin));
      this.#mayBegin -= taken;
      return taken;
    };
    return new Proxy(store, {
      get: (target, name) => {
        if (name === 'relay') return relay;
        const member: unknown = Reflect.get(target, name);
        return typeof member === 'function' ? (member.bind(target) as unknown) : member;
      },
    });
  }

  async #accept(runs: number): Promise<void> {
    const batchId = randomUUID();
    const name = `bench-${this.#row}`;
    for (let made = 0; made < runs; made += ACCEPT_AT_ONCE) {
      const existing = await this.#batches.findBatch(name, undefined);
      const machines = Array.from({ length: Math.min(ACCEPT_AT_ONCE, runs - made) }, () =>
        this.#machine(batchId),
      );
      await this.#batches.accept(
        {
          batch: existing ? { existing } : { id: batchId, name, notifyUrl: undefined },
          ownerId: OWNER,
          actor: 'bench',
          cluster: 'main',
          blueprint: 'bench',
          blueprintVersionId: BLUEPRINT,
          workflowVersion: this.#plan.version,
          idempotency: undefined,
        },
        () => machines,
      );
    }
    await this.#database.query('vacuum analyze');
  }

  #machine(batchId: string): ReturnType<typeof newMachine> {
    const row = (this.#row += 1);
    const login = `u${row}`;
    return newMachine(
      this.#plan,
      this.#parts,
      { row, login, loginKey: login, lastName: '', firstName: '', sshKeys: [] },
      100 + row,
      machineInput(row, login),
      batchId,
    );
  }

  async close(): Promise<void> {
    for (const close of this.#closers) await close();
  }
}

/** As large as that of a real class. */
const machineInput = (row: number, login: string): MachineInput => ({
  id: randomUUID(),
  kind: 'qemu',
  name: `vm-${row}`,
  cluster: 'main',
  node: 'pve1',
  mac: localMac(randomBytes(5)),
  pool: 'hatchery-bench',
  template: {
    name: 'debian-12-xfce',
    vmid: 9000,
    node: 'pve1',
    digest: '0'.repeat(40),
    disk: 'scsi0',
    storage: 'ceph',
    storageShared: true,
  },
  clone: 'linked',
  storage: 'ceph',
  size: { cores: 2, memoryMiB: 2048, diskGiB: 16 },
  network: { bridge: 'vmbr0', dhcp: 'dhcp' },
  user: { name: login, sshKeys: [] },
  owner: { login, lastName: '', firstName: '' },
  description: `${login}, bench`,
});
