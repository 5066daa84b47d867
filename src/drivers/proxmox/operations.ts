import { HatcheryError } from '../../core/errors.js';
import type { Call } from '../../ports/call.js';
import type { GuestRef, GuestSettings, OwnGuest, TaskRef } from '../../ports/hypervisor.js';
import { addressOf } from './address.js';
import { readAs, writeAs, type Cluster } from './cluster.js';
import { reasonOf } from './errors.js';
import { drivesOf, settingsChange, smbiosUuidOf } from './guest-config.js';
import type { GuestReads, Owned } from './guests.js';
import { phoneHomeKeys } from './phone-home.js';
import { agentInterfaces, upid, upidOrNull } from './wire.js';

type Incarnation = Pick<OwnGuest, 'node' | 'smbiosUuid'>;

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
    const what = `configure guest ${guest.vmid}`;
    const kept = this.#guests.takeKept(guest);
    if (kept) {
      try {
        if (await this.#writeSettings(what, kept, settings, call)) return incarnationOf(kept);
      } catch (error) {
        if (reasonOf(error) !== 'digest-mismatch' && reasonOf(error) !== 'config-missing') throw error;
      }
    }
    const owned = await this.#guests.need(what, guest, call.signal);
    await this.#writeSettings(what, owned, settings, call);
    return incarnationOf(owned);
  }

  /** Gives whether anything was to be written. */
  async #writeSettings(what: string, owned: Owned, settings: GuestSettings, call: Call): Promise<boolean> {
    const { node, config, mark } = owned;
    const { set: own, remove } = settingsChange(config, settings);
    const { vendorData } = this.#cluster.definition;
    const { phoneHomeToken } = settings;
    const set = {
      ...own,
      ...(phoneHomeToken && vendorData !== undefined
        ? phoneHomeKeys(config, phoneHomeToken, vendorData)
        : {}),
    };
    if (Object.keys(set).length + remove.length === 0) return false;
    await this.#cluster.http.write(
      {
        op: 'config-write',
        what,
        method: 'PUT',
        node,
        path: `/nodes/${node}/qemu/${mark.vmid}/config`,
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
    const { node, config } = written ?? (await this.#guests.need(what, guest, call.signal));
    const drive = drivesOf(config).get(disk);
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
      path: `/nodes/${node}/qemu/${guest.vmid}/resize`,
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
    const { node } = await this.#guests.need(what, guest, call.signal);
    if (isRepeat && (await this.#guests.status(node, vmid, call.signal)) === 'running') return undefined;
    const path = `/nodes/${node}/qemu/${vmid}/status/start`;
    const request = { op: 'start', what, method: 'POST', node, path } as const;
    return { id: await writeAs(this.#cluster, upid, request, call) };
  }

  /** The MAC is ours alone, so an answer of a wrong guest shows no address: no config read is spent on it. */
  async guestAddress(guest: GuestRef, mac: string, call: Call): Promise<string | undefined> {
    const { vmid } = guest;
    const node = await this.#guests.place(guest, call.signal);
    if (node === undefined) return undefined;
    try {
      const { result } = await readAs(
        this.#cluster,
        agentInterfaces,
        {
          op: 'agent-interfaces',
          what: `ask guest ${vmid} for its address`,
          path: `/nodes/${node}/qemu/${vmid}/agent/network-get-interfaces`,
        },
        call.signal,
      );
      return addressOf(result, mac);
    } catch (error) {
      const reason = reasonOf(error);
      // Moved to another node: the next question finds it there.
      if (reason === 'config-missing') await this.#guests.relocate(vmid, call.signal);
      if (reason === 'agent-silent' || reason === 'config-missing') return undefined;
      throw error;
    }
  }
}

const incarnationOf = ({ node, config }: Owned): Incarnation => ({ node, smbiosUuid: smbiosUuidOf(config) });
