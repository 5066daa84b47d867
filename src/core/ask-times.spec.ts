import { describe, expect, it } from 'vitest';
import { askTimes, bootTimes, type BootTimes } from './ask-times.js';
import type { Sighting } from './durations.js';

const KEPT = 96;

/** Random numbers of a fixed series (Park and Miller). */
function series(seed = 1): () => number {
  let state = seed;
  return () => (state = (state * 48_271) % 2_147_483_647) / 2_147_483_647;
}
const around = (medianMs: number, chance: number): number => medianMs * (0.9 + 0.2 * chance);
function logNormal(medianMs: number, p95Ms: number, next: () => number): number {
  const normal = Math.sqrt(-2 * Math.log(next())) * Math.cos(2 * Math.PI * next());
  return medianMs * Math.exp((Math.log(p95Ms / medianMs) / 1.645) * normal);
}

interface Boot {
  readonly asks: number;
  readonly firstMs: number;
  readonly bootMs: number;
  readonly lateMs: number;
}

/** Machines one after the other, each asked by what those `lag` before it taught. */
function boots(count: number, draw: (nth: number, next: () => number) => number, lag = 1): Boot[] {
  const next = series();
  const seen: Sighting[] = [];
  let known: BootTimes | undefined;
  return Array.from({ length: count }, (_, nth) => {
    if (nth >= lag) known = bootTimes(seen.slice(0, nth - lag + 1).slice(-KEPT));
    const times = askTimes(known, next(), 1);
    const bootMs = draw(nth, next);
    let [atMs, afterMs, asks] = [times.firstMs, 0, 1];
    for (; atMs < bootMs; asks += 1) {
      afterMs = atMs;
      atMs += times.gapMs(asks);
    }
    seen.push({ afterMs, byMs: atMs });
    return { asks, firstMs: times.firstMs, bootMs, lateMs: atMs - bootMs };
  });
}

const mean = (values: readonly number[]): number => values.reduce((sum, one) => sum + one, 0) / values.length;
const asksOf = (of: readonly Boot[]): number => mean(of.map(({ asks }) => asks));
const lateOf = (of: readonly Boot[]): number =>
  mean(of.map(({ lateMs }) => lateMs)) / mean(of.map(({ bootMs }) => bootMs));
const firstOf = (of: readonly Boot[]): number => mean(of.map(({ firstMs }) => firstMs));

describe('when a guest agent is asked', () => {
  it('is 20 s after the start, then in growing gaps, while no boot is known', () => {
    const times = askTimes(undefined, 0, 1);
    expect([times.firstMs, times.gapMs(1), times.gapMs(2), times.gapMs(9)]).toEqual([
      20_000, 2_500, 3_750, 15_000,
    ]);
    expect(askTimes(undefined, 0.5, 0.1).firstMs).toBe(2_000);
    expect(askTimes(undefined, 0.5, 1, 'lxc').firstMs).toBe(4_000);
  });

  it('is little more than once a machine, and hardly late, where boots take about the same time', () => {
    const learned = boots(400, (_, next) => around(25_000, next())).slice(100);
    expect(asksOf(learned)).toBeLessThan(1.15);
    expect(lateOf(learned)).toBeLessThan(0.1);
  });

  it('is little more than once a machine where some boots take twice as long as others', () => {
    const learned = boots(400, (_, next) => logNormal(25_000, 50_000, next)).slice(100);
    expect(asksOf(learned)).toBeLessThanOrEqual(1.3);
  });

  it('comes to the same from above and from below', () => {
    for (const medianMs of [8_000, 100_000]) {
      const learned = boots(200, (_, next) => around(medianMs, next())).slice(60);
      expect(firstOf(learned)).toBeGreaterThan(medianMs);
      expect(firstOf(learned)).toBeLessThan(1.12 * medianMs);
      expect(asksOf(learned)).toBeLessThan(1.25);
    }
  });

  it('follows a template that became slower within 20 boots, one that became faster within 80: only early questions tell of it', () => {
    const slower = boots(160, (nth, next) => around(nth < 100 ? 25_000 : 60_000, next()));
    expect(lateOf(slower.slice(120))).toBeLessThan(0.12);
    expect(asksOf(slower.slice(120))).toBeLessThan(1.3);
    const faster = boots(260, (nth, next) => around(nth < 100 ? 25_000 : 12_000, next()));
    expect(firstOf(faster.slice(100, 110))).toBeGreaterThan(20_000);
    expect(firstOf(faster.slice(180))).toBeLessThan(15_000);
  });

  it('stays with boots that drift', () => {
    const drifting = boots(700, (nth, next) => around(25_000 * (1 + 0.5 * Math.sin(nth / 100)), next()));
    expect(asksOf(drifting.slice(100))).toBeLessThan(1.3);
    expect(lateOf(drifting.slice(100))).toBeLessThan(0.15);
  });

  it('stays with them in a class whose machines boot side by side', () => {
    const learned = boots(400, (_, next) => around(25_000, next()), 40).slice(120);
    expect(asksOf(learned)).toBeLessThan(1.2);
    expect(lateOf(learned)).toBeLessThan(0.1);
  });
});
