import type { SimulatorContext } from '../context.js';
import type { WorldGuest } from '../world.js';
import { nameOf, sizesOf } from './guest-rows.js';
import type { Told } from './pve.js';
import { isOn } from './volumes.js';

const CYCLE_MS = 10_000;
const LIVES_MS = 300_000;
const READER_KEEPS_MS = 2_000;
const GIB = 1_073_741_824;
const MIB = 1_048_576;

type News = Readonly<Record<string, unknown>> & { readonly atMs: number };

/** What one reader knows: rows of numbers by VMID, node, and `node/storage`. */
class Memory implements Told {
  constructor(
    private readonly news: ReadonlyMap<string, News>,
    readonly atMs: number,
  ) {}

  guest(vmid: number): Record<string, unknown> | undefined {
    return this.#fresh(`vm/${vmid}`);
  }
  node(name: string): Record<string, unknown> | undefined {
    return this.#fresh(`node/${name}`);
  }
  storage(node: string, id: string): Record<string, unknown> | undefined {
    return this.#fresh(`storage/${node}/${id}`);
  }
  #fresh(key: string): Record<string, unknown> | undefined {
    const found = this.news.get(key);
    if (!found || this.atMs - found.atMs >= LIVES_MS) return undefined;
    const { atMs: _, ...row } = found;
    return row;
  }
}

/**
 * What the pvestatd of each node tells the others every 10 s: names, states, templates and all numbers of the lists come from here, by VMID.
 * So a fresh guest is unknown until the next cycle, and a VMID used again first shows its predecessor (news live 5 minutes).
 * Every API worker keeps what it read for 2 s. A node that is off tells nothing.
 */
export class Broadcast {
  readonly #news = new Map<string, News>();
  readonly #readers = new Map<string, Memory>();

  constructor(private readonly context: SimulatorContext) {
    this.#tell();
    context.clock.every(CYCLE_MS, () => this.#tell());
  }

  /** `reader` is one worker of one node. */
  read(reader: string): Told {
    const nowMs = this.context.clock.elapsedMs();
    const known = this.#readers.get(reader);
    if (known && nowMs - known.atMs < READER_KEEPS_MS) return known;
    const told = new Memory(new Map(this.#news), nowMs);
    this.#readers.set(reader, told);
    return told;
  }

  #tell(): void {
    const { world, clock } = this.context;
    const atMs = clock.elapsedMs();
    const isOff = (node: string): boolean => world.conditions.nodesOff.has(node);
    for (const guest of world.guests.values()) {
      const row = isOff(guest.node) ? undefined : guestNews(guest, atMs);
      if (row) this.#news.set(`vm/${guest.vmid}`, { ...row, atMs });
    }
    const used = this.#usedBytes();
    for (const { name, cores, memoryMiB } of world.nodes) {
      if (isOff(name)) continue;
      this.#news.set(`node/${name}`, {
        uptime: nodeUptime(atMs),
        cpu: 0.05,
        maxcpu: cores,
        mem: usedMemoryMiB(world.guests.values(), name) * MIB,
        maxmem: memoryMiB * MIB,
        disk: 8 * GIB,
        maxdisk: 96 * GIB,
        'cgroup-mode': 2,
        atMs,
      });
      for (const storage of world.storages)
        if (!storage.isDisabled && isOn(storage, name))
          this.#news.set(`storage/${name}/${storage.id}`, {
            disk: Math.round(used.get(storage.shared ? storage.id : `${name}/${storage.id}`) ?? 0),
            maxdisk: storage.sizeGiB * GIB,
            atMs,
          });
    }
  }

  #usedBytes(): Map<string, number> {
    const { conditions, volumes } = this.context.world;
    const used = new Map([...conditions.filled].map(([key, gib]) => [key, gib * GIB]));
    for (const { storage, node, usedGiB } of volumes.values()) {
      const key = node === undefined ? storage : `${node}/${storage}`;
      used.set(key, (used.get(key) ?? 0) + usedGiB * GIB);
    }
    return used;
  }
}

/** A virtual machine's config that has no name yet (a clone's first file) is not told. */
function guestNews(guest: WorldGuest, atMs: number): Record<string, unknown> | undefined {
  const name = nameOf(guest);
  if (name === undefined) return undefined;
  const { cpus, ...numbers } = sizesOf(guest);
  const isRunning = guest.status === 'running';
  return {
    name,
    status: guest.status,
    template: guest.config['template'] === '1' ? 1 : 0,
    uptime: isRunning ? Math.floor((atMs - guest.startedAtMs) / 1000) : 0,
    maxcpu: cpus,
    ...numbers,
  };
}

/** Nodes were up for a day when the world began. */
export function nodeUptime(elapsedMs: number): number {
  return Math.floor(elapsedMs / 1000) + 86_400;
}

/** 4 GiB of the host itself and what its running guests take. */
export function usedMemoryMiB(guests: Iterable<WorldGuest>, node: string): number {
  let used = 4096;
  for (const guest of guests)
    if (guest.node === node && guest.status === 'running') used += Number(guest.config['memory'] ?? 512);
  return used;
}
