import { z } from 'zod';
import { defineEffect, defineStep, type AnyStep, type RetryPolicy } from '../../src/plan/step.js';
import { onMachineInput } from './engine-bench.js';

export type Input = z.infer<typeof onMachineInput>;

export const QUICK: RetryPolicy = { attempts: 3, first: '50ms', max: '100ms' };

/** The world outside: things by name, and how often each was made. */
export class Outside {
  readonly things = new Set<string>();
  readonly made: string[] = [];

  step(id: string, more: Partial<AnyStep> = {}): AnyStep {
    return defineStep<Input, object>({
      id,
      version: 1,
      summary: id,
      input: onMachineInput,
      output: z.object({}),
      locks: ({ machine }) => [`thing:${id}/${machine.id}`],
      effects: ({ machine }) => [
        {
          kind: 'thing',
          version: 1,
          system: 'outside',
          key: `${id}/${machine.id}`,
          payload: { name: `${id}/${machine.id}` },
        },
      ],
      timeout: '30s',
      retry: QUICK,
      lateWrites: '',
      act: async ({ machine }) => {
        this.made.push(`${id}/${machine.id}`);
        this.things.add(`${id}/${machine.id}`);
        return {};
      },
      ...more,
    });
  }

  readonly thing = defineEffect({
    kind: 'thing',
    version: 1,
    payload: z.object({ name: z.string() }),
    locks: () => [],
    timeout: '30s',
    retry: QUICK,
    look: async ({ name }) =>
      this.things.has(name) ? { found: 'ours', proof: `${name} is there` } : { found: 'nothing' },
    undo: async ({ name }) => {
      this.things.delete(name);
    },
  });
}

export const workflow = (steps: string): string =>
  `id: bench\ninputs: { machine: Machine }\nsteps:\n${steps}`;
export const use = (key: string, needs: string[] = [], more = ''): string =>
  `  ${key}: { uses: ${key}, needs: [${needs.join(', ')}], with: { machine: "\${{ inputs.machine }}" }${more} }\n`;
