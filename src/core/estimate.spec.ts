import { describe, expect, it } from 'vitest';
import { assumedSeconds } from './estimate.js';

const linked = { clone: 'linked', diskGiB: 20 } as const;

describe('what a step is assumed to take before any was seen', () => {
  it('is seconds for what Proxmox does, and unknown for a step of which nothing was reported', () => {
    expect(assumedSeconds('clone-template', linked, 1)).toBeLessThan(3);
    expect(assumedSeconds('wait-address', linked, 4)).toBeGreaterThan(10);
    expect(assumedSeconds('water-plants', linked, 1)).toBeUndefined();
  });

  it('counts the clones that wait for one lock: four of them end no sooner than one after the other', () => {
    expect(assumedSeconds('clone-template', linked, 4)! / 4).toBeGreaterThan(1.4);
  });

  it('grows with the bytes of a full clone, and with the copies that share the rate of the storage', () => {
    const full = { clone: 'full', diskGiB: 20 } as const;
    expect(assumedSeconds('clone-template', full, 1)).toBeGreaterThan(60);
    expect(assumedSeconds('clone-template', full, 4)! / 4).toBeCloseTo(
      assumedSeconds('clone-template', full, 1)!,
      -1,
    );
    expect(assumedSeconds('start-vm', full, 4)).toBe(assumedSeconds('start-vm', linked, 1));
  });
});
