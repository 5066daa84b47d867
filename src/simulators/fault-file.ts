import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import { z } from 'zod';
import { HatcheryError } from '../core/errors.js';
import type { SimClock } from './clock.js';
import { faultRulesSchema, type FaultRule } from './faults.js';
import { TRANSPORT_NAMES } from './names.js';
import { rulesOf, scheduleOf } from './schedule.js';

/**
 * The rules of a YAML file (`--faults FILE`): a list of them, or a schedule, whose times count from the start of the program.
 * Error: `settings-invalid`, with the place in the file.
 */
export function readFaults(file: string, clock: Pick<SimClock, 'timeScale' | 'startedAtMs'>): FaultRule[] {
  const content: unknown = parse(readFileSync(file, 'utf8')) ?? [];
  if (!Array.isArray(content)) {
    const schedule = scheduleOf(content, file);
    const own = { startMs: clock.startedAtMs, timeScale: clock.timeScale };
    return (['simulators', ...TRANSPORT_NAMES] as const).flatMap((sim) => rulesOf(schedule, sim, own));
  }
  const parsed = faultRulesSchema.safeParse(content);
  if (parsed.success) return parsed.data;
  throw new HatcheryError(
    'settings-invalid',
    `Unable to read the fault rules ${file}: ${z.prettifyError(parsed.error)}`,
  );
}
