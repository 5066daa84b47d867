import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { faultRuleSchema, type FaultRule } from '../../src/simulators/faults.js';
import type { SimulatedSite } from './simulated-site.js';

const FOLDER = join(import.meta.dirname, '..', 'faults');

/** The rules of `test/faults/<name>.yaml`, as `--faults FILE` reads them. */
export function faultRules(name: string): FaultRule[] {
  const rules: unknown = parse(readFileSync(join(FOLDER, `${name}.yaml`), 'utf8'));
  z.array(faultRuleSchema).parse(rules);
  return rules as FaultRule[];
}

export interface CausedFaults {
  /** How often each rule fired, by its id in the file. */
  fired(): Record<string, number>;
  /** Takes the rules away. */
  remove(): void;
  /** The same; each must have fired, else the test proved nothing. */
  end(): void;
}

/**
 * Causes the faults of a file in a running world. `only` narrows every rule (`{ vmid }`), so that tests in one world leave each other alone.
 */
export function causeFaults(
  site: SimulatedSite,
  name: string,
  only: Partial<NonNullable<FaultRule['match']>> = {},
): CausedFaults {
  const { faults, journal } = site.simulators.context;
  const rules = faultRules(name).map((rule) => ({
    ...rule,
    id: [rule.id, ...Object.values(only)].join('@'),
    match: { ...rule.match, ...only },
    own: rule.id,
  }));
  for (const { own: _, ...rule } of rules) faults.add(rule);
  const fired = (): Record<string, number> => {
    const lines = journal.read().filter((line) => line.event === 'fault');
    return Object.fromEntries(
      rules.map(({ id, own }) => [own, lines.filter((line) => line.fault === id).length]),
    );
  };
  const remove = (): void => {
    for (const { id } of rules) faults.remove(id);
  };
  return {
    fired,
    remove,
    end() {
      remove();
      for (const [id, count] of Object.entries(fired())) expect([id, count > 0]).toEqual([id, true]);
    },
  };
}
