import type { SnippetVolumes } from '../../core/cloud-init/snippets.js';
import { HatcheryError } from '../../core/errors.js';
import type { Call } from '../../ports/call.js';
import type {
  ContainerSettings,
  GuestRef,
  GuestSettings,
  OwnGuest,
  TaskRef,
} from '../../ports/hypervisor.js';
import { addressOf, ofContainer } from './address.js';
import { readAs, writeAs, type Cluster } from './cluster.js';
import { containerChange, volumesOf } from './container-config.js';
import { reasonOf } from './errors.js';
import { drivesOf, incarnationOf, settingsChange } from './guest-config.js';
import { guestPath } from './guest-kind.js';
import type { GuestPlace, GuestReads, Owned } from './guests.js';
import { phoneHomeKeys } from './phone-home.js';
import { withSnippets } from './snippets.js';
import {
  agentInterfaces,
  containerInterfaces,
  upid,
  upidOrNull,
  type AgentInterface,
  type VmConfig,
} from './wire.js';

type Incarnation = Pick<OwnGuest, 'node' | 'incarnation'>;

/** Keys to set and to delete; both empty = nothing to do. */
interface Change {
  readonly set: Readonly<Record<string, string | number>>;
  readonly remove: readonly string[];
}
const NOTHING: Change = { set: {}, remove: [] };

/**
 * What is done to a guest of ours between clone and delete. Each reads the config and its mark right before it writes; only a write that
 * carries the digest of a config may take the one that was read just before it, and the growth of a disk may follow such a write at once.
 */
export class Operations {
  readonly #cluster: Cluster;
  readonly #guests: GuestReads;

  constructor(cluster: Cluster, guests: GuestReads) {
    this.#cluster = cluster;
    this.#guests = guests;
  }

  async configure(guest: GuestRef, settings: GuestSettings, call: Call): Promise<Incarnation> {
    const changeOf = (seen: Owned): Change =>
      seen.kind === 'qemu' ? this.#settingsOf(seen.config, settings) : NOTHING;
    const owned = await this.#change({ ...guest, kind: 'qemu' }, changeOf, call);
    return { node: owned.node, incarnation: incarnationOf(owned) };
  }

