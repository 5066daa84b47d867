import { beforeAll, describe, expect, it } from 'vitest';
import type { CellRecord, MatrixOutcome, Outcome } from './campaign.js';
import { POINTS, type Cell, type Matrix } from './cells.js';

/** Every point of every step, by one way to lose a worker, each cell judged by the journal. */
export function describeMatrices(
  how: string,
  matrices: readonly Matrix[],
  lose: () => Promise<Outcome>,
  alsoOf: (record: CellRecord, cell: Cell) => void = () => undefined,
): void {
  describe(`a worker ${how}`, () => {
    let outcome: Outcome;
    beforeAll(async () => {
      outcome = await lose();
    });

    describe.each(matrices.map((matrix) => [matrix.name, matrix] as const))('in %s', (_name, matrix) => {
      describeMatrix(matrix, () => outcome.of.get(matrix)!, alsoOf);
    });

    describe('by the journal', () => {
      it('leaves every machine whole, and nothing besides', () => {
        expect(outcome.ready).toMatchObject({ findings: [], missing: [] });
      });

      it('leaves nothing behind when everything is deleted', () => {
        expect(outcome.deleted).toMatchObject({ findings: [], leftItems: [] });
      });
    });
  });
}

function describeMatrix(
  matrix: Matrix,
  outcome: () => MatrixOutcome,
  alsoOf: (record: CellRecord, cell: Cell) => void,
): void {
  const { forward, back, steps, deeds } = matrix;
  const recordOf = (cell: Cell): CellRecord => outcome().cells.get(cell)!;

  describe('at each point', () => {
    it.each(forward.map((cell) => [cell.title, cell] as const))(
      '%s: another one makes each thing exactly once, and the machine gets ready',
      (_title, cell) => {
        const record = recordOf(cell);
        expect(record.run).toBe('done');
        expectTakenOver(record, cell);
        expect(record.writes).toEqual(outcome().usual);
        alsoOf(record, cell);
      },
    );

    it.each(back.map((cell) => [cell.title, cell] as const))(
      'in the undo of %s: another one removes each thing exactly once, and nothing is left',
      (_title, cell) => {
        const record = recordOf(cell);
        expect(record.run).toBe('cancelled');
        expectTakenOver(record, cell);
        expect(record.writes).toEqual(outcome().usualWhole);
        expect(record.left).toEqual([]);
        alsoOf(record, cell);
      },
    );
  });

  it('has a cell for each point of each step, or says why there is none', () => {
    for (const step of steps)
      for (const point of POINTS) {
        const cells = [...forward, ...back].filter((cell) => cell.step === step && cell.of === point);
        expect([step, point, cells.length > 0]).toEqual([
          step,
          point,
          matrix.absence(step, point) === undefined,
        ]);
      }
  });

  it('knows every write of a machine that nothing happened to', () => {
    const { made, undone } = outcome().heldOps;
    expect(made).toEqual(steps.flatMap((step) => deeds.writes[step]!).sort());
    expect(undone).toEqual(
      Object.values(deeds.undoes)
        .flatMap((effects) => effects.flatMap(({ writes }) => writes))
        .sort(),
    );
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
