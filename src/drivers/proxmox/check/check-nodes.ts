import type { Trust } from '../../../core/definitions.js';
import type { CheckFinding } from '../../../ports/hypervisor.js';
import { readAs, type Cluster } from '../cluster.js';
import { reasonOf } from '../errors.js';
import type { ClusterReads } from '../inventory.js';
import { certificates, nodeStatus, nodeTime, version } from '../wire.js';
import { bad, doubtful, good, guarded } from '../../findings.js';

/** Task lists are searched by time: a clock that is further off hides our own tasks from us. */
const CLOCK_LIMIT_S = 30;
const DAY_S = 86_400;
const EXPIRY_WARNING_DAYS = 30;
/** The first of them that a node has is the one that it shows. */
const SHOWN_CERTIFICATES = ['pveproxy-ssl.pem', 'pve-ssl.pem'];

/** Each way in, asked by itself: fail-over would hide one that is down. */
export async function checkEndpoints(
  cluster: Cluster,
  signal: AbortSignal,
): Promise<readonly CheckFinding[]> {
  const findings = cluster.definition.endpoints.map((endpoint) => {
    const subject = `endpoint ${endpoint}`;
    return guarded(subject, signal, async () => {
      const request = { op: 'version', what: `reach ${endpoint}`, path: '/version' };
      const answer = await cluster.http.readFrom(endpoint, request, signal);
      return [good(subject, `Proxmox VE ${version.safeParse(answer.data).data?.version ?? 'unknown'}`)];
    });
  });
  return (await Promise.all(findings)).flat();
}

export async function checkNodes(
  cluster: Cluster,
  reads: ClusterReads,
  signal: AbortSignal,
): Promise<readonly CheckFinding[]> {
  const { nodes } = await reads.map(0, signal);
  const excluded = new Set(cluster.definition.nodes.exclude);
  const looks = await Promise.all(
    nodes.map(({ name, online }) => lookAtNode(cluster, name, online, excluded.has(name), signal)),
  );
  const versions = new Map(
    looks.flatMap(({ node, release }) => (release === undefined ? [] : [[node, release] as const])),
  );
  const mixed = new Set(versions.values()).size > 1;
  return [
    ...(await checkQuorum(reads, signal)),
    ...looks.flatMap(({ findings }) => findings),
    ...[...excluded]
      .filter((name) => !nodes.some((node) => node.name === name))
      .map((name) =>
        bad(
          `node ${name}`,
          'nodes.exclude names it, and the cluster has no such node',
          `write names of the cluster's nodes: ${nodes.map((node) => node.name).join(', ')}`,
        ),
      ),
    ...(mixed
      ? [
          doubtful(
            'versions',
            `the nodes run different versions: ${[...versions].map(([node, release]) => `${node} ${release}`).join(', ')}`,
            'finish the update: apt update && apt dist-upgrade on the older nodes',
          ),
        ]
      : []),
  ];
}

async function checkQuorum(reads: ClusterReads, signal: AbortSignal): Promise<readonly CheckFinding[]> {
  if (await reads.quorate(0, signal)) return [good('quorum', 'the cluster has quorum')];
  return [
    bad(
      'quorum',
      'the cluster has no quorum: nothing can be written',
      'see on a node which are missing: pvecm status',
    ),
  ];
}

interface NodeLook {
  readonly node: string;
  readonly release: string | undefined;
  readonly findings: readonly CheckFinding[];
}

async function lookAtNode(
  cluster: Cluster,
  node: string,
  isOnline: boolean,
  isExcluded: boolean,
  signal: AbortSignal,
): Promise<NodeLook> {
  const subject = `node ${node}`;
  let release: string | undefined;
  const findings = await guarded(subject, signal, async () => {
    try {
      const { pveversion } = await readNode(cluster, node, nodeStatus, 'status', signal);
      release = pveversion.split('/')[1] ?? pveversion;
    } catch (error) {
      if (reasonOf(error) !== 'node-unreachable' && isOnline) throw error;
      return [offline(node, isOnline, isExcluded)];
    }
    return [
      checkedVersion(subject, release),
      ...(await guarded(`clock of ${node}`, signal, () => checkClock(cluster, node, signal))),
      ...(await guarded(`certificate of ${node}`, signal, () => checkCertificate(cluster, node, signal))),
    ];
  });
  return { node, release, findings };
}

