import { isPoolOfOthers } from '../../../core/foreign-deployment.js';
import { parseMark } from '../../../core/mark.js';
import { countVmids } from '../../../core/vmids.js';
import type { CheckFinding, GuestInfo, IntendedUse } from '../../../ports/hypervisor.js';
import { readAs, type Cluster } from '../cluster.js';
import { reasonOf } from '../errors.js';
import { guestPath, KINDS } from '../guest-kind.js';
import type { ClusterReads } from '../inventory.js';
import { readRights } from '../standing.js';
import { markedConfig, volumes } from '../wire.js';
import type { UsedStorage } from './check-storages.js';
import { bad, doubtful, good, listed } from '../../findings.js';

/** Configs read in one check: guests that our own machines hold are never read. */
const READS_PER_CHECK = 50;
const LOW_SHARE = 0.1;

export async function checkPool(
  cluster: Cluster,
  reads: ClusterReads,
  signal: AbortSignal,
): Promise<readonly CheckFinding[]> {
  const { pool } = cluster.definition;
  const subject = `pool ${pool}`;
  const members = await reads.poolIfSeen(0, signal);
  if (members !== undefined)
    return [good(subject, `${members.size} ${members.size === 1 ? 'guest is' : 'guests are'} in it`)];
  return [bad(subject, 'there is no such pool, or we may not see it', `pveum pool add ${pool}`)];
}

/** The range of VMIDs: its room, and who else lives in it or in our pool. */
export async function checkRange(
  cluster: Cluster,
  reads: ClusterReads,
  use: IntendedUse,
  signal: AbortSignal,
): Promise<readonly CheckFinding[]> {
  const { vmids, pool } = cluster.definition;
  const { guests } = await reads.map(0, signal);
  const strangers = guests.filter(
    ({ vmid, pool: of }) => !use.vmids.has(vmid) && ((vmid >= vmids.from && vmid <= vmids.to) || of === pool),
  );
  const candidates = strangers.filter((guest) => !guest.template);
  const looks = await Promise.all(
    candidates.slice(0, READS_PER_CHECK).map((guest) => lookAt(cluster, guest, signal)),
  );
  const of = (kind: Look['kind']): Look[] => looks.filter((look) => look.kind === kind);
  const plain = [
    ...of('stranger').map(({ guest }) => guest),
    ...strangers.filter((guest) => !candidates.includes(guest)),
  ];
  const unread = candidates.length - READS_PER_CHECK;
  return [
    room(cluster, guests, use),
    ...of('orphan').map(({ guest }) => orphan(guest)),
    ...foreign(cluster, [...of('foreign'), ...plain.flatMap((guest) => byPool(guest, pool))]),
    ...beside(cluster, plain),
    ...(unread > 0
      ? [
          doubtful(
            subjectOf(cluster),
            `${unread} more guests in it are not ours and were not looked at`,
            'choose a range in which nobody else makes guests',
          ),
        ]
      : []),
  ];
}

interface Look {
  readonly guest: GuestInfo;
  readonly kind: 'orphan' | 'foreign' | 'stranger';
  readonly by?: string;
}

async function lookAt(cluster: Cluster, guest: GuestInfo, signal: AbortSignal): Promise<Look> {
  const { vmid, node, kind } = guest;
  const path = `${guestPath(node, kind, vmid)}/config`;
  const request = { op: 'guest-config', what: `read the config of guest ${vmid} on ${node}`, path };
  try {
    const mark = parseMark((await readAs(cluster, markedConfig, request, signal)).description);
    // A copied description names another guest: it proves nothing about this one.
    if (mark?.vmid !== vmid) return { guest, kind: 'stranger' };
    if (mark.deployment === cluster.deployment) return { guest, kind: 'orphan' };
    return { guest, kind: 'foreign', by: `mark of deployment ${mark.deployment}` };
  } catch (error) {
    // Deleted meanwhile, or on a node that has a finding of its own.
    if (['config-missing', 'node-unreachable'].includes(reasonOf(error) ?? ''))
      return { guest, kind: 'stranger' };
    throw error;
  }
}

const subjectOf = ({ definition: { vmids } }: Cluster): string => `VMIDs ${vmids.from}-${vmids.to}`;

function room(cluster: Cluster, guests: readonly GuestInfo[], use: IntendedUse): CheckFinding {
  const used = new Set([...use.vmids, ...guests.map(({ vmid }) => vmid)]);
  const { free, total, used: taken, resting } = countVmids(cluster.definition.vmids, used, use.restingVmids);
  const detail = `${free} of ${total} free, ${taken} used, ${resting} resting`;
  const remedy = `widen vmids in clusters/${cluster.definition.name}.yaml, or delete machines that nobody needs`;
  const subject = subjectOf(cluster);
  if (free === 0) return bad(subject, detail, remedy);
  return free < total * LOW_SHARE ? doubtful(subject, detail, remedy) : good(subject, detail);
}

function orphan({ vmid, node, kind }: GuestInfo): CheckFinding {
  const { tool } = KINDS[kind];
  return doubtful(
    `guest ${vmid} on ${node}`,
    'it bears our mark, and no machine of ours counts on it',
    `its undo is opened again by itself within minutes; if it stays, look at it (${tool} config ${vmid}) and delete it: ${tool} destroy ${vmid} --purge`,
  );
}

