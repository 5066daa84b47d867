import { randomBytes, randomUUID } from 'node:crypto';
import { assemble, type Assembly, type AssembleOptions } from '../../src/app/engine/assemble.js';
import { loadSite, type SiteConfig } from '../../src/app/config/site.js';
import type { RosterRow } from '../../src/core/roster/roster.js';
import { BullStepWorker } from '../../src/drivers/bullmq/bull-dispatch.js';
import { connectRedis } from '../../src/drivers/redis/connect-redis.js';
import { systemClock } from '../../src/drivers/system-clock.js';
import type { EngineLog, EngineParts, EngineTimes } from '../../src/engine/engine.js';
import type { Actor } from '../../src/engine/intake.js';
import { EngineWorker } from '../../src/engine/worker.js';
import type { AnyEffect, AnyStep } from '../../src/plan/step.js';
import { EFFECTS } from '../../src/steps/effects.js';
import { STEPS } from '../../src/steps/index.js';
import type { JournalLine } from '../../src/simulators/journal.js';
import type { Build } from '../chaos/broken/build.js';
import { simulatedSite, type SimulatedSite } from './simulated-site.js';
import { redisPrefix, redisUrl, testDatabase, type TestDatabase } from './stores.js';

/** Short leases, so that a dead worker is noticed within a test, yet longer than a busy test process ever stalls. */
const TIMES = { leaseMs: 2_500, heartbeatMs: 500, sweepMs: 100, overdueMs: 1_000, longestRequestMs: 500 };
const WAIT_MS = 60_000;

/** One machine of a test with the names by which the world outside knows it; the VMID may be replaced, so it is asked for. */
export interface TestMachine {
  readonly id: string;
  readonly runId: string;
  readonly batch: string;
  readonly login: string;
  readonly name: string;
  readonly mac: string;
}

/**
 * The whole engine on real stores against simulated systems, with a gate in front of every step: a step runs only after `open`.
 * All that is left out of the product is the API.
 */
export class StepWorld {
  readonly #opened = new Map<string, ReadonlySet<string>>();
  readonly #kept = new Map<string, { runId: string; name: string }>();
  readonly #keepsUndo = new Set<string>();
  readonly #given = new Map<string, (stepId: string) => void>();
  readonly #broken: unknown[] = [];
  readonly #closers: (() => Promise<unknown>)[] = [];
  #worker!: EngineWorker;
  /** Of its worker. */
  parts!: EngineParts;

  private constructor(
    readonly site: SimulatedSite,
    readonly config: SiteConfig,
    readonly options: AssembleOptions,
    readonly assembly: Assembly,
    readonly admin: Actor,
  ) {}

