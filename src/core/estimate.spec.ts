import { describe, expect, it } from 'vitest';
import { estimateSeconds, type EstimateRequest } from './estimate.js';

const aBatch = (more: Partial<EstimateRequest> = {}): EstimateRequest => ({
  machines: 120, clone: 'linked', diskGiB: 20, nodes: 3, storages: 1, hasDhcp: true, hasAccess: true,
  limits: { clonesPerStorage: 6, clonesPerNode: 4, startsPerNode: 6 }, ...more,
}); // prettier-ignore

describe('the estimate of a batch', () => {
  it('is minutes for a class of linked clones, and about one boot for one machine', () => {
    expect(estimateSeconds(aBatch())).toBeGreaterThan(45);
    expect(estimateSeconds(aBatch())).toBeLessThan(180);
    expect(estimateSeconds(aBatch({ machines: 1 }))).toBeLessThan(45);
  });

  it('grows with the class, with full clones and with narrower limits', () => {
    const base = estimateSeconds(aBatch());
    expect(estimateSeconds(aBatch({ machines: 600 }))).toBeGreaterThan(base * 2);
    expect(estimateSeconds(aBatch({ clone: 'full' }))).toBeGreaterThan(base * 10);
    expect(
      estimateSeconds(aBatch({ limits: { clonesPerStorage: 1, clonesPerNode: 1, startsPerNode: 1 } })),
    ).toBeGreaterThan(base);
  });

  it('does not promise that more copies at once are faster on one storage', () => {
    const limits = { clonesPerStorage: 12, clonesPerNode: 12, startsPerNode: 6 };
    expect(estimateSeconds(aBatch({ clone: 'full', limits }))).toBe(
      estimateSeconds(aBatch({ clone: 'full' })),
    );
  });

  it('follows the time scale, and is whole seconds, at least one unless nothing is made', () => {
    expect(estimateSeconds(aBatch({ timeScale: 0.05 }))).toBeLessThan(estimateSeconds(aBatch()) / 10);
    expect(estimateSeconds(aBatch({ machines: 1, timeScale: 0.0001 }))).toBe(1);
    expect(estimateSeconds(aBatch({ machines: 0, nodes: 0, storages: 0 }))).toBe(0);
  });
});
