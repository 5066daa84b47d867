import { readFileSync } from 'node:fs';
import { compileWorkflow } from '../../src/plan/workflow.js';
import type { IntendedBlueprint, IntendedUse } from '../../src/ports/hypervisor.js';
import { STEPS } from '../../src/steps/index.js';

const file = new URL('../../workflows/student-vm.yaml', import.meta.url);

/** A site that makes linked clones of the simulated cluster's template by the shipped workflow. */
export function aUse(
  over: {
    blueprint?: Partial<IntendedBlueprint>;
    vmids?: readonly number[];
    restingVmids?: readonly number[];
    phonesHome?: boolean;
  } = {},
): IntendedUse {
  const { workflow, steps } = compileWorkflow(file.pathname, readFileSync(file, 'utf8'), STEPS);
  return {
    blueprints: [
      {
        name: 'desk',
        kind: 'qemu',
        source: { templates: ['debian-12-xfce'], clone: 'linked' },
        diskGiB: 40,
        bridge: 'vmbr0',
        vlan: undefined,
        hasSnippets: false,
        workflow,
        ...over.blueprint,
      },
    ],
    workflows: [{ id: workflow, steps }],
    vmids: new Set(over.vmids),
    phonesHome: over.phonesHome ?? false,
    snippets: [],
    restingVmids: new Set(over.restingVmids),
  };
}
