import type { Blueprint, ClusterDefinition } from '../core/definitions.js';
import type { RegisteredHook } from '../core/lxc/on-node.js';
import type { CompiledPlan } from '../plan/compiled-plan.js';

/** What the site's files offer, as stored at boot. Unknown names: `not-found`, with the names that exist. */
export interface Catalog {
  blueprint(name: string): { readonly versionId: string; readonly definition: Blueprint };
  /** A version that may no longer be the newest: the one that a batch was made with. */
  blueprintVersion(
    name: string,
    version: number,
  ): Promise<{ readonly versionId: string; readonly definition: Blueprint }>;
  workflow(id: string): CompiledPlan;
  cluster(name: string): ClusterDefinition;
  /** By name. */
  readonly hooks: ReadonlyMap<string, RegisteredHook>;
}
