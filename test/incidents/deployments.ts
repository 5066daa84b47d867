import type { SimulatorSettings } from '../../src/simulators/simulators.js';
import type { Simulators } from '../../src/simulators/simulators.js';

const CONFIG = ['Disk', 'CPU', 'Memory', 'Network', 'HWType', 'Options', 'CDROM', 'Cloudinit'];
const IN_POOL = [
  ...[
    'VM.Allocate',
    'VM.Clone',
    'VM.Audit',
    'VM.PowerMgmt',
    'VM.GuestAgent.Audit',
    'Pool.Audit',
    'Pool.Allocate',
  ],
  ...CONFIG.map((what) => `VM.Config.${what}`),
];

/** An empty cluster with one template, and a pool and a minimal token for each deployment. */
export const deploymentWorld = (names: readonly string[]): SimulatorSettings['world'] => ({
  guests: [],
  pools: names.map((name) => `hatchery-${name}`),
  tokens: names.map((name) => ({
    id: tokenId(name),
    acl: [
      { path: '/', privileges: ['Sys.Audit'] },
      { path: '/vms', privileges: ['VM.Audit'] },
      { path: '/vms/9000', privileges: ['VM.Audit', 'VM.Clone'] },
      { path: '/pool', privileges: ['Pool.Audit'] },
      { path: `/pool/hatchery-${name}`, privileges: IN_POOL },
      { path: '/storage/ceph', privileges: ['Datastore.AllocateSpace', 'Datastore.Audit'] },
      { path: '/sdn/zones/localnetwork', privileges: ['SDN.Use'] },
    ],
  })),
});

export function deploymentToken({ world }: Simulators, name: string): { id: string; secret: string } {
  const { id, secret } = world.tokens.get(tokenId(name))!;
  return { id, secret };
}

const tokenId = (name: string): string => `hatchery@pve!${name}`;