  /** `prepare` may add files to the site's folder, or change the world, before anything is read. */
  static async start(
    options: {
      prepare?: (site: SimulatedSite) => Promise<void>;
      log?: EngineLog;
      site?: Parameters<typeof simulatedSite>[0];
      times?: Partial<EngineTimes>;
      /** Other parts than the product is built of. */
      build?: Build;
    } = {},
  ): Promise<StepWorld> {
    const [site, database] = await Promise.all([simulatedSite(options.site), testDatabase()]);
    await options.prepare?.(site);
    const config = loadSite({ configDir: site.configDir, env: {} });
    const { build = {} } = options;
    const whole = assembleOptions(site, config, database, options);
    const settings = build.options?.(whole) ?? whole;
    const assembly = await assemble(settings);
    if (build.schema !== undefined) await assembly.database.query(build.schema);
    const admin: Actor = { userId: randomUUID(), login: 'admin', role: 'admin' };
    await assembly.database.query(`insert into users (id, login, role) values ($1, 'admin', 'admin')`, [
      admin.userId,
    ]);
    const world = new StepWorld(site, config, settings, assembly, admin);
    world.#closers.push(
      () => site.stop(),
      () => database.drop(),
      () => assembly.close(),
    );
    await world.#startWorker(build.parts?.(assembly.parts, site) ?? assembly.parts);
    return world;
  }

  async #startWorker(parts: EngineParts): Promise<void> {
    this.parts = parts;
    // Each step stands at the gate of `#take`.
    this.#worker = new EngineWorker(parts, { isOneByOne: true });
    await this.#worker.start();
    const jobs = new BullStepWorker(
      connectRedis(this.options.redisUrl, () => {}),
      { prefix: this.options.redisPrefix, concurrency: 32, onError: () => {} },
      (stepId) => this.#take(stepId),
    );
    await jobs.ready();
    this.assembly.caretaker.start();
    this.#closers.push(async () => {
      await this.assembly.caretaker.stop();
      await jobs.pause();
      await this.#worker.stop();
      await jobs.close();
    });
  }

  /** A step that may not run yet stays due, and gives back the slots that it was admitted to: nobody may starve behind this gate. */
  async #take(stepId: string): Promise<void> {
    const [step] = await this.query<{ runId: string; key: string; state: string }>(
      'select run_id as "runId", key, state from steps where id = $1',
      [stepId],
    );
    if (step === undefined) return;
    const { runId } = step;
    const name = step.state === 'undoing' ? undoOf(step.key) : step.key;
    const isKept = step.state === 'ready' || (step.state === 'undoing' && this.#keepsUndo.has(runId));
    if (isKept && this.#opened.get(runId)?.has(name) !== true) {
      const other = this.#given.get(`${runId} ${name}`);
      if (other) return other(stepId);
      this.#kept.set(stepId, { runId, name });
      await this.query('delete from slots where step_id = $1', [stepId]);
      return;
    }
    await this.#worker.handle(stepId).catch((error: unknown) => this.#broken.push(error));
  }

  /** Lets these steps of a machine run, besides those that may already; no names = all, forward and back. */
  async open(machine: TestMachine, names?: Iterable<string>): Promise<void> {
    const may = new Set([
      ...(this.#opened.get(machine.runId) ?? []),
      ...(names ?? (await this.#all(machine))),
    ]);
    this.#opened.set(machine.runId, may);
    for (const [stepId, kept] of this.#kept) {
      if (kept.runId !== machine.runId || !may.has(kept.name)) continue;
      this.#kept.delete(stepId);
      void this.#take(stepId);
    }
  }

  async #all(machine: TestMachine): Promise<string[]> {
    const sql = 'select key from steps where run_id = $1';
    const steps = await this.query<{ key: string }>(sql, [machine.runId]);
    return steps.flatMap(({ key }) => [key, undoOf(key)]);
  }

  /** Wants the machine gone, and keeps the undo of each step until `open` names it (`undoOf`). */
  async deleteKept(machine: TestMachine): Promise<void> {
    this.#keepsUndo.add(machine.runId);
    const opened = this.#opened.get(machine.runId) ?? [];
    this.#opened.set(machine.runId, new Set([...opened].filter((name) => !name.startsWith(undoOf('')))));
    await this.assembly.intake.deleteBatch(machine.batch, this.admin);
  }

  /** Hands every attempt of a kept step to another worker, until `open`. */
  async give(machine: TestMachine, name: string, take: (stepId: string) => void): Promise<void> {
    const stepId = await this.kept(machine, name);
    this.#given.set(`${machine.runId} ${name}`, take);
    this.#kept.delete(stepId);
    take(stepId);
  }

  /** Waits until this step is due and kept; gives its id. */
  async kept(machine: TestMachine, name: string): Promise<string> {
    const find = (): string | undefined =>
      [...this.#kept].find(([, kept]) => kept.runId === machine.runId && kept.name === name)?.[0];
    await this.until(`step ${name} of ${machine.login} is due`, () => find() !== undefined);
    return find()!;
  }

  /** The undo that is due and kept, by the key of its step; nothing when the machine is gone. */
  async nextUndo(machine: TestMachine): Promise<string | undefined> {
    const find = (): string | undefined =>
      [...this.#kept.values()].find(({ runId }) => runId === machine.runId)?.name.slice(undoOf('').length);
    await this.until(
      `an undo of ${machine.login} is due`,
      async () => find() !== undefined || (await this.runState(machine)) === 'cancelled',
    );
    return find();
  }

  /** One person's machine in a batch of its own; nothing runs before `open`. */
  async create(blueprint: string, login = newName('s')): Promise<TestMachine> {
    return (await this.createBatch(blueprint, [login]))[0]!;
  }

  async createBatch(blueprint: string, logins: readonly string[]): Promise<TestMachine[]> {
    const name = newName('b');
    await this.assembly.intake.create(
      { name, blueprint, rows: logins.map(rosterRow), skipExisting: false },
      this.admin,
      undefined,
    );
    return this.query<TestMachine>(
      `select m.id, r.id as "runId", b.name as batch, m.login, m.name, m.mac
         from machines m join runs r on r.machine_id = m.id join batches b on b.id = m.batch_id where b.name = $1 order by m.row`,
      [name],
    );
  }

  query<R extends object>(sql: string, values: readonly unknown[] = []): Promise<R[]> {
    return this.assembly.database.query<R>(sql, values);
  }

  async one<R extends object>(sql: string, values: readonly unknown[] = []): Promise<R> {
    const [row] = await this.query<R>(sql, values);
    if (row === undefined) throw new Error(`no row: ${sql}`);
    return row;
  }

  async vmid(machine: TestMachine): Promise<number> {
    return (await this.one<{ vmid: number }>('select vmid from machines where id = $1', [machine.id])).vmid;
  }

  async stepState(machine: TestMachine, key: string): Promise<string> {
    const sql = 'select state from steps where run_id = $1 and key = $2';
    return (await this.one<{ state: string }>(sql, [machine.runId, key])).state;
  }

  async runState(machine: TestMachine): Promise<string> {
    return (await this.one<{ state: string }>('select state from runs where id = $1', [machine.runId])).state;
  }

  /** Waits until every run is in this state. */
  async runsAre(state: string, machines: readonly TestMachine[]): Promise<void> {
    await this.until(`runs are ${state}`, async () => {
      const { left } = await this.one<{ left: number }>(
        'select count(*)::int as left from runs where id = any ($1::uuid[]) and state <> $2',
        [machines.map((machine) => machine.runId), state],
      );
      return left === 0;
    });
  }

  async stepIs(state: string, machine: TestMachine, key: string): Promise<void> {
    await this.until(`step ${key} is ${state}`, async () => (await this.stepState(machine, key)) === state);
  }

  /** Waits on the engine's own commits; says what hangs when it takes too long. */
  async until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
    const endsAt = performance.now() + WAIT_MS;
    while (!(await isSo())) {
      if (this.#broken.length > 0) throw this.#broken[0];
      if (performance.now() > endsAt) throw new Error(`never came true: ${what}\n${await this.#report()}`);
      await systemClock.sleep(30);
    }
  }

  async #report(): Promise<string> {
    const rows = await this.query(
      `select m.login, s.key, s.state, s.slots, s.worker_id is not null as held, s.tries, s.remote, s.error ->> 'message' as error from steps s join runs r on r.id = s.run_id
         join machines m on m.id = r.machine_id where r.state not in ('done', 'cancelled') and s.state not in ('pending', 'done', 'undone', 'skipped')`,
    );
    return rows.map((row) => JSON.stringify(row)).join('\n');
  }

  /** Now, on the journal's clock. */
  now(): bigint {
    return BigInt(this.site.simulators.context.journal.now());
  }

  journal(since = 0n): JournalLine[] {
    return this.site.simulators.context.journal.read().filter((line) => BigInt(line.ns) >= since);
  }

  /** The commit of a done step never happened: the step is due under a new dispatch, its effects stand as intents. */
  async loseCommit(machine: TestMachine, key: string): Promise<void> {
    await this.assembly.database.transaction(async (queries) => {
      await queries.query(`update runs set state = 'running', finished_at = null where id = $1`, [
        machine.runId,
      ]);
      await queries.query(`update machines set state = 'creating', ready_at = null where id = $1`, [
        machine.id,
      ]);
      const [step] = await queries.query<{ id: string; dispatch: number }>(
        `update steps set state = 'ready', due_at = clock_timestamp(), dispatch = dispatch + 1, dispatched_at = clock_timestamp(), output = null, percent = null, finished_at = null
          where run_id = $1 and key = $2 returning id, dispatch`,
        [machine.runId, key],
      );
      await queries.query(
        `update effects set state = 'intended', confirmed_at = null where step_id = $1 and state = 'confirmed'`,
        [step!.id],
      );
      await queries.query(
        `insert into outbox (kind, payload) values ('dispatch', jsonb_build_object('stepId', $1::uuid, 'number', $2::int))`,
        [step!.id, step!.dispatch],
      );
    });
    this.assembly.parts.wakeUps.notify('outbox');
  }

  /** Undoes whole batches and waits for the end. */
  async remove(machines: readonly TestMachine[]): Promise<void> {
    for (const batch of new Set(machines.map((machine) => machine.batch)))
      await this.assembly.intake.deleteBatch(batch, this.admin);
    await this.runsAre('cancelled', machines);
  }

  async close(): Promise<void> {
    for (const close of this.#closers.toReversed()) await close();
    if (this.#broken.length > 0) throw this.#broken[0];
  }
}

function assembleOptions(
  site: SimulatedSite,
  config: SiteConfig,
  database: TestDatabase,
  { log = quiet, times = {} }: { log?: EngineLog; times?: Partial<EngineTimes> },
): AssembleOptions {
  return {
    databaseUrl: database.url,
    redisUrl: redisUrl(),
    redisPrefix: redisPrefix(),
    deployment: randomUUID(),
    secretKey: randomBytes(32),
    site: config,
    remoteTimeScale: site.timeScale,
    times: { ...TIMES, ...times },
    log,
    registry: { steps: eachAlone(STEPS), effects: eachAlone(EFFECTS) },
    observe: () => {},
    webhook: { post: async () => {} },
  };
}

/** A gate in front of every step wants each to come by itself; alone a step that coalesces is a group of one. */
const eachAlone = <T extends AnyStep | AnyEffect>(all: ReadonlyMap<string, T>): ReadonlyMap<string, T> =>
  new Map([...all].map(([id, one]) => [id, { ...one, coalesce: undefined }]));

const quiet: EngineLog = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

/** A name that nobody else has and that is part of no other. */
export const newName = (prefix: string): string => `${prefix}${randomBytes(5).toString('hex')}`;

/** How `open`, `kept` and `give` name the undo of a step. */
export const undoOf = (key: string): string => `undo ${key}`;

const rosterRow = (login: string, index: number): RosterRow => ({
  row: index + 2,
  login,
  loginKey: login,
  lastName: 'Martin',
  firstName: 'Anne',
  sshKeys: [],
});
