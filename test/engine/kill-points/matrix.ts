import { beforeAll, describe, expect, it } from 'vitest';
import type { CellRecord, Outcome } from './campaign.js';
import { absence, forwardCells, POINTS, STEPS, undoCells, UNDOES, WRITES, type Cell } from './cells.js';

const FORWARD = STEPS.flatMap(forwardCells);
const BACK = STEPS.flatMap(undoCells);

/** Every point of every step, by one way to lose a worker, each cell judged by the journal. */
export function describeMatrix(
  how: string,
  lose: () => Promise<Outcome>,
  alsoOf: (record: CellRecord, cell: Cell) => void = () => undefined,
): void {
  describe(`a worker ${how}`, () => {
    let outcome: Outcome;
    beforeAll(async () => {
      outcome = await lose();
    });
    const recordOf = (cell: Cell): CellRecord => outcome.cells.get(cell.title)!;

    describe('at each point', () => {
      it.each(FORWARD.map((cell) => [cell.title, cell] as const))(
        '%s: another one makes each thing exactly once, and the machine gets ready',
        (_title, cell) => {
          const record = recordOf(cell);
          expect(record.run).toBe('done');
          expectTakenOver(record, cell);
          expect(record.writes).toEqual(outcome.usual);
          alsoOf(record, cell);
        },
      );

      it.each(BACK.map((cell) => [cell.title, cell] as const))(
        'in the undo of %s: another one removes each thing exactly once, and nothing is left',
        (_title, cell) => {
          const record = recordOf(cell);
          expect(record.run).toBe('cancelled');
          expectTakenOver(record, cell);
          expect(record.writes).toEqual(outcome.usualWhole);
          expect(record.left).toEqual([]);
          alsoOf(record, cell);
        },
      );
    });

    describe('by the journal', () => {
      it('leaves every machine whole, and nothing besides', () => {
        expect(outcome.ready).toMatchObject({ findings: [], missing: [] });
      });

      it('leaves nothing behind when everything is deleted', () => {
        expect(outcome.deleted).toMatchObject({ findings: [], leftItems: [] });
      });
    });

    it('has a cell for each point of each step, or says why there is none', () => {
      for (const step of STEPS)
        for (const point of POINTS) {
          const cells = [...FORWARD, ...BACK].filter((cell) => cell.step === step && cell.of === point);
          expect([step, point, cells.length > 0]).toEqual([step, point, absence(step, point) === undefined]);
        }
    });

    it('knows every write of a machine that nothing happened to', () => {
      expect(outcome.heldOps.made).toEqual(STEPS.flatMap((step) => WRITES[step]!).sort());
      expect(outcome.heldOps.undone).toEqual(
        Object.values(UNDOES)
          .flatMap((effects) => effects.flatMap(({ writes }) => writes))
          .sort(),
      );
    });
  });
}

/** The attempt that stood at the point was lost, and another one ended well; at K7 it was over. */
function expectTakenOver({ landed, attempts, deaths }: CellRecord, { of, isUndo }: Cell): void {
  expect(landed).toBe(true);
  if (of !== 'K7') expect(attempts).toContain('lost');
  expect(attempts.at(-1)).toBe('done');
  expect(attempts.filter((outcome) => outcome === 'done')).toHaveLength(1);
  // A machine whose undo is lost lost a worker on its way forward, too.
  expect(deaths).toBeLessThanOrEqual(isUndo ? 2 : 1);
}
