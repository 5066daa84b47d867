import { createHash } from 'node:crypto';
import { HatcheryError } from '../../core/errors.js';
import type { CloneRequest, GuestInfo, GuestKind, Inventory, TemplateInfo } from '../../ports/hypervisor.js';
import { readAs, type Cluster } from './cluster.js';
import { foreignMounts, volumesOf } from './container-config.js';
import { reasonOf } from './errors.js';
import { drivesOf, isAgentEnabled, type GuestConfig } from './guest-config.js';
import { guestPath, KINDS } from './guest-kind.js';
import type { ClusterReads } from './inventory.js';
import { SharedRead } from './shared-read.js';
import type { Tasks } from './tasks.js';
import { parseUpid } from './upid.js';
import { containerConfig, guestStatus, vmConfig, type ContainerConfig, type VmConfig } from './wire.js';

const MAP_AGE_MS = 2_000;
const CONFIG_AGE_MS = 15_000;

/** Templates by name, and the check that a pinned one is still what it was. A class of clones shares one config read every 15 s, and a refusal reads anew. */
export class Templates {
  readonly #cluster: Cluster;
  readonly #reads: ClusterReads;
  readonly #tasks: Tasks;
  readonly #configs = new Map<string, SharedRead<GuestConfig>>();
  /** A faster cluster makes more of a class in that time: it is asked more often. */
  readonly #configAgeMs: number;

  constructor(cluster: Cluster, reads: ClusterReads, tasks: Tasks) {
    this.#cluster = cluster;
    this.#reads = reads;
    this.#tasks = tasks;
    this.#configAgeMs = CONFIG_AGE_MS * cluster.remoteTimeScale;
  }

