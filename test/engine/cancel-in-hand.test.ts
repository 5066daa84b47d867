import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkJournal } from '../../src/simulators/journal/check.js';
import type { KillPoint } from '../../src/ports/checkpoints.js';
import { inTime } from '../support/lose-worker.js';
import { StepWorld } from '../support/step-world.js';
import { thingsOf } from '../support/things-outside.js';
import { Matrix, VM } from './kill-points/cells.js';

/** With a step in hand: about to send what it means to make, done outside and not written down, and in front of its commit. */
const POINTS: readonly KillPoint[] = ['K2', 'K6', 'K9'];
const STUDENT_VM = new Matrix(VM);
const CELLS = STUDENT_VM.steps.flatMap((step) => POINTS.map((point) => ({ step, point })));

let world: StepWorld;
const standing = new Map<string, { arrive: () => void; goOn: Promise<void> }>();
const left = new Map<string, readonly string[]>();
const cellOf = (step: string, point: string): string => `${step} at ${point}`;

beforeAll(async () => {
  world = await StepWorld.start({
    // So many machines at once keep real processors busy: locks of the simulated cluster must not time out over that.
    site: { timeScale: 0.02, cluster: { limits: { destroysPerCluster: 2 } } },
    build: {
      parts: (parts) => ({
        ...parts,
        checkpoints: {
          async reach(point, { runId, step }) {
            const stand = standing.get(`${runId} ${step} ${point}`);
            stand?.arrive();
            await stand?.goOn;
          },
        },
      }),
    },
  });
  let goOn: () => void = () => undefined;
  const cancelled = new Promise<void>((resolve) => (goOn = resolve));
  const cells = await Promise.all(
    CELLS.map(async ({ step, point }) => {
      const machine = await world.create('student-desktop');
      const arrived = new Promise<void>((arrive) =>
        standing.set(`${machine.runId} ${step} ${point}`, { arrive, goOn: cancelled }),
      );
      await world.open(machine, [...STUDENT_VM.needsOf(step), step]);
      return { machine, cell: cellOf(step, point), arrived };
    }),
  );
  await Promise.all(cells.map(({ arrived, cell }) => inTime(cell, arrived)));
  for (const { machine } of cells) await world.assembly.intake.cancelBatch(machine.batch, world.admin);
  for (const { machine } of cells) await world.open(machine);
  goOn();
  const machines = cells.map(({ machine }) => machine);
  await world.runsAre('cancelled', machines);
  for (const { machine, cell } of cells)
    left.set(cell, thingsOf(world.site, machine, await world.vmid(machine)));
});
afterAll(async () => world?.close());

describe('a machine that is given up while a step is in hand', () => {
  it.each(CELLS.map(({ step, point }) => cellOf(step, point)))('%s: leaves nothing', (cell) => {
    expect(left.get(cell)).toEqual([]);
  });

  it('leaves nothing by the journal', async () => {
    const verdict = await checkJournal(world.site.simulators.context.journal.file, {
      expectNothingLeft: true,
    });
    expect(verdict).toMatchObject({ findings: [], left: 0 });
  });
});
