import { X509Certificate } from 'node:crypto';
import { need } from './auth.js';
import { nodeUptime, usedMemoryMiB } from './broadcast.js';
import { RELEASES } from './cluster.js';
import { CERTIFICATES_INDEX, NODE_INDEX } from './indexes.js';
import type { PveCall, Route } from './pve.js';
import { nodeRows } from './resources.js';

const MIB = 1_048_576;
const GIB = 1_073_741_824;

const INTERFACE_TYPES = [
  ...['bridge', 'bond', 'eth', 'alias', 'vlan', 'fabric', 'OVSBridge', 'OVSBond', 'OVSPort', 'OVSIntPort'],
  ...['vnet', 'any_bridge', 'any_local_bridge', 'include_sdn'],
];

const permitAudit: Route['permit'] = (account, path) => need(account, `/nodes/${path['node']}`, 'Sys.Audit');

export const nodeRoutes: readonly Route[] = [
  {
    method: 'GET',
    path: '/nodes',
    op: 'nodes.list',
    kind: 'read',
    params: {},
    handle({ pve, account, node, worker }) {
      const rows = nodeRows(pve, account, pve.broadcast.read(`${node}/${worker}`));
      return {
        data: rows.map((row) => ({ ...row, ssl_fingerprint: pve.fingerprints.get(String(row['node'])) })),
      };
    },
  },
  {
    method: 'GET',
    path: '/nodes/{node}',
    op: 'node.index',
    kind: 'read',
    params: {},
    local: true,
    handle: ({ pve }) => ({ data: NODE_INDEX(pve.world.version) }),
  },
  {
    method: 'GET',
    path: '/nodes/{node}/status',
    op: 'node.status',
    kind: 'read',
    params: {},
    permit: permitAudit,
    handle: (call) => ({ data: statusOf(call) }),
  },
  {
    method: 'GET',
    path: '/nodes/{node}/version',
    op: 'node.version',
    kind: 'read',
    params: {},
    handle: ({ pve }) => ({ data: RELEASES[pve.world.version] }),
  },
  {
    method: 'GET',
    path: '/nodes/{node}/time',
    op: 'node.time',
    kind: 'read',
    params: {},
    permit: permitAudit,
    handle({ pve }) {
      const time = pve.context.clock.unixSeconds();
      return { data: { time, localtime: time, timezone: 'Etc/UTC' } };
    },
  },
  {
    method: 'GET',
    path: '/nodes/{node}/network',
    op: 'node.network',
    kind: 'read',
    params: { type: { type: 'string', optional: true, enum: INTERFACE_TYPES } },
    handle: listInterfaces,
  },
  {
    method: 'GET',
    path: '/nodes/{node}/certificates',
    op: 'node.certificates.index',
    kind: 'read',
    params: {},
    local: true,
    handle: () => ({ data: CERTIFICATES_INDEX }),
  },
  {
    method: 'GET',
    path: '/nodes/{node}/certificates/info',
    op: 'node.certificates',
    kind: 'read',
    params: {},
    handle: (call) => ({ data: certificatesOf(call) }),
  },
];

function statusOf({ pve, node: name }: PveCall): Record<string, unknown> {
  const node = pve.world.nodes.find((candidate) => candidate.name === name);
  const release = RELEASES[pve.world.version];
  const kernel = pve.world.version === '9.1' ? '6.17.2-1-pve' : '6.8.12-9-pve';
  const cores = node?.cores ?? 0;
  const total = (node?.memoryMiB ?? 0) * MIB;
  const used = usedMemoryMiB(pve.world.guests.values(), name) * MIB;
  return {
    uptime: nodeUptime(pve.context.clock.elapsedMs()),
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
    memory: {
      total,
      used,
      free: total - used,
      ...(pve.world.version === '9.1' ? { available: total - used } : {}),
    },
    rootfs: { total: 96 * GIB, used: 8 * GIB, free: 88 * GIB, avail: 88 * GIB },
    swap: { total: 8 * GIB, used: 0, free: 8 * GIB },
    pveversion: `pve-manager/${release.version}/${release.repoid}`,
    kversion: `Linux ${kernel}`,
    'current-kernel': {
      sysname: 'Linux',
      release: kernel,
      version: '#1 SMP PREEMPT_DYNAMIC PMX',
      machine: 'x86_64',
    },
    'boot-info': { mode: 'efi', secureboot: 0 },
    ksm: { shared: 0 },
  };
}

/** One card and the bridge on it. With a bridge filter only the bridges that the caller may use. */
function listInterfaces({ pve, node, account, params }: PveCall): { data: unknown } {
  const index = pve.world.nodes.findIndex(({ name }) => name === node);
  const address = `10.10.0.${index + 11}`;
  const type = params.text('type');
  const isBridge = ['bridge', 'any_bridge', 'any_local_bridge', 'include_sdn'].includes(type ?? '');
  const all = [
    { iface: 'eno1', type: 'eth', method: 'manual', exists: 1, active: 1, priority: 2 },
    {
      ...{ iface: 'vmbr0', type: 'bridge', method: 'static', active: 1, autostart: 1, priority: 3 },
      ...{ address, cidr: `${address}/24`, netmask: '24', gateway: '10.10.0.1' },
      ...{ bridge_ports: 'eno1', bridge_stp: 'off', bridge_fd: '0' },
    },
  ];
  const mayUse = account.at('/sdn/zones/localnetwork/vmbr0').has('SDN.Use');
  if (isBridge) return { data: all.filter((one) => one.type === 'bridge' && mayUse) };
  return { data: all.filter((one) => type === undefined || one.type === type) };
}

/** The authority's certificate and the node's own. */
function certificatesOf({ pve, node }: PveCall): unknown[] {
  const files = {
    'pve-root-ca.pem': pve.context.authority.caPem,
    'pve-ssl.pem': pve.context.authority.issue(node).certPem,
  };
  return Object.entries(files).map(([filename, pem]) => {
    const certificate = new X509Certificate(pem);
    return {
      filename,
      fingerprint: certificate.fingerprint256,
      issuer: nameOf(certificate.issuer),
      subject: nameOf(certificate.subject),
      notbefore: Math.floor(Date.parse(certificate.validFrom) / 1000),
      notafter: Math.floor(Date.parse(certificate.validTo) / 1000),
      'public-key-type': 'id-ecPublicKey',
      'public-key-bits': 256,
      san: (certificate.subjectAltName ?? '')
        .split(', ')
        .filter((entry) => entry !== '')
        .map((entry) => entry.replace(/^(DNS|IP Address):/, '')),
      pem,
    };
  });
}

/** `O=a\nCN=b` -> `/O=a/CN=b`. */
function nameOf(lines: string): string {
  return lines
    .split('\n')
    .map((line) => `/${line}`)
    .join('');
}
