import { expect, it } from 'vitest';
import { RetryBudget } from './retry-budget.js';

const places = (budget: RetryBudget, count: number, nowMs: number, cluster = 'main'): number[] =>
  Array.from({ length: count }, () => budget.take(cluster, nowMs));

it('lets a handful of retries come at once, and the rest one after the other', () => {
  const budget = new RetryBudget(1);
  const given = places(budget, 600, 1_000);
  expect(given.filter((place) => place === 0)).toHaveLength(20);
  expect(given.slice(19, 23)).toEqual([0, 200, 400, 600]);
  expect(given.at(-1)).toBe(580 * 200);
});

it('has a handful again after a quiet time, and never more', () => {
  const budget = new RetryBudget(1);
  places(budget, 25, 0);
  expect(places(budget, 1, 1_000)).toEqual([200]);
  expect(places(budget, 21, 3_600_000).filter((place) => place === 0)).toHaveLength(20);
});

it('counts each cluster for itself, and is as fast as the remote side', () => {
  const budget = new RetryBudget(0.1);
  places(budget, 21, 0);
  expect(places(budget, 1, 0)).toEqual([40]);
  expect(places(budget, 1, 0, 'other')).toEqual([0]);
});
