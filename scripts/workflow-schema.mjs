// Writes workflows/workflow.schema.json, which editors read, from the steps of the build.
import { writeFileSync } from 'node:fs';
import { workflowSchema } from '../dist/plan/workflow-schema.js';
import { STEPS } from '../dist/steps/index.js';

writeFileSync(
  new URL('../workflows/workflow.schema.json', import.meta.url),
  `${JSON.stringify(workflowSchema(STEPS), null, 2)}\n`,
);
