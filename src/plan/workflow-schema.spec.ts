import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { parse } from 'yaml';
import { STEPS } from '../steps/index.js';
import { workflowSchema } from './workflow-schema.js';

const file = new URL('../../workflows/workflow.schema.json', import.meta.url);

it('stands beside the workflows as it is now (else: npm run workflow:schema)', () => {
  const text = `${JSON.stringify(workflowSchema(STEPS), null, 2)}\n`;
  expect(readFileSync(file, 'utf8')).toBe(text);
});

it('knows every step and every key that the shipped workflow uses', () => {
  const shipped = parse(
    readFileSync(new URL('../../workflows/student-vm.yaml', import.meta.url), 'utf8'),
  ) as {
    steps: Record<string, Record<string, unknown>>;
  };
  const schema = workflowSchema(STEPS) as unknown as {
    properties: {
      steps: { additionalProperties: { oneOf: { title: string; properties: Record<string, unknown> }[] } };
    };
  };
  for (const step of Object.values(shipped.steps)) {
    const known = schema.properties.steps.additionalProperties.oneOf.find(
      (one) => one.title === step['uses'],
    );
    expect(Object.keys(known?.properties ?? {})).toEqual(expect.arrayContaining(Object.keys(step)));
  }
});
