import { missingSubids, rangeText, type MappableIds } from '../../core/lxc/identities.js';
import type { CheckFinding } from '../../ports/hypervisor.js';
import type { NodeNeeds } from '../../ports/node-files.js';
import { bad, doubtful, good } from '../findings.js';

/** What `hatchery-node` tells of its node. */
export interface ToldOfNode {
  readonly node: string;
  readonly uid: number;
  readonly isProxmox: boolean;
  readonly hasQuorum: boolean;
}

interface Resolved {
  readonly path: string;
  readonly isDirectory: boolean;
  readonly mount: string;
}

export const REPORTS = '/var/lib/hatchery/reports';

/** Whether a node can be worked on. */
export function workFinding(node: string, cluster: string, told: ToldOfNode): CheckFinding {
  const subject = `SSH to ${node}`;
  if (told.node !== node)
    return bad(
      subject,
      `it is ${told.node} that answers there`,
      `correct addresses and hostKeys of the file of cluster ${cluster}`,
    );
  if (told.uid !== 0)
    return bad(
      subject,
      `our user has the id ${told.uid}: only root may write the configs of containers`,
      'write user: root, with a key that is restricted to hatchery-node',
    );
  if (!told.isProxmox)
    return bad(
      subject,
      `there is no /etc/pve/nodes/${node}: it is no node of a cluster`,
      'see on it: pvecm status; systemctl status pve-cluster',
    );
  if (!told.hasQuorum)
    return bad(subject, 'its /etc/pve is read-only: the cluster has no quorum', 'see on it: pvecm status');
  return good(subject, 'host key as pinned, root, /etc/pve can be written');
}

/** Whether containers may have the identities that the cluster's file allows; nothing when it allows none. */
export function identityFindings(
  node: string,
  { identities }: NodeNeeds,
  mappable: MappableIds,
): CheckFinding[] {
  if (identities.length === 0) return [];
  const subject = `identities on ${node}`;
  const { subuid, subgid } = missingSubids(identities, mappable);
  const commands = [
    ...subuid.map((line) => `echo ${line} >> /etc/subuid`),
    ...subgid.map((line) => `echo ${line} >> /etc/subgid`),
  ];
  if (commands.length === 0)
    return [good(subject, `root may map ${identities.map(rangeText).join(', ')} into containers`)];
  const files = [
    ...(subuid.length > 0 ? ['/etc/subuid'] : []),
    ...(subgid.length > 0 ? ['/etc/subgid'] : []),
  ];
  return [
    bad(
      subject,
      `${files.join(' and ')} ${files.length > 1 ? 'lack' : 'lacks'} them: no container with them starts there`,
      `on ${node}: ${commands.join('; ')}`,
    ),
  ];
}

/** Whether a share of homes is there. */
export function homesFinding(
  node: string,
  name: string,
  root: string,
  resolved: Resolved | undefined,
): CheckFinding {
  const subject = `homes ${name} on ${node}`;
  const remedy = `mount the share at ${root} on ${node}, in /etc/fstab or as a storage of the cluster`;
  if (resolved === undefined) return bad(subject, `${root} is missing`, remedy);
  if (!resolved.isDirectory) return bad(subject, `${root} is no folder`, remedy);
  if (resolved.mount === '/') return bad(subject, `nothing is mounted at ${root}`, remedy);
  return good(subject, `${resolved.path} is on what is mounted at ${resolved.mount}`);
}

/** A report is as large as its container makes it: where it can fill more than a file system of reports, it can fill that of the node. */
export function reportsFinding(node: string, resolved: Resolved | undefined): CheckFinding {
  const subject = `reports on ${node}`;
  if (resolved?.mount === resolved?.path && resolved?.path === REPORTS)
    return good(subject, `${REPORTS} is a file system of its own`);
  return doubtful(
    subject,
    `${REPORTS} is on the file system of the node, which a report of a container can fill`,
    `on ${node}: mkdir -p ${REPORTS}; echo 'tmpfs ${REPORTS} tmpfs size=32m,mode=0755 0 0' >> /etc/fstab; mount ${REPORTS}`,
  );
}
