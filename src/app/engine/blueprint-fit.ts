import type { Blueprint } from '../../core/definitions.js';
import { HatcheryError } from '../../core/errors.js';
import type { CompiledPlan } from '../../plan/compiled-plan.js';
import type { Registry } from '../../plan/step.js';

/** Errors: `settings-invalid` for a blueprint whose workflow has a step that cannot work on its machines. */
export function refuseMisfits(
  blueprints: readonly Blueprint[],
  workflows: readonly CompiledPlan[],
  steps: Registry['steps'],
): void {
  for (const { name, kind, source, workflow } of blueprints)
    for (const { key, uses } of workflows.find((plan) => plan.workflow === workflow)?.steps ?? []) {
      const only = steps.get(uses)?.only;
      const isOther = only?.kind !== undefined && only.kind !== kind;
      if (!isOther && (only?.source === undefined || only.source in source)) continue;
      const machines = isOther ? `kind: ${only.kind}` : `source: { ${only!.source} }`;
      throw new HatcheryError(
        'settings-invalid',
        `Unable to offer blueprint ${name}: step ${key} of its workflow ${workflow} (${uses}) is for blueprints with ${machines}`,
        { hint: `Write the workflow of such machines in the blueprint, or ${machines}.` },
      );
    }
}
