import { need } from './auth.js';
import { nodeRow, RELEASES, usedMemoryMiB } from './cluster.js';
import type { PveCall, Route } from './pve.js';

const MIB = 1_048_576;
const GIB = 1_073_741_824;

export const nodeRoutes: readonly Route[] = [
  {
    method: 'GET',
    path: '/nodes',
    op: 'nodes.list',
    kind: 'read',
    params: {},
    handle: ({ pve }) => ({
      data: pve.world.nodes.map(({ name }) => ({
        ...nodeRow(pve, name),
        ssl_fingerprint: pve.fingerprints.get(name),
      })),
    }),
  },
  {
    method: 'GET',
    path: '/nodes/{node}/status',
    op: 'node.status',
    kind: 'read',
    params: {},
    permit: (account, path) => need(account, `/nodes/${path['node']}`, 'Sys.Audit'),
    handle: (call) => ({ data: statusOf(call) }),
  },
];

function statusOf({ pve, node: name }: PveCall): Record<string, unknown> {
  const node = pve.world.nodes.find((candidate) => candidate.name === name);
  const release = RELEASES[pve.world.version];
  const cores = node?.cores ?? 0;
  const total = (node?.memoryMiB ?? 0) * MIB;
  const used = usedMemoryMiB(pve, name) * MIB;
  return {
    uptime: Math.floor(pve.context.clock.elapsedMs() / 1000) + 86_400,
    cpu: 0.05,
    wait: 0,
    idle: 0,
    loadavg: ['0.50', '0.40', '0.30'],
    cpuinfo: {
      cpus: cores,
      cores: Math.ceil(cores / 2),
      sockets: 1,
      model: 'Simulated CPU',
      hvm: '1',
      mhz: '2400.000',
    },
    memory: { total, used, free: total - used },
    rootfs: { total: 96 * GIB, used: 8 * GIB, free: 88 * GIB, avail: 88 * GIB },
    swap: { total: 8 * GIB, used: 0, free: 8 * GIB },
    pveversion: `pve-manager/${release.version}/${release.repoid}`,
    kversion: 'Linux 6.17.2-1-pve',
    ksm: { shared: 0 },
  };
}
