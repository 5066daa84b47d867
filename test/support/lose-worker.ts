import { systemClock } from '../../src/drivers/system-clock.js';
import type { KillPoint } from '../../src/ports/checkpoints.js';
import type { StepWorld, TestMachine } from './step-world.js';
import { SuspendedWorker } from './suspended-worker.js';

/** Where a worker falls silent: the other side has acted and its answer is on the way, or at a point of the engine. */
export type Moment = { readonly answerOf: string } | { readonly point: KillPoint };

export interface Loss {
  readonly machine: TestMachine;
  /** A kept step, as `StepWorld.kept` names it. */
  readonly step: string;
  readonly at: Moment;
  /** What becomes of the run when another worker goes on; left out = nobody goes on. */
  readonly end?: 'done' | 'cancelled';
}

/**
 * One worker takes all these steps and falls silent when each stands at its moment; another one goes on with those that may go on.
 * The answers come when nobody listens any more. In the end the silent worker wakes and believes that it still holds its steps.
 * Operations are held meanwhile, which stops whoever passes: nobody else may be at work. `meanwhile` runs when the loss was noticed.
 */
export async function loseWorker(
  world: StepWorld,
  losses: readonly Loss[],
  meanwhile: () => Promise<void> = async () => {},
): Promise<void> {
  const { holds } = world.site.simulators.context;
  const worker = await SuspendedWorker.start(world.options);
  for (const { machine, step } of losses) await world.kept(machine, step);
  const held = new Map<string, number>();
  const arriving: Promise<void>[] = [];
  for (const { at, step, machine } of losses) {
    if ('answerOf' in at) held.set(at.answerOf, (held.get(at.answerOf) ?? 0) + 1);
    else arriving.push(inTime(`${step} at ${at.point}`, worker.stopsAt(at.point, machine.runId, step)));
  }
  for (const [op, count] of held) {
    holds.hold(op, 'after');
    arriving.push(inTime(`${count} x ${op}`, holds.reached(op, 'after', count)));
  }
  try {
    for (const { machine, step } of losses) await world.give(machine, step, (id) => worker.take(id));
    await Promise.all(arriving);
    await worker.suspend();
    for (const { machine, end } of losses) if (end !== undefined) await world.open(machine);
    await noticed(world, worker.id, losses.length);
    await meanwhile();
    for (const op of held.keys()) holds.release(op, 'after');
    for (const state of ['done', 'cancelled'] as const) {
      const ending = losses.filter(({ end }) => end === state);
      await world.runsAre(
        state,
        ending.map(({ machine }) => machine),
      );
    }
  } finally {
    for (const op of held.keys()) holds.release(op, 'after');
    await worker.stop();
  }
}

async function noticed(world: StepWorld, workerId: string, count: number): Promise<void> {
  await world.until('the lost steps are noticed', async () => {
    const { lost } = await world.one<{ lost: number }>(
      `select count(*)::int as lost from attempts where worker_id = $1 and outcome = 'lost'`,
      [workerId],
    );
    return lost === count;
  });
}

/** Names what did not come, instead of hanging. */
export async function inTime(what: string, work: Promise<unknown>, limitMs = 60_000): Promise<void> {
  const over = new AbortController();
  const tooLate = async (): Promise<never> => {
    await systemClock.sleep(limitMs, over.signal);
    throw new Error(`never reached: ${what}`);
  };
  try {
    await Promise.race([work, tooLate()]);
  } finally {
    over.abort();
  }
}