function offline(node: string, isOnline: boolean, isExcluded: boolean): CheckFinding {
  const subject = `node ${node}`;
  const detail = isOnline
    ? 'the other nodes cannot reach it (status 595), though the cluster counts it as online'
    : 'the node is offline';
  if (isExcluded) return doubtful(subject, `${detail}; placement leaves it out`, `bring ${node} back`);
  return bad(
    subject,
    detail,
    `bring ${node} back (see there: systemctl status pveproxy pvedaemon), or take it out of placement with nodes: { exclude: [${node}] }`,
  );
}

function checkedVersion(subject: string, release: string): CheckFinding {
  const [major = 0, minor = 0] = release.split('.').map(Number);
  const isKnown = major > 8 || (major === 8 && minor >= 1);
  return isKnown
    ? good(subject, `Proxmox VE ${release}`)
    : bad(subject, `Proxmox VE ${release} is too old`, 'update the cluster to Proxmox VE 8.1 or later');
}

/** The answer was made somewhere between question and answer: only what that cannot explain counts. */
async function checkClock(
  cluster: Cluster,
  node: string,
  signal: AbortSignal,
): Promise<readonly CheckFinding[]> {
  const askedS = cluster.clock.wallMs() / 1000;
  const { time } = await readNode(cluster, node, nodeTime, 'time', signal);
  const answeredS = cluster.clock.wallMs() / 1000;
  // Their second is a whole one.
  const offS = time + 1 < askedS ? askedS - time : Math.max(0, time - answeredS);
  const subject = `clock of ${node}`;
  if (offS <= CLOCK_LIMIT_S) return [good(subject, 'it agrees with ours')];
  const which = time < askedS ? 'behind' : 'ahead of';
  return [
    bad(
      subject,
      `it is ${Math.round(offS)} s ${which} ours: tasks are found by their time`,
      'find out which one is wrong, here and there: chronyc tracking; then: systemctl restart chrony',
    ),
  ];
}

async function checkCertificate(
  cluster: Cluster,
  node: string,
  signal: AbortSignal,
): Promise<readonly CheckFinding[]> {
  const subject = `certificate of ${node}`;
  const known = await readNode(cluster, node, certificates, 'certificates/info', signal);
  const shown = SHOWN_CERTIFICATES.map((name) => known.find(({ filename }) => filename === name)).find(
    Boolean,
  );
  if (shown === undefined)
    return [
      doubtful(subject, 'the node does not say which one it shows', `see on ${node}: pvenode cert info`),
    ];
  const { fingerprint, issuer, notafter } = shown;
  const distrust =
    fingerprint === undefined ? undefined : distrustOf(cluster.definition.trust, node, fingerprint);
  if (distrust !== undefined)
    return [
      bad(
        subject,
        distrust,
        `compare on ${node}: pvenode cert info; then write fingerprints: { ${node}: "${fingerprint}" }`,
      ),
    ];
  if (notafter === undefined) return [good(subject, `issued by ${commonName(issuer)}`)];
  const days = Math.floor((notafter - cluster.clock.wallMs() / 1000) / DAY_S);
  const renew = `on ${node}: pvecm updatecerts --force && systemctl restart pveproxy (own certificates: pvenode acme cert renew)`;
  if (days < 0) return [bad(subject, `it ended ${-days} days ago`, renew)];
  if (days < EXPIRY_WARNING_DAYS) return [doubtful(subject, `it ends in ${days} days`, renew)];
  return [good(subject, `good for ${days} days, issued by ${commonName(issuer)}`)];
}

/** `/O=Proxmox Virtual Environment/CN=Cluster Manager CA` is said shorter. */
function commonName(issuer: string | undefined): string {
  return /\/CN=([^/]+)/.exec(issuer ?? '')?.[1] ?? issuer ?? 'nobody named';
}

/** Why an endpoint on this node would not be trusted. A certificate authority is proved by the endpoints themselves. */
function distrustOf(trust: Trust, node: string, fingerprint: string): string | undefined {
  const isSame = (pin: string): boolean => pin.toUpperCase() === fingerprint.toUpperCase();
  if (!('fingerprints' in trust)) return undefined;
  const pin = trust.fingerprints[node];
  if (pin !== undefined && !isSame(pin))
    return `it has the fingerprint ${fingerprint}, and not the pinned one`;
  if (pin === undefined && !Object.values(trust.fingerprints).some(isSame))
    return `it has the fingerprint ${fingerprint}, which is not pinned`;
  return undefined;
}

function readNode<T>(
  cluster: Cluster,
  node: string,
  shape: Parameters<typeof readAs<T>>[1],
  what: string,
  signal: AbortSignal,
): Promise<T> {
  const request = { op: 'node-look', what: `read ${what} of node ${node}`, path: `/nodes/${node}/${what}` };
  return readAs(cluster, shape, request, signal);
}
