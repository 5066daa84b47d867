import { randomUUID } from 'node:crypto';
import type { Act } from '../acts.js';
import type { World, WorldConditions, WorldGuest, WorldStorage } from '../world.js';
import { volumeKey } from '../world.js';
import type { Pve } from './pve.js';
import { needQuorum } from './quorum.js';
import { bringUp, takeDown } from './running.js';
import { usedGiB } from './volumes.js';
import { failure } from './wire.js';

/** What a node is to those who connect to it. */
interface NodeSwitch {
  power(node: string, isOn: boolean): Promise<void>;
  changeHostKey(node: string): Promise<void>;
}

interface Note {
  readonly vmid?: number;
  readonly node?: string;
  readonly upid?: string;
  readonly effect?: boolean;
  readonly [more: string]: unknown;
}

/** What is wrong with the cluster: kept in the world, so that it outlives this process. Each change is in the journal as `condition.*`. */
export class Conditions {
  readonly #state: WorldConditions;
  #pve!: Pve;
  #perform!: (act: Act) => Promise<void>;
  #nodes!: NodeSwitch;

  constructor({ conditions }: World) {
    this.#state = conditions;
  }

  /** The listeners are there: nodes that were off stay off, and what was due in an earlier life of the world comes. */
  async attend(pve: Pve, nodes: NodeSwitch, perform: (act: Act) => Promise<void>): Promise<void> {
    this.#pve = pve;
    this.#nodes = nodes;
    this.#perform = perform;
    for (const node of this.#state.nodesOff) await nodes.power(node, false);
    for (const entry of this.#state.due) this.#arm(entry);
  }

  /** Does the act by itself after so many simulated milliseconds. */
  later(ms: number, act: Act): void {
    const entry = { atMs: this.#nowMs() + ms, act };
    this.#state.due.push(entry);
    this.#arm(entry);
  }

  #arm(entry: WorldConditions['due'][number]): void {
    this.#pve.context.clock.after(Math.max(0, entry.atMs - this.#nowMs()), () => {
      this.#state.due.splice(this.#state.due.indexOf(entry), 1);
      void this.#perform(entry.act);
    });
  }

  /** The nodes lose each other: `/etc/pve` is read-only on all of them. */
  loseQuorum(): void {
    this.#state.isSplit = true;
    this.note('lose-quorum');
    this.#countNodes();
  }

  regainQuorum(): void {
    this.#state.isSplit = false;
    this.note('regain-quorum');
    this.#countNodes();
  }

  /** Without quorum nothing may be written to `/etc/pve`. */
  needQuorum(): void {
    needQuorum(this.#pve.world);
  }

  #countNodes(): void {
    const { nodes } = this.#pve.world;
    this.#state.quorumLost = this.#state.isSplit || this.#state.nodesOff.size * 2 >= nodes.length;
  }

  isOff(node: string): boolean {
    return this.#state.nodesOff.has(node);
  }

  /** It dies at once: no connection is accepted, nothing that it ran is cleaned up, its guests are down. */
  async powerOff(node: string): Promise<void> {
    const { tasks, proxying, world } = this.#pve;
    if (this.isOff(node)) return;
    this.#state.nodesOff.add(node);
    this.#countNodes();
    this.note('power-off', { node });
    tasks.nodeDown(node);
    proxying.nodeDown(node);
    for (const guest of world.guests.values()) if (guest.node === node) takeDown(guest);
    await this.#nodes.power(node, false);
  }

