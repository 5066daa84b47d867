import { clusterIdentity } from '../../core/definitions.js';
import { HatcheryError } from '../../core/errors.js';
import type { CheckFinding } from '../../ports/hypervisor.js';
import { readAs, type Cluster } from './cluster.js';
import type { ClusterMap, ClusterReads } from './inventory.js';
import { aclCommand, missingRights, outsideFindings } from './rights.js';
import { outsideWrites, readRights } from './standing.js';
import { permissions, pools, version } from './wire.js';

/** Everything that the first real cluster needs, as findings whose remedies are commands for root on a node. */
export async function checkCluster(
  cluster: Cluster,
  reads: ClusterReads,
  signal: AbortSignal,
): Promise<readonly CheckFinding[]> {
  const endpoints = await Promise.all(
    cluster.definition.endpoints.map((endpoint) => checkEndpoint(cluster, endpoint, signal)),
  );
  if (endpoints.every((finding) => !finding.ok)) return endpoints;
  const rest = await Promise.all([
    guarded('quorum', signal, () => checkQuorum(reads, signal)),
    guarded('rights', signal, () => checkRights(cluster, reads, signal)),
    guarded('pool', signal, () => checkPool(cluster, signal)),
    guarded('VMIDs', signal, () => checkRange(cluster, reads, signal)),
    guarded('templates', signal, () => checkTemplates(cluster, reads, signal)),
  ]);
  return [...endpoints, ...rest.flat()];
}

/** A check that cannot be made is a finding too. */
async function guarded(
  subject: string,
  signal: AbortSignal,
  check: () => Promise<readonly CheckFinding[]>,
): Promise<readonly CheckFinding[]> {
  try {
    return await check();
  } catch (error) {
    if (signal.aborted || !(error instanceof HatcheryError)) throw error;
    return [
      { ok: false, subject, detail: error.message, ...(error.hint !== undefined && { remedy: error.hint }) },
    ];
  }
}

async function checkEndpoint(cluster: Cluster, endpoint: string, signal: AbortSignal): Promise<CheckFinding> {
  const subject = `endpoint ${endpoint}`;
  const [finding] = await guarded(subject, signal, async () => {
    const request = { op: 'version', what: `reach ${endpoint}`, path: '/version' };
    const answer = await cluster.http.readFrom(endpoint, request, signal);
    const text = version.safeParse(answer.data).data?.version ?? 'unknown';
    const [major = 0, minor = 0] = text.split('.').map(Number);
    const isKnown = major > 8 || (major === 8 && minor >= 1);
    const detail = `Proxmox VE ${text}`;
    return isKnown
      ? [{ ok: true, subject, detail }]
      : [{ ok: false, subject, detail, remedy: 'update the cluster to Proxmox VE 8.1 or later' }];
  });
  return finding!;
}

async function checkQuorum(reads: ClusterReads, signal: AbortSignal): Promise<readonly CheckFinding[]> {
  const subject = 'quorum';
  const map = await reads.map(0, signal);
  const offline = map.allNodes.filter((node) => !node.online).map((node) => node.name);
  const nodes = offline.map((name) => ({
    ok: false,
    subject: `node ${name}`,
    detail: 'the node is offline',
    remedy: `bring ${name} back, or take it out of placement with nodes: { exclude: [${name}] }`,
  }));
  if (await reads.quorate(0, signal))
    return [{ ok: true, subject, detail: 'the cluster has quorum' }, ...nodes];
  const remedy = 'see on a node: pvecm status';
  return [
    { ok: false, subject, detail: 'the cluster has no quorum: nothing can be written', remedy },
    ...nodes,
  ];
}

async function checkRights(
  cluster: Cluster,
  reads: ClusterReads,
  signal: AbortSignal,
): Promise<readonly CheckFinding[]> {
  const { pool } = cluster.definition;
  const { id, mayWriteOutsidePool } = clusterIdentity(cluster.definition);
  const findings = [
    ...outsideFindings(await outsideWrites(cluster, reads, signal), id, mayWriteOutsidePool),
    ...missingRights(await readRights(cluster, signal), id, pool),
  ];
  const detail = `${id} reads the cluster and writes guests only through the pool ${pool}`;
  return findings.length > 0 ? findings : [{ ok: true, subject: 'rights', detail }];
}

async function checkPool(cluster: Cluster, signal: AbortSignal): Promise<readonly CheckFinding[]> {
  const { pool } = cluster.definition;
  const subject = `pool ${pool}`;
  const request = { op: 'pool', what: 'list the pools', path: '/pools' };
  const found = (await readAs(cluster, pools, request, signal)).some((entry) => entry.poolid === pool);
  return found
    ? [{ ok: true, subject, detail: 'the pool is there' }]
    : [
        {
          ok: false,
          subject,
          detail: 'there is no such pool, or the token may not see it',
          remedy: `pveum pool add ${pool}`,
        },
      ];
}

async function checkRange(
  cluster: Cluster,
  reads: ClusterReads,
  signal: AbortSignal,
): Promise<readonly CheckFinding[]> {
  const { vmids, pool } = cluster.definition;
  const subject = `VMIDs ${vmids.from}-${vmids.to}`;
  const map = await reads.map(2_000, signal);
  const foreign = foreignInRange(map, vmids, pool);
  if (foreign.length === 0) return [{ ok: true, subject, detail: 'no guest of others lives in the range' }];
  const shown = foreign.slice(0, 10).map((guest) => `${guest.kind} ${guest.vmid} on ${guest.node}`);
  const more = foreign.length > shown.length ? ` and ${foreign.length - shown.length} more` : '';
  return [
    {
      // No fault: the ids are left out. It is said because a range of one's own is quieter.
      ok: true,
      subject,
      detail: `guests of others live in the range: ${shown.join(', ')}${more}; they are never touched, their VMIDs are left out`,
    },
  ];
}

function foreignInRange(map: ClusterMap, range: { from: number; to: number }, pool: string) {
  return map.guests.filter(
    (guest) => guest.vmid >= range.from && guest.vmid <= range.to && guest.pool !== pool && !guest.template,
  );
}

async function checkTemplates(
  cluster: Cluster,
  reads: ClusterReads,
  signal: AbortSignal,
): Promise<readonly CheckFinding[]> {
  const { id } = clusterIdentity(cluster.definition);
  const map = await reads.map(2_000, signal);
  const templates = map.guests.filter((guest) => guest.template && guest.kind === 'qemu').slice(0, 20);
  if (templates.length === 0)
    return [
      {
        ok: false,
        subject: 'templates',
        detail: 'the token sees no template',
        remedy: 'make one (qm template <VMID>) and let the token read it: see the remedy of VM.Audit on /vms',
      },
    ];
  return Promise.all(
    templates.map(async (template) => {
      const path = `/vms/${template.vmid}`;
      const what = `read the rights on template ${template.vmid}`;
      const request = { op: 'permissions', what, path: '/access/permissions', query: { path } };
      const held = (await readAs(cluster, permissions, request, signal))[path] ?? {};
      const subject = `template ${template.vmid} (${template.name ?? 'no name yet'}) on ${template.node}`;
      if ('VM.Clone' in held) return { ok: true, subject, detail: 'the token may clone it' };
      return {
        ok: false,
        subject,
        detail: 'the token may not clone it (VM.Clone is missing)',
        remedy: aclCommand(path, id, 'PVETemplateUser'),
      };
    }),
  );
}
