import { defaultSize } from '../../core/definitions.js';
import type { CompiledPlan } from '../../plan/compiled-plan.js';
import type { IntendedUse } from '../../ports/hypervisor.js';
import type { RunStore } from '../../ports/run-store.js';
import type { VmidRests } from '../../ports/vmid-rests.js';
import type { SiteConfig } from '../config/site.js';

/** More than a range has. */
const ALL = 2_000_000_000;

/** What this site means to do on one cluster, for the cluster's check. */
export async function intendedUse(
  cluster: string,
  parts: {
    readonly blueprints: SiteConfig['blueprints'];
    readonly workflows: readonly CompiledPlan[];
    readonly store: Pick<RunStore, 'countedVmids'>;
    readonly vmidRests: Pick<VmidRests, 'list'>;
    readonly phonesHome: boolean;
    readonly snippets: IntendedUse['snippets'];
  },
): Promise<IntendedUse> {
  const blueprints = parts.blueprints.filter(({ clusters }) => clusters.includes(cluster));
  const resting = await parts.vmidRests.list(cluster, 0, ALL);
  return {
    blueprints: blueprints.map((blueprint) => ({
      name: blueprint.name,
      kind: blueprint.kind,
      source: blueprint.source,
      diskGiB: defaultSize(blueprint).diskGiB,
      bridge: blueprint.network.bridge,
      vlan: blueprint.network.vlan,
      hasSnippets: blueprint.cloudInit?.snippets !== undefined,
      workflow: blueprint.workflow,
    })),
    workflows: parts.workflows
      .filter((plan) => blueprints.some(({ workflow }) => workflow === plan.workflow))
      .map(({ workflow, steps }) => ({ id: workflow, steps })),
    vmids: await parts.store.countedVmids(cluster),
    phonesHome: parts.phonesHome,
    snippets: parts.snippets,
    restingVmids: new Set(resting.map(({ vmid }) => vmid)),
  };
}