  /** Copies by name, lowest VMID first. Errors: `not-found` (nobody has one of the names, or it is unclear who is meant by one). */
  async byNames(
    kind: GuestKind,
    names: readonly string[],
    signal: AbortSignal,
  ): Promise<readonly TemplateInfo[]> {
    const map = await this.#reads.map(MAP_AGE_MS, signal);
    const rows = map.guests
      .filter((guest) => guest.template && guest.kind === kind && names.includes(guest.name ?? ''))
      .sort((a, b) => a.vmid - b.vmid);
    if (rows.length === 0)
      throw new HatcheryError(
        'not-found',
        `Unable to find the template ${names.map((name) => `"${name}"`).join(' or ')}: no ${KINDS[kind].noun} template has this name`,
        {
          hint: `templates of the cluster: ${templateNames(map.guests.filter((guest) => guest.kind === kind))}`,
        },
      );
    const found = await Promise.all(rows.map((row) => this.#info(row, map, signal)));
    const infos = found.map(({ info }) => info);
    for (const name of names)
      if (kind === 'qemu') refuseAmbiguous(name, infos);
      else refuseUnlike(name, found);
    return infos;
  }

  async #info(
    row: GuestInfo,
    map: Inventory,
    signal: AbortSignal,
  ): Promise<{ info: TemplateInfo; seen: GuestConfig }> {
    const seen = await this.#config(row, row.vmid).get(this.#configAgeMs, signal);
    const { config } = seen;
    const drives = seen.kind === 'qemu' ? drivesOf(seen.config) : volumesOf(seen.config);
    const disk = seen.kind === 'qemu' ? mainDisk(seen.config) : 'rootfs';
    const main = disk === undefined ? undefined : drives.get(disk);
    const shared = new Set(map.storages.filter((storage) => storage.shared).map((storage) => storage.id));
    const info = {
      name: row.name ?? '',
      vmid: row.vmid,
      node: row.node,
      digest: copiedDigest(config),
      storage: main?.storage ?? '',
      storageShared: drives.size > 0 && [...drives.values()].every((drive) => shared.has(drive.storage)),
      disk: disk ?? '',
      diskGiB: main?.sizeGiB ?? 0,
      problems: [
        ...problemsOf(seen, this.#cluster.definition.hookScripts),
        ...(config.lock === undefined || isWhileCloned(seen) ? [] : [`it is locked (${config.lock})`]),
      ],
    };
    return { info, seen };
  }

  /**
   * Errors: `template-changed` when the template is gone, moved, or another than at plan time, or when a lock was left behind on it;
   * `lock-timeout` while a task may still hold its lock.
   */
  async verifyPinned(
    kind: GuestKind,
    template: CloneRequest['template'],
    signal: AbortSignal,
  ): Promise<void> {
    try {
      await this.#verify(kind, template, this.#configAgeMs, signal);
    } catch (error) {
      // What a class shares may be seconds old: whoever has just mended the template should not be told of its past.
      if (!(error instanceof HatcheryError) || error.code !== 'template-changed') throw error;
      await this.verifyNow(kind, template, signal);
    }
  }

  /** As `verifyPinned`, by a read that begins now. */
  verifyNow(kind: GuestKind, template: CloneRequest['template'], signal: AbortSignal): Promise<void> {
    return this.#verify(kind, template, 0, signal);
  }

  async #verify(
    kind: GuestKind,
    { vmid, node, digest }: CloneRequest['template'],
    maxAgeMs: number,
    signal: AbortSignal,
  ): Promise<void> {
    let seen: GuestConfig;
    try {
      seen = await this.#config({ node, kind }, vmid).get(maxAgeMs, signal);
    } catch (error) {
      if (reasonOf(error) !== 'config-missing') throw error;
      throw templateChanged(vmid, await this.#whereabouts(vmid, node, signal));
    }
    const { config } = seen;
    if (!config.template) throw templateChanged(vmid, await this.#noTemplate({ node, kind }, vmid, signal));
    // Of a lock that each clone of ours takes, only a look that is no older than the clone's refusal tells anything.
    if (config.lock !== undefined && !(maxAgeMs > 0 && isWhileCloned(seen)))
      await this.#refuseLocked({ node, kind }, vmid, config.lock, signal);
    const [problem] = problemsOf(seen, this.#cluster.definition.hookScripts);
    if (problem !== undefined) throw templateChanged(vmid, problem);
    if (copiedDigest(config) !== digest)
      throw templateChanged(vmid, 'its config is not the one that was planned with');
  }

  async #whereabouts(vmid: number, node: string, signal: AbortSignal): Promise<string> {
    const { guests } = await this.#reads.map(0, signal);
    const elsewhere = guests.find((guest) => guest.vmid === vmid && guest.node !== node);
    return elsewhere ? `it moved from ${node} to ${elsewhere.node}` : `it is not on ${node} any more`;
  }

  async #noTemplate(
    { node, kind }: Pick<GuestInfo, 'node' | 'kind'>,
    vmid: number,
    signal: AbortSignal,
  ): Promise<string> {
    const path = `${guestPath(node, kind, vmid)}/status/current`;
    const request = { op: 'guest-status', what: `read the status of template ${vmid}`, path };
    const { status } = await readAs(this.#cluster, guestStatus, request, signal);
    return status === 'running' ? 'it is no template any more, and it runs' : 'it is no template any more';
  }

  /** A backup of several guests names none of them in its task. */
  async #refuseLocked(
    { node, kind }: Pick<GuestInfo, 'node' | 'kind'>,
    vmid: number,
    lock: string,
    signal: AbortSignal,
  ): Promise<never> {
    const running = await this.#tasks.list(node, { source: 'active' }, signal);
    const holder = running.find((row) => {
      const task = parseUpid(row.upid);
      return task?.id === String(vmid) || (task?.type === 'vzdump' && task.id === '');
    });
    if (holder !== undefined)
      throw new HatcheryError('lock-timeout', `Unable to clone template ${vmid}: it is locked (${lock})`, {
        retry: 'later',
        hint: `wait for the task that holds the lock: ${holder.upid}`,
        facts: { reason: 'locked', lock },
      });
    throw new HatcheryError(
      'template-changed',
      `Unable to clone template ${vmid}: it is locked (${lock}), and no task on ${node} holds the lock`,
      {
        retry: 'after-fix',
        hint: `a crash left it behind; an admin unlocks it on ${node}: ${KINDS[kind].tool} unlock ${vmid}`,
        facts: { template: vmid, lock },
      },
    );
  }

  #config({ node, kind }: Pick<GuestInfo, 'node' | 'kind'>, vmid: number): SharedRead<GuestConfig> {
    const key = `${node}/${vmid}`;
    let shared = this.#configs.get(key);
    if (!shared) {
      const path = `${guestPath(node, kind, vmid)}/config`;
      const request = { op: 'template-read', what: `read the config of template ${vmid} on ${node}`, path };
      shared = new SharedRead<GuestConfig>(this.#cluster.clock, async (signal) =>
        kind === 'qemu'
          ? { kind, config: await readAs(this.#cluster, vmConfig, request, signal) }
          : { kind, config: await readAs(this.#cluster, containerConfig, request, signal) },
      );
      this.#configs.set(key, shared);
    }
    return shared;
  }
}

/** A clone of a container locks its source from its first to its last moment. */
const isWhileCloned = ({ kind, config }: GuestConfig): boolean => kind === 'lxc' && config.lock === 'disk';

/** A container template makes one clone at a time, so that sites keep several copies under one name: each must be what the others are. */
function refuseUnlike(name: string, found: readonly { info: TemplateInfo; seen: GuestConfig }[]): void {
  const same = found.filter(({ info }) => info.name === name);
  const contents = new Set(same.map(({ seen }) => copiedDigest({ ...seen.config, rootfs: undefined })));
  if (contents.size <= 1) return;
  throw new HatcheryError(
    'not-found',
    `Unable to find the template "${name}": ${same.map(({ info }) => `${info.vmid} on ${info.node}`).join(' and ')} have this name, and their settings differ`,
    { hint: 'make them copies of one another, or rename all but those that are' },
  );
}

/** One name on several nodes is a template with a copy on each, as long as none of them can stand for the others elsewhere. */
function refuseAmbiguous(name: string, found: readonly TemplateInfo[]): void {
  const same = found.filter((template) => template.name === name);
  const nodes = new Set(same.map(({ node }) => node));
  if (same.length <= 1 || (nodes.size === same.length && same.every((template) => !template.storageShared)))
    return;
  throw new HatcheryError(
    'not-found',
    `Unable to find the template "${name}": ${same.map((one) => `${one.vmid} on ${one.node}`).join(' and ')} have this name`,
    {
      hint: 'rename all but one of them; copies that share a storage get a name each, listed in the blueprint',
    },
  );
}

function templateChanged(vmid: number, why: string): HatcheryError {
  return new HatcheryError('template-changed', `Unable to clone template ${vmid}: ${why}`, {
    retry: 'after-fix',
    hint: 'put the template back as it was, or delete these machines and create them again',
    facts: { template: vmid },
  });
}

function templateNames(guests: readonly { template: boolean; name: string | undefined }[]): string {
  const names = guests.flatMap((guest) => (guest.template && guest.name ? [guest.name] : []));
  return names.length === 0 ? 'none' : names.sort().join(', ');
}

/** Keys that a clone does not take over, or gets new. */
const NOT_COPIED = new Set([
  'digest',
  'name',
  'hostname',
  'description',
  'smbios1',
  'vmgenid',
  'meta',
  'lock',
  'template',
  'parent',
  'snaptime',
]);

/** sha256 over what a clone copies: every other key, network devices without their MAC. */
export function copiedDigest(config: Readonly<Record<string, unknown>>): string {
  const lines = Object.entries(config)
    .filter(([key, value]) => value !== undefined && !NOT_COPIED.has(key) && !/^unused[0-9]+$/.test(key))
    .map(([key, value]) => {
      const text = typeof value === 'boolean' ? String(Number(value)) : String(value);
      return `${key}: ${/^net[0-9]+$/.test(key) ? text.replace(/=([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}/, '') : text}`;
    })
    .sort();
  return createHash('sha256').update(lines.join('\n')).digest('hex');
}

/** The first drive of the boot order that holds a disk, else the first disk by bus. */
function mainDisk(config: VmConfig): string | undefined {
  const disks = [...drivesOf(config)].filter(
    ([key, drive]) => !drive.isCloudInit && /^(scsi|virtio|sata|ide)/.test(key),
  );
  const order = /order=([^,]*)/.exec(config.boot ?? '')?.[1]?.split(';') ?? [config.bootdisk ?? ''];
  return order.find((key) => disks.some(([disk]) => disk === key)) ?? disks[0]?.[0];
}

/** What makes clones of this template fail later; each a sentence. */
function problemsOf(seen: GuestConfig, hookScripts: readonly string[]): string[] {
  const hooks = hooksOf(seen).filter((hook) => !hookScripts.includes(hook));
  return [
    ...(seen.kind === 'qemu' ? vmProblems(seen.config) : containerProblems(seen.config)),
    ...hooks.map(
      (hook) => `it carries the hook script ${hook}, which is not in hookScripts of the cluster’s file`,
    ),
  ];
}

/** What runs as root on a node and comes along with every clone. */
function hooksOf({ kind, config }: GuestConfig): string[] {
  const lines = kind === 'lxc' ? (config.lxc ?? []) : [];
  return [
    ...(config.hookscript === undefined ? [] : [config.hookscript]),
    ...lines.flatMap(([key, value]) => (key.startsWith('lxc.hook.') ? [value] : [])),
  ];
}

function containerProblems(config: ContainerConfig): string[] {
  const mounts = foreignMounts(config);
  return [
    ...(volumesOf(config).has('rootfs') ? [] : ['it has no root disk']),
    ...(config.unprivileged ? [] : ['it is privileged']),
    ...(mounts.length === 0
      ? []
      : [`it mounts paths of its node (${mounts.join(', ')}), and such containers cannot be cloned`]),
  ];
}

function vmProblems(config: VmConfig): string[] {
  const drives = [...drivesOf(config).values()];
  const cloudInits = drives.filter((drive) => drive.isCloudInit).length;
  return [
    ...(drives.some((drive) => !drive.isCloudInit) ? [] : ['it has no disk']),
    ...(cloudInits === 1 ? [] : [`it has ${cloudInits} cloud-init drives instead of one`]),
    ...(isAgentEnabled(config.agent) ? [] : ['the guest agent is not enabled']),
  ];
}