function byPool(guest: GuestInfo, pool: string): Look[] {
  return isPoolOfOthers(guest.pool, pool) ? [{ guest, kind: 'foreign', by: `pool ${guest.pool}` }] : [];
}

function foreign(cluster: Cluster, looks: readonly Look[]): CheckFinding[] {
  if (looks.length === 0) return [];
  return [
    bad(
      subjectOf(cluster),
      `another Hatchery deployment has guests in it: ${listed(looks.map(({ guest, by }) => `${guest.vmid} (${by})`))}; nothing is dispatched while they are there`,
      `find out who runs it, and give each deployment a range of its own: vmids in clusters/${cluster.definition.name}.yaml`,
    ),
  ];
}

/** No fault: their ids are left out. It is said because a range of one's own is quieter. */
function beside(cluster: Cluster, guests: readonly GuestInfo[]): CheckFinding[] {
  const { pool, name } = cluster.definition;
  const inPool = guests.filter((guest) => guest.pool === pool);
  const inRange = guests.filter((guest) => guest.pool !== pool && !isPoolOfOthers(guest.pool, pool));
  const spoken = (all: readonly GuestInfo[]): string =>
    listed(all.map(({ kind, vmid, node }) => `${kind} ${vmid} on ${node}`));
  return [
    ...(inPool.length === 0
      ? []
      : [
          doubtful(
            `pool ${pool}`,
            `it holds guests that bear no mark of ours: ${spoken(inPool)}; they are never touched, though the token could`,
            `pvesh set /pools --poolid ${pool} --vms ${inPool.map(({ vmid }) => vmid).join(',')} --delete 1`,
          ),
        ]),
    ...(inRange.length === 0
      ? []
      : [
          doubtful(
            subjectOf(cluster),
            `guests of others live in it: ${spoken(inRange)}; they are never touched, their VMIDs are left out`,
            `give ${name} a range of its own, or ask the others to leave this one`,
          ),
        ]),
  ];
}

/**
 * Disks that a failed clone or a crash left behind: they keep a VMID's name without a guest. A list shows the disks of others, and of guests
 * that are gone, only to somebody who may allocate the whole storage, which our token had better not.
 */
export async function checkVolumes(
  cluster: Cluster,
  reads: ClusterReads,
  used: readonly UsedStorage[],
  use: IntendedUse,
  signal: AbortSignal,
): Promise<readonly CheckFinding[]> {
  const { vmids } = cluster.definition;
  const before = await reads.map(2_000, signal);
  const shared = new Set(before.storages.filter((storage) => storage.shared).map(({ id }) => id));
  const online = new Set(before.usedNodes.filter((node) => node.online).map(({ name }) => name));
  const rights = await readRights(cluster, signal);
  const isShown = ({ id }: UsedStorage): boolean =>
    rights.get(`/storage/${id}`)?.has('Datastore.Allocate') ??
    rights.get('/storage')?.has('Datastore.Allocate') ??
    false;
  const found: { volid: string; vmid: number }[] = [];
  for (const { id, nodes, contents } of used.filter(isShown))
    for (const node of nodes.filter((name) => online.has(name)).slice(0, shared.has(id) ? 1 : undefined))
      for (const content of contents) {
        const path = `/nodes/${node}/storage/${id}/content`;
        const what = `list the disks of storage ${id} on ${node}`;
        const request = { op: 'storage-content', what, path, query: { content } };
        for (const { volid, vmid } of await readAs(cluster, volumes, request, signal))
          if (vmid !== undefined && vmid >= vmids.from && vmid <= vmids.to) found.push({ volid, vmid });
      }
  // Read after the volumes: a guest that was made meanwhile is in it.
  const { guests } = await reads.map(0, signal);
  const there = new Set(guests.map(({ vmid }) => vmid));
  const left = found.filter(({ vmid }) => !there.has(vmid) && !use.vmids.has(vmid));
  const hidden = used.filter((storage) => !isShown(storage));
  if (left.length === 0) return hidden.length === 0 ? [] : [notShown(hidden, vmids)];
  return [
    doubtful(
      'leftovers',
      `disks of our range whose guest is gone: ${listed(left.map(({ volid }) => volid))}`,
      left
        .slice(0, 8)
        .map(({ volid }) => `pvesm free ${volid}`)
        .join('; '),
    ),
  ];
}

function notShown(
  storages: readonly UsedStorage[],
  { from, to }: { from: number; to: number },
): CheckFinding {
  const lists = storages
    .flatMap(({ id, contents }) => contents.map((content) => `pvesm list ${id} --content ${content}`))
    .join('; ');
  return {
    ok: true,
    subject: 'leftovers',
    detail: `disks without a guest on ${listed(storages.map(({ id }) => id))} are not shown to us (that takes Datastore.Allocate); root sees those of ${from}-${to}:`,
    remedy: `(${lists}) | awk '$NF >= ${from} && $NF <= ${to}'`,
  };
}
