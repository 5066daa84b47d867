import { randomBytes, randomUUID } from 'node:crypto';
import { z } from 'zod';
import { localMac } from '../../src/core/address.js';
import type { MachineInput } from '../../src/core/machine.js';
import { BullDispatch, BullStepWorker } from '../../src/drivers/bullmq/bull-dispatch.js';
import { PostgresBatchStore } from '../../src/drivers/postgres/batch-store.js';
import { Database } from '../../src/drivers/postgres/database.js';
import { PostgresStepGroups } from '../../src/drivers/postgres/step-groups.js';
import { PostgresClusterStops } from '../../src/drivers/postgres/cluster-stops.js';
import { PostgresRunStore } from '../../src/drivers/postgres/run-store.js';
import { PostgresSlotLimits } from '../../src/drivers/postgres/slot-limits.js';
import { PostgresSlots } from '../../src/drivers/postgres/slots.js';
import { connectRedis } from '../../src/drivers/redis/connect-redis.js';
import { RedisLocks } from '../../src/drivers/redis/redis-locks.js';
import { RedisWakeUps } from '../../src/drivers/redis/redis-wake-ups.js';
import { systemClock } from '../../src/drivers/system-clock.js';
import { Caretaker } from '../../src/engine/caretaker.js';
import { newMachine } from '../../src/engine/compose-machines.js';
import { DEFAULT_TIMES, type EngineParts, type EngineTimes } from '../../src/engine/engine.js';
import { OutageBreaker } from '../../src/engine/outage-breaker.js';
import { RetryBudget } from '../../src/engine/retry-budget.js';
import { EngineWorker } from '../../src/engine/worker.js';
import type { CompiledPlan } from '../../src/plan/compiled-plan.js';
import type { AnyEffect, AnyStep, StepPorts } from '../../src/plan/step.js';
import { compileWorkflow } from '../../src/plan/workflow.js';
import { noCheckpoints } from '../../src/ports/checkpoints.js';
import type { RunStore } from '../../src/ports/run-store.js';
import { redisPrefix, redisUrl, testDatabase, type TestDatabase } from './stores.js';

const quiet = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

/** Short leases, so that a dead worker is noticed within a test. */
const TIMES: Partial<EngineTimes> = {
  leaseMs: 1_000,
  heartbeatMs: 200,
  sweepMs: 100,
  overdueMs: 300,
  longestRequestMs: 200,
};

export const onMachineInput = z.object({ machine: z.object({ id: z.string(), name: z.string() }).loose() });

/** The engine on a real Postgres and a real Redis, with steps of the test's own. */
export class EngineBench {
  readonly #closers: (() => unknown)[] = [];
  #plan!: CompiledPlan;
  #dispatch!: BullDispatch;
  #batchId = '';
  #row = 1;

  private constructor(
    readonly database: Database,
    readonly parts: EngineParts,
    readonly batches: PostgresBatchStore,
    private readonly at: {
      redisUrl: string;
      prefix: string;
      limitOf: (slot: string) => number;
      machine: Partial<MachineInput> | undefined;
    },
  ) {}

