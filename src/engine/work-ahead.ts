import type { CompiledPlan, CompiledStep } from '../plan/compiled-plan.js';
import { evaluate, isTruthy } from '../plan/expression.js';
import { render } from '../plan/workflow.js';
import type { Registry } from '../plan/step.js';

/** One step of a run as far as it can be told before it is due. */
export interface PlannedStep extends Pick<CompiledStep, 'key' | 'uses' | 'rank' | 'needs'> {
  /** Its condition does not hold. */
  readonly isSkipped: boolean;
  /** Slots that it will want. */
  readonly slots: readonly string[];
}

/** What a run with these inputs will go through. What depends on outputs of other steps is taken as if they had none yet. */
export function plannedSteps(
  plan: CompiledPlan,
  inputs: Readonly<Record<string, unknown>>,
  registry: Pick<Registry, 'steps'>,
): readonly PlannedStep[] {
  const scope = { inputs, steps: {} };
  return plan.steps.map((step) => {
    const { key, uses, rank, needs } = step;
    const isSkipped = step.if !== undefined && !isTruthy(evaluate(step.if, scope));
    const input = Object.fromEntries(
      Object.entries(step.with).map(([name, template]) => [name, render(template, scope)]),
    );
    return { key, uses, rank, needs, isSkipped, slots: isSkipped ? [] : slotsOf(uses, input, registry) };
  });
}

function slotsOf(uses: string, input: unknown, registry: Pick<Registry, 'steps'>): readonly string[] {
  try {
    return [...new Set(registry.steps.get(uses)?.slots?.(input) ?? [])];
  } catch {
    // They depend on what another step will give.
    return [];
  }
}
