import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import { z } from 'zod';
import { HatcheryError } from '../core/errors.js';
import { faultRuleSchema, type FaultRule } from './faults.js';

const fileSchema = z.array(faultRuleSchema).superRefine((rules, context) => {
  const seen = new Set<string>();
  for (const [index, { id }] of rules.entries()) {
    if (seen.has(id))
      context.addIssue({ code: 'custom', path: [index, 'id'], message: `another rule is called ${id}` });
    seen.add(id);
  }
});

/** The rules of a YAML file (`--faults FILE`). */
export function readFaults(file: string): FaultRule[] {
  const parsed = fileSchema.safeParse(parse(readFileSync(file, 'utf8')) ?? []);
  if (!parsed.success)
    throw new HatcheryError(
      'settings-invalid',
      `Unable to read the fault rules ${file}: ${z.prettifyError(parsed.error)}`,
    );
  return parsed.data;
}
