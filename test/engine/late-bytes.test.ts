import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkJournal } from '../../src/simulators/journal/check.js';
import type { JournalLine } from '../../src/simulators/journal.js';
import { inTime } from '../support/lose-worker.js';
import { SteeredWorker, type StandingStill } from '../support/steered-worker.js';
import { StepWorld, type TestMachine } from '../support/step-world.js';
import { kindsOf, writesFor } from '../support/things-outside.js';
import { Matrix, VM } from './kill-points/cells.js';

const STUDENT_VM = new Matrix(VM);
const { blueprint: BLUEPRINT, writes: WRITES } = VM;
const AT_ONCE = 3;

interface Late {
  readonly step: string;
  readonly nth: number;
  readonly op: string;
  readonly how: StandingStill;
}
const WRITES_OF_ALL: readonly Late[] = STUDENT_VM.steps
  .flatMap((step) => WRITES[step]!.map((op, index) => ({ step, op, nth: index + 1 })))
  .map((late, index) => ({ ...late, how: index % 2 === 0 ? 'suspended' : 'blocked' }));

interface Ending {
  /** What was written for the machine when it was ready, and after the late bytes came. */
  readonly before: readonly string[];
  readonly after: readonly string[];
  readonly refusals: readonly string[];
  readonly hasArrived: boolean;
}

let world: StepWorld;
const endings = new Map<Late, Ending>();
let usual: readonly string[];

beforeAll(async () => {
  // Whose connection was closed meanwhile sends nothing any more: that would prove nothing.
  world = await StepWorld.start({ site: { keepAliveMs: 120_000 } });
  const control = await world.create(BLUEPRINT);
  await world.open(control);
  const waiting = [...WRITES_OF_ALL];
  const next = async (): Promise<void> => {
    for (let late = waiting.shift(); late; late = waiting.shift()) endings.set(late, await sendLate(late));
  };
  await Promise.all(Array.from({ length: AT_ONCE }, next));
  await world.runsAre('done', [control]);
  usual = await writes(control);
});
afterAll(async () => world?.close());

const writes = async (machine: TestMachine): Promise<readonly string[]> =>
  kindsOf(writesFor(world.journal(), machine, await world.vmid(machine)));

/** A worker stops in the turn in which its bytes leave, another one makes the machine ready, and then the bytes go out. */
async function sendLate(late: Late): Promise<Ending> {
  const { step, nth, how } = late;
  const machine = await world.create(BLUEPRINT);
  await world.open(machine, STUDENT_VM.needsOf(step));
  const worker = await SteeredWorker.start(world);
  try {
    const stands = worker.freezes('K3', machine.runId, step, { nth, how });
    await world.give(machine, step, (id) => worker.take(id));
    await inTime(`${step}, write ${nth}`, stands);
    await world.open(machine);
    await world.runsAre('done', [machine]);
    const before = await writes(machine);
    const since = world.now();
    await worker.resume();
    const vmid = await world.vmid(machine);
    return {
      before,
      after: await writes(machine),
      refusals: worker.refusals(machine.runId, late.step),
      hasArrived: world.journal(since).some((line) => isLate(line, late, vmid)),
    };
  } finally {
    await worker.kill();
  }
}

/**
 * The same requests of other machines change something, and are answered well; a script is known by its name, or by the refusal of what would
 * have started it: its shell was idle for too long.
 */
function isLate({ event, op, vmid, effect, params, status }: JournalLine, late: Late, ours: number): boolean {
  if (event !== 'request' || effect === true) return false;
  if (late.op.startsWith('winrm.') && op?.startsWith('winrm.') === true && status === 500) return true;
  if (vmid !== undefined) return vmid === ours && op === late.op;
  const script = String(params?.['script']).split(' ')[0];
  return op === late.op || (op === 'winrm.script' && late.op === `winrm.script.${script}`);
}

describe('bytes that leave when their worker was dead for long', () => {
  it.each(WRITES_OF_ALL.map((late) => [late.op, late.step, late.how, late] as const))(
    '%s of %s changes nothing any more, and its worker, which was %s, gives up',
    (_op, _step, _how, late) => {
      const { before, after, refusals, hasArrived } = endings.get(late)!;
      expect(before).toEqual(usual);
      expect(hasArrived).toBe(true);
      expect(after).toEqual(usual);
      expect(refusals.length).toBeGreaterThan(0);
    },
  );

  it('leave a clean journal', async () => {
    const { findings } = await checkJournal(world.site.simulators.context.journal.file);
    expect(findings).toEqual([]);
  });
});
