import type { World, WorldGuest } from '../world.js';
import { addForeignGuest, type ForeignGuestSpec } from '../build-world.js';
import { macOf, digestOf, disksOf } from './guest-config.js';
import type { Pve } from './pve.js';
import { bringUp, takeDown } from './running.js';

/** People and other programs that work in the same cluster beside the product. Everything they do is at once and in the journal as `foreign`. */
export class ForeignActors {
  constructor(private readonly pve: Pve) {}

  /** Throws a plain error if the id is taken: nobody can have it twice. */
  create(spec: ForeignGuestSpec): WorldGuest {
    const { world, context } = this.pve;
    if (world.guests.has(spec.vmid)) throw new Error(`guest ${spec.vmid} is there already`);
    const guest = addForeignGuest(world, context.random, spec);
    this.#record('foreign.create', spec.owner, guest, { pool: spec.pool, mac: macOf(guest) });
    return guest;
  }

  /** Changes keys of the config (`null` removes one) on any guest. */
  edit(vmid: number, changes: Readonly<Record<string, string | null>>, who = 'alice'): void {
    const guest = this.#guest(vmid);
    const digestBefore = digestOf(guest);
    for (const [key, value] of Object.entries(changes)) {
      if (value === null) delete guest.config[key];
      else guest.config[key] = value;
    }
    this.#record('foreign.edit', who, guest, { ...changes }, { digestBefore, digestAfter: digestOf(guest) });
  }

  remove(vmid: number, who = 'alice'): void {
    const guest = this.#guest(vmid);
    const volids = new Set(disksOf(guest.config).map((disk) => disk.volid));
    for (const [key, volume] of this.pve.world.volumes)
      if (volume.vmid === vmid && volids.has(volume.volid)) this.pve.world.volumes.delete(key);
    this.pve.world.guests.delete(vmid);
    for (const pool of this.pve.world.pools.values()) pool.members.delete(vmid);
    this.#record('foreign.delete', who, guest, {});
  }

  setRunning(vmid: number, isRunning: boolean, who = 'alice'): void {
    const guest = this.#guest(vmid);
    if (isRunning) this.#record('foreign.start', who, guest, bringUp(this.pve, guest));
    else {
      takeDown(guest);
      this.#record('foreign.stop', who, guest, {});
    }
  }

  migrate(vmid: number, node: string, who = 'alice'): void {
    const guest = this.#guest(vmid);
    guest.node = node;
    this.#record('foreign.migrate', who, guest, { target: node });
  }

  #guest(vmid: number): WorldGuest {
    const guest = this.pve.world.guests.get(vmid);
    if (!guest) throw new Error(`there is no guest ${vmid}`);
    return guest;
  }

  #record(
    op: string,
    who: string,
    guest: WorldGuest,
    params: Record<string, unknown>,
    more: { digestBefore?: string; digestAfter?: string } = {},
  ): void {
    const world: World = this.pve.world;
    this.pve.context.journal.record({
      sim: 'proxmox',
      event: 'foreign',
      actor: `foreign:${who}`,
      op,
      cluster: world.cluster,
      node: guest.node,
      vmid: guest.vmid,
      incarnation: guest.incarnation,
      effect: true,
      ...more,
      params,
    });
  }
}
