import type { Build } from './build.js';

/** A freed VMID is the next one to be given (F06). */
export const freedIdReused: Build = {
  options: (options) => ({
    ...options,
    site: {
      ...options.site,
      clusters: options.site.clusters.map(({ definition, ...more }) => ({
        ...more,
        definition: { ...definition, vmids: { ...definition.vmids, quarantine: '0ms' as const } },
      })),
    },
  }),
};
