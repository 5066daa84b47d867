import { fork, type ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { BatchIntake } from '../../src/engine/batch-intake.js';
import type { Actor, BatchRequest } from '../../src/engine/intake.js';
import type { KillPoint } from '../../src/ports/checkpoints.js';
import { inTime } from './lose-worker.js';
import type { StepWorld } from './step-world.js';

/** The "1 s lease setting"; the worker of the test's own process, which stalls with its simulators, has a longer one. */
const TIMES = { leaseMs: 1_000, heartbeatMs: 250 };

export type StandingStill = 'suspended' | 'blocked';

interface Report {
  readonly started?: true;
  readonly stands?: string;
  readonly refused?: string;
  readonly sentence?: string;
  readonly left?: string;
  readonly failure?: string;
  readonly accepted?: Accepted;
}

type Accepted = Awaited<ReturnType<BatchIntake['create']>>;

/**
 * A worker in a process of its own that takes the steps it is given, stands still where it is told to, and can be killed or suspended there
 * with everything that it has in hand.
 */
export class SteeredWorker {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<string, () => void>();
  /** Ends a blocked event loop once it is there. */
  readonly #wakeFile = join(tmpdir(), `hatchery-wake-${randomUUID()}`);
  #inHand = 0;
  readonly #refusals = new Map<string, string[]>();
  #whenIdle: (() => void)[] = [];
  #isLost = false;
  #accepted: (answer: Accepted) => void = () => undefined;
  readonly #failures: string[] = [];

  private constructor() {
    this.#child = fork(join(import.meta.dirname, 'steered-worker.mjs'), { stdio: ['ignore', 2, 2, 'ipc'] });
    this.#child.on('message', (report) => this.#hear(report as Report));
  }

  static async start(world: StepWorld): Promise<SteeredWorker> {
    const worker = new SteeredWorker();
    const { databaseUrl, redisUrl, redisPrefix, deployment, remoteTimeScale, secretKey, times } =
      world.options;
    const started = worker.#told('started');
    worker.#child.send({
      start: {
        databaseUrl,
        redisUrl,
        redisPrefix,
        deployment,
        remoteTimeScale,
        times: { ...times, ...TIMES },
        secretKey: secretKey.toString('base64'),
        configDir: world.site.configDir,
      },
    });
    await inTime('the start of a steered worker', started);
    return worker;
  }

  /**
   * Resolves when the step stands at the point for the `nth` time. It goes no further before `goOn`, or before the process was suspended and
   * resumed.
   */
  stands(point: KillPoint, runId: string, step: string, { nth = 1 } = {}): Promise<void> {
    return this.#arm(`${point} ${runId} ${step}`, { nth });
  }

  /**
   * Resolves when the process stands still in the very turn in which it is at the point, until `resume`: `suspended` as by SIGSTOP, or `blocked`,
   * its event loop busy with something else.
   */
  async freezes(
    point: KillPoint,
    runId: string,
    step: string,
    { nth, how }: { nth: number; how: StandingStill },
  ): Promise<void> {
    const until = how === 'suspended' ? 'SIGCONT' : this.#wakeFile;
    await this.#arm(`${point} ${runId} ${step}`, { nth, freezes: { until } });
    this.#isLost = true;
  }

  goOn(point: KillPoint, runId: string, step: string): void {
    this.#child.send({ goOn: `${point} ${runId} ${step}` });
  }

  /** Accepts a batch, as an API process does; resolves when it has said so. */
  accept(request: BatchRequest, actor: Actor, key: string): Promise<Accepted> {
    this.#child.send({ accept: { request, actor, key } });
    return new Promise((resolve) => (this.#accepted = resolve));
  }

  /** Resolves when it is about to begin the transaction that accepts. */
  standsBeforeAccept(): Promise<void> {
    return this.stands('K10', 'undefined', 'undefined');
  }

  /** A step that comes when it was killed or suspended is nobody's: the sweeper finds it. */
  take(stepId: string): void {
    if (this.#isLost) return;
    this.#inHand += 1;
    this.#child.send({ take: { stepId } });
  }

  async kill(): Promise<void> {
    this.#isLost = true;
    await rm(this.#wakeFile, { force: true });
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await gone;
  }

  suspend(): void {
    this.#isLost = true;
    this.#child.kill('SIGSTOP');
  }

  /** Wakes it up and waits until it has nothing in hand any more. */
  async resume(): Promise<void> {
    const idle = new Promise<void>((resolve) => {
      if (this.#inHand === 0) resolve();
      else this.#whenIdle.push(resolve);
    });
    this.#refusals.clear();
    this.#child.kill('SIGCONT');
    await writeFile(this.#wakeFile, '');
    await inTime('the resumed worker lets go of its steps', idle);
    if (this.#failures.length > 0) throw new Error(this.#failures.join('\n'));
  }

  /** What it has said since it was resumed of attempts of this step that were not its own any more. */
  refusals(runId: string, step: string): readonly string[] {
    return this.#refusals.get(`${runId} ${step}`) ?? [];
  }

  #arm(key: string, order: { nth: number; freezes?: { until: string } }): Promise<void> {
    const stands = this.#told(key);
    this.#child.send({ arm: { key, ...order } });
    return stands;
  }

  #told(what: string): Promise<void> {
    return new Promise((resolve) => this.#waiting.set(what, resolve));
  }

  #hear({ started, stands, refused, sentence, left, failure, accepted }: Report): void {
    const told = started ? 'started' : stands;
    if (told !== undefined) this.#waiting.get(told)?.();
    if (refused !== undefined)
      this.#refusals.set(refused, [...(this.#refusals.get(refused) ?? []), sentence!]);
    if (accepted) this.#accepted(accepted);
    if (failure !== undefined) this.#failures.push(failure);
    if (left === undefined) return;
    this.#inHand -= 1;
    if (this.#inHand > 0) return;
    for (const resolve of this.#whenIdle.splice(0)) resolve();
  }
}
