import { expect } from 'vitest';
import { loseAtEveryPoint } from './kill-points/campaign.js';
import { describeMatrix } from './kill-points/matrix.js';

// One after the other: each keeps a machine busy.
describeMatrix('killed', () => loseAtEveryPoint('crash'));
describeMatrix(
  'suspended for longer than its lease',
  () => loseAtEveryPoint('pause'),
  (record, { of }) => {
    // At K7 its outcome was written while it was still its own: nothing of this step is left to be refused.
    if (of === 'K7') expect(record.refusals).toEqual([]);
    else expect(record.refusals.length).toBeGreaterThan(0);
  },
);
