import { describe, expect, it } from 'vitest';
import { adjust, boundsOf, startOf, TRY_AGAIN_MS, type LockWait, type MeasuredLimit } from './slot-limit.js';

const frame = { nowMs: 1_000, configured: 4, isShort: true, timeScale: 1 };
const waits = (count: number, waitMs: number, admittedAtMs = 500): LockWait[] =>
  Array.from({ length: count }, () => ({ waitMs, timedOut: false, admittedAtMs }));
const timeOuts = (count: number, admittedAtMs = 500): LockWait[] =>
  waits(count, 10_000, admittedAtMs).map((one) => ({ ...one, timedOut: true }));

describe('a limit that follows the lock wait', () => {
  const start = startOf(4, 0);

  it('begins as configured', () => {
    expect(start).toMatchObject({ limit: 4, why: 'as configured' });
    expect(adjust(start, [], frame)).toBe(start);
  });

  it('grows by one while waits stay below three seconds and somebody waits for a slot', () => {
    expect(adjust(start, waits(4, 2_400), frame)).toMatchObject({ limit: 5, changedAtMs: 1_000 });
    expect(adjust(start, waits(4, 2_400), { ...frame, isShort: false }).limit).toBe(4);
  });

  it('shrinks by one above four seconds, and stays between', () => {
    expect(adjust(start, waits(4, 4_500), frame)).toMatchObject({ limit: 3 });
    expect(adjust(start, waits(4, 3_500), frame)).toMatchObject({
      limit: 4,
      waits: { count: 4, meanMs: 3_500 },
    });
  });

  it('decides nothing from a few waits, nor while they do not agree', () => {
    expect(adjust(start, waits(3, 7_000), frame).limit).toBe(4);
    expect(adjust(start, [...waits(2, 400), ...waits(2, 8_400)], frame).limit).toBe(4);
  });

  it('counts no clone that began under the limit before', () => {
    const lower = adjust(start, waits(4, 4_500), frame);
    expect(adjust(lower, waits(8, 9_000, 900), { ...frame, nowMs: 2_000 })).toBe(lower);
  });

  it('falls at most once for clones that give up together', () => {
    const once = adjust(start, timeOuts(4), frame);
    expect(once).toMatchObject({ limit: 3, why: 'clones gave up waiting for the lock' });
    expect(adjust(once, timeOuts(3), { ...frame, nowMs: 2_000 }).limit).toBe(3);
    expect(adjust(once, timeOuts(1, 1_500), { ...frame, nowMs: 2_000 }).limit).toBe(2);
  });

  it('bears one time-out among fifty clones, of which one in six tells its wait, and no second one', () => {
    const calm = adjust(start, waits(8, 3_500), frame);
    const once = adjust(calm, timeOuts(1), frame);
    expect(once).toMatchObject({ limit: 4, changedAtMs: start.changedAtMs });
    expect(adjust(once, [], { ...frame, nowMs: 2 * TRY_AGAIN_MS })).toBe(once);
    expect(adjust(once, timeOuts(1), frame).limit).toBe(3);
    expect(adjust(calm, timeOuts(2), frame).limit).toBe(3);
  });

  it('never leaves its bounds, and enters them when the file changes', () => {
    expect(boundsOf(4)).toEqual({ min: 1, max: 8 });
    expect(adjust(startOf(1, 0), timeOuts(1), frame).limit).toBe(1);
    expect(adjust({ ...start, limit: 8 }, waits(9, 0), frame).limit).toBe(8);
    expect(adjust({ ...start, limit: 8 }, [], { ...frame, configured: 2 }).limit).toBe(4);
  });

  it('does not try again soon what was too much', () => {
    const lower = adjust(start, waits(4, 4_500), frame);
    const calm = waits(8, 100, 1_500);
    expect(adjust(lower, calm, { ...frame, nowMs: 2_000 }).limit).toBe(3);
    expect(adjust(lower, calm, { ...frame, nowMs: 1_000 + TRY_AGAIN_MS }).limit).toBe(4);
    const hasten = { ...frame, timeScale: 0.1 };
    expect(adjust(lower, calm, { ...hasten, nowMs: 1_000 + TRY_AGAIN_MS / 10 }).limit).toBe(4);
  });

  it('comes back to what is configured, and no further, where only time-outs tell', () => {
    const lower = adjust(start, timeOuts(1), frame);
    const back = adjust(lower, [], { ...frame, nowMs: 1_000 + TRY_AGAIN_MS });
    expect(back).toMatchObject({ limit: 4, why: 'no lock time-out for 10 minutes' });
    expect(adjust(back, [], { ...frame, nowMs: 1_000 + 3 * TRY_AGAIN_MS })).toBe(back);
  });
});

/**
 * A storage whose lock is polled (0.1 of the remaining time, at most 1 s; PVE 9.1) and held `holdMs` by each clone, with as many clones in
 * flight as the limit says. Gives the limit at the end of every minute.
 */
function play(holdMs: () => number, minutes: number, configured: number): number[] {
  let at: MeasuredLimit = startOf(configured, 0);
  const clones: { at: number; askedAt: number; admittedAt: number; holdsUntil?: number }[] = [];
  const limits: number[] = [];
  let isHeldUntil = 0;
  let seen: LockWait[] = [];
  for (let now = 0; now < minutes * 60_000; now += 50) {
    while (clones.length < at.limit) clones.push({ at: now + 500, askedAt: now + 500, admittedAt: now });
    for (const clone of clones.filter((one) => one.at <= now)) {
      const waitMs = now - clone.askedAt;
      if (clone.holdsUntil === undefined && isHeldUntil > now && waitMs < 10_000)
        clone.at = now + Math.min(1_000, Math.max(50, (10_000 - waitMs) / 10));
      else if (clone.holdsUntil === undefined && waitMs < 10_000) {
        clone.holdsUntil = isHeldUntil = now + holdMs();
        clone.at = clone.holdsUntil + 500;
        seen.push({ waitMs, timedOut: false, admittedAtMs: clone.admittedAt });
      } else {
        if (clone.holdsUntil === undefined)
          seen.push({ waitMs, timedOut: true, admittedAtMs: clone.admittedAt });
        clones.splice(clones.indexOf(clone), 1);
      }
    }
    if (now % 1_000 === 0) {
      at = adjust(at, seen, { nowMs: now, configured, isShort: true, timeScale: 1 });
      seen = [];
    }
    if (now % 60_000 === 0) limits.push(at.limit);
  }
  return limits;
}

describe('on a storage whose lock is polled', () => {
  const spread = (): (() => number) => {
    let turn = 0;
    return () => [600, 1_500, 900, 3_000, 1_500, 1_200, 2_100, 1_200][(turn += 1) % 8]!;
  };

  it.each([1, 4, 8])('finds its place from %i and stays there', (configured) => {
    const limits = play(() => 1_500, 30, configured);
    const settled = limits.slice(5);
    expect(new Set(settled).size).toBeLessThanOrEqual(2);
    expect(Math.max(...settled)).toBeLessThanOrEqual(4);
    // Tried again once in ten minutes, not in between.
    const changes = settled.filter((limit, index) => index > 0 && limit !== settled[index - 1]).length;
    expect(changes).toBeLessThanOrEqual(4);
  });

  it('does so with holds that differ by five', () => {
    const settled = play(spread(), 30, 4).slice(10);
    expect(Math.max(...settled) - Math.min(...settled)).toBeLessThanOrEqual(1);
  });

  it('uses a quick storage as far as it may', () => {
    expect(play(() => 50, 30, 4).at(-1)).toBe(8);
  });
});