  static async start(options: {
    workflow: string;
    steps: readonly AnyStep[];
    effects?: readonly AnyEffect[];
    limitOf?: (slot: string) => number;
    times?: Partial<EngineTimes>;
    redis?: string;
    /** A migrated Postgres of the test's own. */
    postgres?: string;
    /** What the steps may reach. */
    ports?: Partial<StepPorts>;
    /** Besides what every machine of the bench has. */
    machine?: Partial<MachineInput>;
    /** Stands between the engine and its store. */
    store?: (store: RunStore) => RunStore;
  }): Promise<EngineBench> {
    const test: TestDatabase =
      options.postgres === undefined ? await testDatabase() : { url: options.postgres, drop: async () => {} };
    const prefix = redisPrefix();
    const url = options.redis ?? redisUrl();
    const database = new Database(test.url);
    const redis = connectRedis(url, () => {});
    const wakeUps = new RedisWakeUps(redis, prefix, () => {});
    await wakeUps.start();
    const dispatch = new BullDispatch(
      connectRedis(url, () => {}),
      prefix,
      () => {},
    );
    const store = new PostgresRunStore(database, {
      quarantineMs: () => 60_000,
      vmids: () => ({ from: 100, to: 200 }),
    });
    const common = {
      stops: new PostgresClusterStops(database),
      clock: systemClock,
      log: quiet,
      random: Math.random,
      ports: { remoteTimeScale: 1, ...options.ports } as unknown as StepPorts,
    };
    const parts: EngineParts = {
      ...common,
      breaker: new OutageBreaker(common),
      retryBudget: new RetryBudget(1),
      store: options.store?.(store) ?? store,
      groups: new PostgresStepGroups(database),
      slots: new PostgresSlots(database),
      slotLimits: new PostgresSlotLimits(database),
      rangeOf: () => ({ from: 100, to: 200 }),
      dispatch,
      locks: new RedisLocks(redis, { prefix, holder: 'test', lockMs: 1_000 }),
      wakeUps,
      checkpoints: noCheckpoints,
      steps: new Map(options.steps.map((step) => [step.id, step])),
      effects: new Map((options.effects ?? []).map((effect) => [`${effect.kind}@${effect.version}`, effect])),
      deployment: randomUUID(),
      times: { ...DEFAULT_TIMES, ...TIMES, ...options.times },
    };
    const bench = new EngineBench(database, parts, new PostgresBatchStore(database), {
      redisUrl: url,
      prefix,
      limitOf: options.limitOf ?? (() => 4),
      machine: options.machine,
    });
    bench.#dispatch = dispatch;
    bench.#plan = compileWorkflow('test.yaml', options.workflow, parts.steps);
    bench.#closers.push(
      async () => test.drop(),
      async () => database.close(),
      () => redis.disconnect(),
      async () => wakeUps.stop(),
      async () => dispatch.close(),
    );
    return bench;
  }

  /** Where its queue is. */
  get queue(): { redisUrl: string; prefix: string } {
    return this.at;
  }

  /** A worker with its own caretaker, as one process has them. */
  async worker(concurrency = 8): Promise<{ engine: EngineWorker; stop(): Promise<void> }> {
    const engine = new EngineWorker(this.parts);
    await engine.start();
    const jobs = new BullStepWorker(
      connectRedis(this.at.redisUrl, () => {}),
      { prefix: this.at.prefix, concurrency, onError: () => {} },
      (id) => engine.handle(id),
    );
    await jobs.ready();
    const stop = once(async () => {
      await jobs.pause();
      await engine.stop();
      await jobs.close();
    });
    this.#closers.push(stop);
    return { engine, stop };
  }

  caretaker(): { stop(): Promise<void> } {
    const caretaker = new Caretaker(this.parts, {
      clusters: ['main'],
      limitOf: this.at.limitOf,
      notify: async () => {},
    });
    caretaker.start();
    const stop = once(() => caretaker.stop());
    this.#closers.push(stop);
    return { stop };
  }

  /** As after FLUSHALL, for this bench alone. */
  async loseQueue(): Promise<void> {
    await this.#dispatch.queue.obliterate({ force: true });
  }

  /** As a failover loses the last that was written: this hand-over alone. */
  async loseJob(stepId: string, number: number): Promise<void> {
    await this.#dispatch.queue.remove(`${stepId}-${number}`);
  }

  /** Accepts machines into one batch, as a create does; gives their run ids. */
  async accept(
    count: number,
    options: { notifyUrl?: string } = {},
  ): Promise<{ machineId: string; runId: string }[]> {
    if (this.#batchId === '') await this.#prepare();
    const existing = await this.batches.findBatch('bench', undefined);
    const made: { machineId: string; runId: string }[] = [];
    await this.batches.accept(
      {
        batch: existing ? { existing } : { id: this.#batchId, name: 'bench', notifyUrl: options.notifyUrl },
        ownerId: OWNER,
        actor: 'test',
        cluster: 'main',
        blueprint: 'bench',
        blueprintVersionId: BLUEPRINT,
        workflowVersion: this.#plan.version,
        idempotency: undefined,
      },
      () =>
        Array.from({ length: count }, () => {
          const row = this.#row;
          this.#row += 1;
          const machine = newMachine(
            this.#plan,
            this.parts,
            { row, login: `u${row}`, loginKey: `u${row}`, lastName: '', firstName: '', sshKeys: [] },
            100 + row,
            {
              id: randomUUID(),
              name: `vm-${row}`,
              cluster: 'main',
              node: 'n',
              mac: localMac(randomBytes(5)),
              owner: { login: `u${row}`, lastName: '', firstName: '' },
              ...this.at.machine,
            } as unknown as MachineInput,
            this.#batchId,
          );
          made.push({ machineId: machine.id, runId: machine.runId });
          return machine;
        }),
    );
    this.parts.wakeUps.notify('outbox');
    this.parts.wakeUps.notify('work');
    return made;
  }

  async #prepare(): Promise<void> {
    this.#batchId = randomUUID();
    await this.database.query(`insert into users (id, login, role) values ($1, 'test', 'admin')`, [OWNER]);
    await this.database.query(
      `insert into blueprint_versions (id, name, version, digest, definition) values ($1, 'bench', 1, '', '{}')`,
      [BLUEPRINT],
    );
    await this.#savePlan();
  }

  async #savePlan(): Promise<void> {
    await this.database.query('insert into workflow_versions (id, workflow, plan) values ($1, $2, $3)', [
      this.#plan.version,
      'bench',
      JSON.stringify(this.#plan),
    ]);
  }

  /** Another build of the product on the same stores, with the workflow, steps and effects that it has. Closed with this one. */
  async otherBuild(options: {
    workflow: string;
    steps: readonly AnyStep[];
    effects: readonly AnyEffect[];
  }): Promise<EngineBench> {
    const parts = {
      ...this.parts,
      steps: new Map(options.steps.map((step) => [step.id, step])),
      effects: new Map(options.effects.map((effect) => [`${effect.kind}@${effect.version}`, effect])),
    };
    const other = new EngineBench(this.database, parts, this.batches, this.at);
    other.#plan = compileWorkflow('test.yaml', options.workflow, parts.steps);
    if (this.#batchId === '') await this.#prepare();
    other.#batchId = this.#batchId;
    other.#row = this.#row + 1_000;
    await other.#savePlan();
    this.#closers.push(() => other.close());
    return other;
  }

  async runState(runId: string): Promise<string> {
    const [row] = await this.database.query<{ state: string }>('select state from runs where id = $1', [
      runId,
    ]);
    return row!.state;
  }

  async stepStates(runId: string): Promise<Record<string, string>> {
    const rows = await this.database.query<{ key: string; state: string }>(
      'select key, state from steps where run_id = $1',
      [runId],
    );
    return Object.fromEntries(rows.map((row) => [row.key, row.state]));
  }

  /** Waits on the database until `sql` (one boolean column `ok`) is true: the engine's own commits are the event. */
  async until(sql: string, values: readonly unknown[] = [], withinMs = 60_000): Promise<void> {
    const endsAt = performance.now() + withinMs;
    for (;;) {
      const [row] = await this.database.query<{ ok: boolean }>(sql, values);
      if (row?.ok === true) return;
      if (performance.now() > endsAt)
        throw new Error(
          `never true: ${sql}\n${JSON.stringify(await this.database.query('select run_id, key, state, due_at, worker_id, error from steps'), null, 1)}`,
        );
      await systemClock.sleep(20);
    }
  }

  async untilAll(runs: readonly { runId: string }[], state: string): Promise<void> {
    await this.until('select count(*) = $2 as ok from runs where id = any ($1::uuid[]) and state = $3', [
      runs.map((run) => run.runId),
      runs.length,
      state,
    ]);
  }

  async close(): Promise<void> {
    for (const close of this.#closers.toReversed()) await close();
  }
}

const OWNER = '00000000-0000-4000-8000-000000000001';
const BLUEPRINT = '00000000-0000-4000-8000-000000000002';

/** However often it is asked to. */
function once(work: () => Promise<void>): () => Promise<void> {
  let done: Promise<void> | undefined;
  return () => (done ??= work());
}

/** A gate that a test holds shut: `reached` resolves when somebody waits at it. */
export class Gate {
  readonly reached: Promise<void>;
  #arrive!: () => void;
  #open!: () => void;
  readonly #opened: Promise<void>;

  constructor() {
    this.reached = new Promise((resolve) => (this.#arrive = resolve));
    this.#opened = new Promise((resolve) => (this.#open = resolve));
  }

  async pass(): Promise<void> {
    this.#arrive();
    await this.#opened;
  }

  release(): void {
    this.#open();
  }
}