  /** Guests with `onboot` start, all others stay down; locks in configs are as they were. */
  async powerOn(node: string): Promise<void> {
    const { world } = this.#pve;
    if (!this.isOff(node)) return;
    await this.#nodes.power(node, true);
    this.#state.nodesOff.delete(node);
    this.#countNodes();
    this.note('power-on', { node });
    for (const guest of world.guests.values())
      if (guest.node === node && guest.config['onboot'] === '1' && guest.config['lock'] === undefined)
        bringUp(this.#pve, guest);
  }

  /** Something other than guests takes what is free but this; on a local storage of one node. */
  fillStorage(id: string, freeGiB: number, node?: string): void {
    const storage = this.#storage(id, node);
    this.emptyStorage(id, node);
    const free = storage.sizeGiB - usedGiB(this.#pve, storage, node ?? '');
    this.#state.filled.set(fillKey(storage, node), Math.max(0, free - freeGiB));
    this.note('fill-storage', { storage: id, freeGiB, ...(node !== undefined && { node }) });
  }

  emptyStorage(id: string, node?: string): void {
    if (this.#state.filled.delete(fillKey(this.#storage(id, node), node)))
      this.note('empty-storage', { storage: id, ...(node !== undefined && { node }) });
  }

  filledGiB(storage: WorldStorage, node: string): number {
    return this.#state.filled.get(fillKey(storage, node)) ?? 0;
  }

  #storage(id: string, node: string | undefined): WorldStorage {
    const storage = this.#pve.world.storages.find((one) => one.id === id);
    if (!storage) throw new Error(`there is no storage ${id}`);
    if (!storage.shared && node === undefined) throw new Error(`storage ${id} is local: name its node`);
    return storage;
  }

  /** Every ticket that was given out is refused from now on. */
  expireTickets(): void {
    this.#pve.world.authKey = randomUUID();
    this.note('expire-tickets');
  }

  async changeHostKey(node: string): Promise<void> {
    await this.#nodes.changeHostKey(node);
    this.note('change-host-key', { node });
  }

  /** Somebody took the lines out of its subuid and subgid. */
  dropIdRange(node: string, start: number): void {
    const { uid = [], gid = [] } = this.#pve.world.subIds.get(node) ?? {};
    const others = (ranges: typeof uid): typeof uid => ranges.filter((range) => range.start !== start);
    this.#pve.world.subIds.set(node, { uid: others(uid), gid: others(gid) });
    this.note('drop-id-range', { node, start });
  }

  removeFile(node: string, path: string): void {
    const effect = this.#pve.world.nodeFiles.delete(volumeKey(node, path));
    this.note('remove-file', { node, path, effect });
  }

  forgetTasks(node: string): void {
    this.#pve.tasks.forget(node);
    this.note('forget-tasks', { node });
  }

  killTask(upid: string): void {
    this.note('kill-task', { upid });
    this.#pve.tasks.kill(upid);
  }

  hideConfig(vmid: number, ms: number): void {
    this.#state.hiddenConfigs.set(vmid, this.#nowMs() + ms);
    this.note('hide-config', { vmid });
  }

  isConfigHidden(vmid: number): boolean {
    return (this.#state.hiddenConfigs.get(vmid) ?? 0) > this.#nowMs();
  }

  /** The nodes do not see the guest's volumes, though they are there: an attribute cache is old. */
  hideVolumes(vmid: number, ms: number): void {
    this.#state.hiddenVolumes.set(vmid, this.#nowMs() + ms);
    this.note('hide-volume', { vmid });
  }

  needVolume(vmid: number, volid: string): void {
    if ((this.#state.hiddenVolumes.get(vmid) ?? 0) > this.#nowMs())
      throw failure(`volume '${volid}' does not exist`);
  }

  /** See `WorldConditions.agents`. */
  setAgent(vmid: number, agent: { afterMs?: number | null | undefined; extraNics: number }): void {
    this.#state.agents.set(vmid, agent);
    this.note('agent', { vmid, ...agent });
  }

  /** See `WorldConditions.firstBoots`. */
  setFirstBoot(vmid: number, ends: 'exits' | 'fails' | 'hangs' | 'well', why: string): void {
    if (ends === 'well') this.#state.firstBoots.delete(vmid);
    else this.#state.firstBoots.set(vmid, ends === 'fails' ? { fails: why } : ends);
    this.note('first-boot', { vmid, ends });
  }

  /** When the guest's agent answers, and how many cards it names besides its own. */
  agentOf({ vmid, startedAtMs, agentUpAtMs }: WorldGuest): { upAtMs: number; extraNics: number } {
    const { afterMs, extraNics = 0 } = this.#state.agents.get(vmid) ?? {};
    if (afterMs === undefined) return { upAtMs: agentUpAtMs, extraNics };
    return { upAtMs: afterMs === null ? Infinity : startedAtMs + afterMs, extraNics };
  }

  /** A line of the journal: somebody or something changed the world beside all requests. */
  note(what: string, about: Note = {}): void {
    const { context, world } = this.#pve;
    const { vmid, node, upid, effect = true, ...params } = about;
    context.journal.record({
      sim: 'proxmox',
      event: 'foreign',
      actor: 'simulator',
      op: `condition.${what}`,
      cluster: world.cluster,
      ...(vmid !== undefined && { vmid }),
      ...(node !== undefined && { node }),
      ...(upid !== undefined && { upid }),
      effect,
      params,
    });
  }

  #nowMs(): number {
    return this.#pve.context.clock.elapsedMs();
  }
}

function fillKey(storage: WorldStorage, node: string | undefined): string {
  return volumeKey(storage.shared ? undefined : node, storage.id);
}
