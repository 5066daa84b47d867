import { z } from 'zod';
import type { AnyStep } from './step.js';

type Json = Readonly<Record<string, unknown>>;

const NAME = '^[a-z][a-z0-9-]{0,62}$';
const DURATION: Json = { type: 'string', pattern: '^[0-9]+(\\.[0-9]+)?(ms|s|m|h|d)$' };
const EXPRESSION: Json = { type: 'string', pattern: '^\\s*\\$\\{\\{.*\\}\\}\\s*$' };

/** The JSON Schema of workflow files, for editors: every step of this build with its inputs. What it cannot say, `compileWorkflow` says. */
export function workflowSchema(registry: ReadonlyMap<string, AnyStep>): Json {
  const steps = [...registry.values()].toSorted((a, b) => (a.id < b.id ? -1 : 1));
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'Hatchery workflow',
    type: 'object',
    required: ['id', 'inputs', 'steps'],
    additionalProperties: false,
    properties: {
      id: { type: 'string', pattern: NAME },
      inputs: { type: 'object', additionalProperties: { enum: ['Machine'] } },
      steps: {
        type: 'object',
        minProperties: 1,
        propertyNames: { pattern: NAME },
        additionalProperties: { oneOf: steps.map(stepSchema) },
      },
    },
  };
}

function stepSchema(step: AnyStep): Json {
  const input = z.toJSONSchema(step.input as z.ZodType, { unrepresentable: 'any', io: 'input' }) as {
    properties?: object;
    required?: string[];
  };
  const names = Object.keys(input.properties ?? {});
  return {
    title: step.id,
    description: step.summary,
    type: 'object',
    required: ['uses', ...(names.length > 0 ? ['with'] : [])],
    additionalProperties: false,
    properties: {
      uses: { const: step.id },
      needs: { type: 'array', items: { type: 'string' }, uniqueItems: true },
      with: {
        type: 'object',
        required: input.required ?? [],
        additionalProperties: false,
        properties: Object.fromEntries(names.map((name) => [name, {}])),
      },
      if: EXPRESSION,
      timeout: DURATION,
      deadline: DURATION,
      retry: {
        type: 'object',
        additionalProperties: false,
        properties: { attempts: { type: 'integer', minimum: 1 }, first: DURATION, max: DURATION },
      },
      onFailure: { enum: ['undo', 'park', 'continue'] },
    },
  };
}