  #settingsOf(config: VmConfig, settings: GuestSettings): Change {
    const { set, remove } = settingsChange(config, settings);
    const { vendorData } = this.#cluster.definition;
    const { phoneHomeToken } = settings;
    if (phoneHomeToken === undefined || vendorData === undefined) return { set, remove };
    return { set: { ...set, ...phoneHomeKeys(config, phoneHomeToken, vendorData) }, remove };
  }

  async useSnippets(guest: GuestRef, volumes: SnippetVolumes, call: Call): Promise<Pick<OwnGuest, 'node'>> {
    const changeOf = (seen: Owned): Change => {
      const before = seen.kind === 'qemu' ? (seen.config.cicustom ?? '') : '';
      const cicustom = withSnippets(before, volumes);
      return seen.kind === 'qemu' && cicustom !== before ? { set: { cicustom }, remove: [] } : NOTHING;
    };
    const { node } = await this.#change({ ...guest, kind: 'qemu' }, changeOf, call);
    return { node };
  }

  /** From then on its MAC is the one that we gave it, which is what tells it from others. */
  async configureContainer(guest: GuestRef, settings: ContainerSettings, call: Call): Promise<Incarnation> {
    const changeOf = (seen: Owned): Change =>
      seen.kind === 'lxc' ? { set: containerChange(seen.config, settings), remove: [] } : NOTHING;
    const { node } = await this.#change({ ...guest, kind: 'lxc' }, changeOf, call);
    return { node, incarnation: settings.mac.toLowerCase() };
  }

  /** Writes what `changeOf` says, with the digest of the config that it was told; gives the guest as it was before. */
  async #change(guest: GuestRef, changeOf: (owned: Owned) => Change, call: Call): Promise<Owned> {
    const what = `configure guest ${guest.vmid}`;
    const kept = this.#guests.takeKept(guest);
    if (kept) {
      try {
        if (await this.#write(what, kept, changeOf(kept), call)) return kept;
      } catch (error) {
        if (reasonOf(error) !== 'digest-mismatch' && reasonOf(error) !== 'config-missing') throw error;
      }
    }
    const owned = await this.#guests.need(what, guest, call.signal);
    await this.#write(what, owned, changeOf(owned), call);
    return owned;
  }

  /** Gives whether anything was to be written. */
  async #write(what: string, owned: Owned, { set, remove }: Change, call: Call): Promise<boolean> {
    const { node, kind, config, mark } = owned;
    if (Object.keys(set).length + remove.length === 0) return false;
    await this.#cluster.http.write(
      {
        op: 'config-write',
        what,
        method: 'PUT',
        node,
        path: `${guestPath(node, kind, mark.vmid)}/config`,
        params: { ...set, ...(remove.length > 0 && { delete: remove.join(',') }), digest: config.digest },
      },
      call,
    );
    this.#guests.noteWritten(owned);
    return true;
  }

  async startResize(
    guest: GuestRef,
    disk: string,
    sizeGiB: number,
    call: Call,
  ): Promise<TaskRef | undefined> {
    const what = `grow ${disk} of guest ${guest.vmid} to ${sizeGiB} GiB`;
    const written = this.#guests.takeWritten(guest);
    const owned = written ?? (await this.#guests.need(what, guest, call.signal));
    const { node, kind, config } = owned;
    const drive = (owned.kind === 'qemu' ? drivesOf(owned.config) : volumesOf(owned.config)).get(disk);
    if (!drive) throw new HatcheryError('remote-refused', `Unable to ${what}: it has no such disk`);
    if (drive.sizeGiB === sizeGiB) return undefined;
    if (drive.sizeGiB !== undefined && drive.sizeGiB > sizeGiB)
      throw new HatcheryError(
        'remote-refused',
        `Unable to ${what}: it has ${drive.sizeGiB} GiB, and disks do not shrink`,
        {
          hint: 'choose a size that is not below the template’s disk',
        },
      );
    const request = {
      op: 'resize',
      what,
      method: 'PUT',
      node,
      path: `${guestPath(node, kind, guest.vmid)}/resize`,
      params: { disk, size: `${sizeGiB}G`, ...(written === undefined && { digest: config.digest }) },
    } as const;
    const id = await writeAs(this.#cluster, upidOrNull, request, call).catch(async (error: unknown) => {
      // A refusal for want of a right may be that of a guest which is gone, and its place in the pool with it: a read tells.
      if (written && error instanceof HatcheryError && error.code !== 'outcome-unknown')
        await this.#guests.need(what, guest, call.signal);
      throw error;
    });
    // PVE 7 resizes before it answers and starts no task.
    return id === null ? undefined : { id };
  }

  async startGuest(
    guest: GuestRef,
    call: Call,
    { isRepeat = false }: { isRepeat?: boolean },
  ): Promise<TaskRef | undefined> {
    const { vmid } = guest;
    const what = `start guest ${vmid}`;
    const { node, kind } = await this.#guests.need(what, guest, call.signal);
    if (isRepeat && (await this.#guests.status({ node, kind }, vmid, call.signal)) === 'running')
      return undefined;
    const path = `${guestPath(node, kind, vmid)}/status/start`;
    const request = { op: 'start', what, method: 'POST', node, path } as const;
    try {
      return { id: await writeAs(this.#cluster, upid, request, call) };
    } catch (error) {
      // A virtual machine that runs already gives a task that says so; a container is refused at once.
      if (reasonOf(error) === 'already-running') return undefined;
      throw error;
    }
  }

  /** The MAC is ours alone, so an answer of a wrong guest shows no address: no config read is spent on it. */
  async guestAddress(guest: GuestRef, mac: string, call: Call): Promise<string | undefined> {
    const { vmid } = guest;
    const place = await this.#guests.place(guest, call.signal);
    if (place === undefined) return undefined;
    try {
      return addressOf(await this.#interfaces(place, vmid, call.signal), mac);
    } catch (error) {
      const reason = reasonOf(error);
      // Moved to another node: the next question finds it there.
      if (reason === 'config-missing') await this.#guests.relocate(vmid, call.signal);
      if (reason === 'agent-silent' || reason === 'config-missing') return undefined;
      throw error;
    }
  }

  /** Of a virtual machine as its agent tells, of a container as its node does. */
  async #interfaces(
    { node, kind }: GuestPlace,
    vmid: number,
    signal: AbortSignal,
  ): Promise<readonly AgentInterface[]> {
    const what = `ask guest ${vmid} for its address`;
    const path = guestPath(node, kind, vmid);
    if (kind === 'lxc') {
      const request = { op: 'container-interfaces', what, path: `${path}/interfaces` };
      return ofContainer(await readAs(this.#cluster, containerInterfaces, request, signal));
    }
    const request = { op: 'agent-interfaces', what, path: `${path}/agent/network-get-interfaces` };
    return (await readAs(this.#cluster, agentInterfaces, request, signal)).result;
  }
}
