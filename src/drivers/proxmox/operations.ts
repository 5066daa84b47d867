import { HatcheryError } from '../../core/errors.js';
import type { MarkIdentity } from '../../core/mark.js';
import type { Call } from '../../ports/call.js';
import type { GuestSettings, OwnGuest, TaskRef } from '../../ports/hypervisor.js';
import { addressOf } from './address.js';
import { readAs, writeAs, type Cluster } from './cluster.js';
import { reasonOf } from './errors.js';
import { drivesOf, ownGuest, settingsChange } from './guest-config.js';
import type { GuestReads } from './guests.js';
import { phoneHomeKeys } from './phone-home.js';
import { agentInterfaces, upid, upidOrNull } from './wire.js';

/** What is done to a guest of ours between clone and delete. Each reads the config and its mark right before it writes. */
export class Operations {
  readonly #cluster: Cluster;
  readonly #guests: GuestReads;

  constructor(cluster: Cluster, guests: GuestReads) {
    this.#cluster = cluster;
    this.#guests = guests;
  }

  /** `pool` and `status` of the answer are not read: undefined and `unknown`. */
  async configure(identity: MarkIdentity, settings: GuestSettings, call: Call): Promise<OwnGuest> {
    const what = `configure guest ${identity.vmid}`;
    const before = await this.#guests.need(what, identity, call.signal);
    const change = settingsChange(before.config, settings);
    const { vendorData } = this.#cluster.definition;
    const set = {
      ...change.set,
      ...(settings.phoneHomeToken && vendorData !== undefined
        ? phoneHomeKeys(before.config, settings.phoneHomeToken, vendorData)
        : {}),
    };
    const { remove } = change;
    let owned = before;
    if (Object.keys(set).length + remove.length > 0) {
      await this.#cluster.http.write(
        {
          op: 'config-write',
          what,
          method: 'PUT',
          node: before.node,
          path: `/nodes/${before.node}/qemu/${identity.vmid}/config`,
          params: {
            ...set,
            ...(remove.length > 0 && { delete: remove.join(',') }),
            digest: before.config.digest,
          },
        },
        call,
      );
      owned = await this.#guests.need(what, identity, call.signal);
    }
    return ownGuest(owned.config, owned.mark, { node: owned.node, pool: undefined, status: 'unknown' });
  }

  async startResize(
    identity: MarkIdentity,
    disk: string,
    sizeGiB: number,
    call: Call,
  ): Promise<TaskRef | undefined> {
    const what = `grow ${disk} of guest ${identity.vmid} to ${sizeGiB} GiB`;
    const { node, config } = await this.#guests.need(what, identity, call.signal);
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
    const id = await writeAs(
      this.#cluster,
      upidOrNull,
      {
        op: 'resize',
        what,
        method: 'PUT',
        node,
        path: `/nodes/${node}/qemu/${identity.vmid}/resize`,
        params: { disk, size: `${sizeGiB}G`, digest: config.digest },
      },
      call,
    );
    // PVE 7 resizes before it answers and starts no task.
    return id === null ? undefined : { id };
  }

  async startGuest(identity: MarkIdentity, call: Call): Promise<TaskRef | undefined> {
    const what = `start guest ${identity.vmid}`;
    const { node } = await this.#guests.need(what, identity, call.signal);
    if ((await this.#guests.status(node, identity.vmid, call.signal)) === 'running') return undefined;
    const path = `/nodes/${node}/qemu/${identity.vmid}/status/start`;
    const request = { op: 'start', what, method: 'POST', node, path } as const;
    return { id: await writeAs(this.#cluster, upid, request, call) };
  }

  /** The MAC is ours alone, so an answer of a wrong guest shows no address: no config read is spent on it. */
  async guestAddress(vmid: number, mac: string, call: Call): Promise<string | undefined> {
    const node = await this.#guests.place(vmid, call.signal);
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
      if (reason === 'config-missing') this.#guests.forgetPlace(vmid);
      if (reason === 'agent-silent' || reason === 'config-missing') return undefined;
      throw error;
    }
  }
}
