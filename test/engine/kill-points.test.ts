import { expect } from 'vitest';
import { loseAtEveryPoint } from './kill-points/campaign.js';
import { DEBIAN_CONTAINER, DESKTOP_CONTAINER, Matrix, VM } from './kill-points/cells.js';
import { describeMatrices } from './kill-points/matrix.js';

const ROUNDS = [[new Matrix(VM)], [new Matrix(DESKTOP_CONTAINER), new Matrix(DEBIAN_CONTAINER)]];

// One after the other: each keeps a machine busy.
describeMatrices('killed', ROUNDS.flat(), () => loseAtEveryPoint('crash', ROUNDS));
describeMatrices(
  'suspended for longer than its lease',
  ROUNDS.flat(),
  () => loseAtEveryPoint('pause', ROUNDS),
  (record, { of }) => {
    // At K7 its outcome was written while it was still its own: nothing of this step is left to be refused.
    if (of === 'K7') expect(record.refusals).toEqual([]);
    else expect(record.refusals.length).toBeGreaterThan(0);
  },
);
