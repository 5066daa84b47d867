import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { setPriority } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export type Role = 'api' | 'worker';

export interface FleetOptions {
  /** Of every process, beside its role. */
  readonly env: Readonly<Record<string, string>>;
  readonly apiEnv: Readonly<Record<string, string>>;
  /** Where each process writes what it says. */
  readonly logFolder: string;
  /** Loaded processes that wait to stand in for a killed one: as many as there is memory for, since loading one takes seconds of a processor. */
  readonly spares: number;
  /** Processes that will be wanted in all. */
  readonly starts: number;
  /** The build that spares are of. */
  readonly build: string;
}

/** A process of the product that is at work. */
export interface FleetProcess {
  readonly role: Role;
  /** Folder of its build. */
  readonly build: string;
  readonly child: ChildProcess;
  readonly pid: number;
  /** Of an API. */
  readonly url: string | undefined;
}

const WARM = join(import.meta.dirname, '..', 'support', 'warm-process.mjs');
const READY_MS = 120_000;
const START_AGAIN_MS = 500;
/** Loaded at the same time: more would only take turns. */
const LOADING = 2;
/** Loading a spare must not slow down what is being measured. Only root may take it back. */
const IDLE_PRIORITY = process.getuid?.() === 0 ? 19 : 0;

/** The processes of one deployment, from the build: killed as a host loses its power, and replaced from loaded spares. */
export class Fleet {
  readonly #spares: ChildProcess[] = [];
  readonly #all = new Set<ChildProcess>();
  readonly #workers: FleetProcess[] = [];
  /** Processes that ended although nobody here asked them to. */
  readonly #ownEnds: string[] = [];
  #api: FleetProcess | undefined;
  #isClosing = false;
  #loading = 0;
  #startsLeft: number;

  constructor(private readonly options: FleetOptions) {
    this.#startsLeft = options.starts;
  }

  get workers(): readonly FleetProcess[] {
    return this.#workers;
  }

  get url(): string {
    return this.#api!.url!;
  }

  get ownEnds(): readonly string[] {
    return this.#ownEnds;
  }

  /** Resolves when the spares are loaded. */
  async prepare(): Promise<void> {
    await Promise.all(Array.from({ length: LOADING }, () => this.#loadSpares()));
  }

  async startApi(build: string): Promise<void> {
    this.#api = await this.#start('api', build);
  }

  async startWorker(build: string): Promise<FleetProcess> {
    const worker = await this.#start('worker', build);
    this.#workers.push(worker);
    return worker;
  }

  /** SIGKILL, and at once the same again from a spare. Gives how long nobody stood in for it, in milliseconds. */
  async replace(worker: FleetProcess, build = worker.build): Promise<number> {
    const since = performance.now();
    this.kill(worker);
    await this.startWorker(build);
    return performance.now() - since;
  }

  kill(worker: FleetProcess): void {
    this.#forget(worker);
    worker.child.kill('SIGKILL');
  }

  /** SIGTERM, and the end: as a roll to another build does it. */
  async stop(worker: FleetProcess): Promise<void> {
    this.#forget(worker);
    worker.child.kill('SIGTERM');
    await ended(worker.child);
  }

  /** Every process at once, the API too. */
  async killAll(): Promise<void> {
    const processes = [...this.#workers, this.#api!];
    for (const one of processes) this.kill(one);
    await Promise.all(processes.map(({ child }) => ended(child)));
  }

  async close(): Promise<void> {
    this.#isClosing = true;
    for (const child of this.#all) {
      child.kill('SIGCONT');
      child.kill('SIGKILL');
    }
    await Promise.all([...this.#all].map(ended));
  }

  #forget(worker: FleetProcess): void {
    const at = this.#workers.indexOf(worker);
    if (at >= 0) this.#workers.splice(at, 1);
    this.#all.delete(worker.child);
  }

  /** Starts it again when it ends at once, as whoever supervises it does: a store may be away. */
  async #start(role: Role, build: string): Promise<FleetProcess> {
    const giveUpAt = performance.now() + READY_MS;
    for (;;) {
      const child = await this.#loaded(build);
      const first = Promise.race([
        once(child, 'message') as Promise<[{ url?: string }]>,
        ended(child).then(() => undefined),
      ]);
      child.send({
        env: { HATCHERY_ROLE: role, ...this.options.env, ...(role === 'api' && this.options.apiEnv) },
      });
      const ready = await first;
      void this.#loadSpares();
      if (ready !== undefined)
        return this.#atWork({ role, build, child, pid: child.pid!, url: ready[0].url });
      this.#all.delete(child);
      if (performance.now() > giveUpAt)
        throw new Error(`Unable to go on: a ${role} did not start, see ${this.options.logFolder}`);
      await sleep(START_AGAIN_MS);
    }
  }

  #atWork(one: FleetProcess): FleetProcess {
    one.child.once('exit', (code, signal) => {
      if (this.#isClosing || !this.#all.has(one.child)) return;
      this.#ownEnds.push(`a ${one.role} (pid ${one.pid}) ended by itself with ${code ?? signal}`);
    });
    return one;
  }

  async #loaded(build: string): Promise<ChildProcess> {
    this.#startsLeft -= 1;
    const spare = build === this.options.build ? this.#spares.shift() : undefined;
    if (spare === undefined) return this.#load(build, 0);
    if (IDLE_PRIORITY !== 0) setPriority(spare.pid!, 0);
    return spare;
  }

  #lacksSpare(): boolean {
    const wanted = Math.min(this.options.spares, this.#startsLeft);
    return !this.#isClosing && this.#spares.length + this.#loading < wanted;
  }

  /** As long as one is lacking, beside those who do the same. */
  async #loadSpares(): Promise<void> {
    while (this.#loading < LOADING && this.#lacksSpare()) {
      this.#loading += 1;
      try {
        this.#spares.push(await this.#load(this.options.build, IDLE_PRIORITY));
      } finally {
        this.#loading -= 1;
      }
    }
  }

  async #load(build: string, priority: number): Promise<ChildProcess> {
    const log = openSync(join(this.options.logFolder, 'processes.log'), 'a', 0o600);
    const child = fork(WARM, [build], {
      env: { PATH: process.env['PATH'] },
      stdio: ['ignore', log, log, 'ipc'],
    });
    closeSync(log);
    this.#all.add(child);
    if (priority !== 0) setPriority(child.pid!, priority);
    await Promise.race([once(child, 'message'), ended(child)]);
    return child;
  }
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
}
