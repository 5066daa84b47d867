import { expect, vi } from 'vitest';
import { loseAtEveryPoint } from './kill-points/campaign.js';
import { describeMatrix } from './kill-points/matrix.js';

vi.setConfig({ hookTimeout: 180_000 });

describeMatrix(
  'killed',
  () => loseAtEveryPoint('crash'),
  (record) => {
    expect(record.refusals).toEqual([]);
  },
);
