import { buildWorld, type WorldSpec } from '../../../src/simulators/build-world.js';
import { REQUEST_MS } from '../../../src/simulators/guacamole/guacamole-simulator.js';
import { drawMs, drawStorageMs } from '../../../src/simulators/proxmox/durations.js';
import { SimRandom } from '../../../src/simulators/seed.js';
import { ENTRY_MS, POWERSHELL_START_MS } from '../../../src/simulators/winrm/script-runner.js';
import type { World, WorldGuest, WorldStorage } from '../../../src/simulators/world.js';
import { Places, type VirtualTime } from './virtual-time.js';

export interface IdealOptions {
  /** `handed-over`: a freed lock goes to the next one at once, as no cluster does it; `polled`: as the world's Proxmox VE does it. */
  readonly storageLock?: 'handed-over' | 'polled';
  /** Guests in the making per storage; of archives, which are unpacked by a node, per node. Left out = as many as there are machines. */
  readonly inFlight?: number;
}

/** A machine, and its place in the roster, which is its turn. */
export interface Placed {
  readonly vmid: number;
  readonly node: string;
  readonly turn: number;
}

interface StorageLock {
  readonly handedOver: Places;
  isHeld: boolean;
  firstMs: number;
  heldMs: number;
  lastMs: number;
}

const OBTAIN_MS = 10_000;
/** Calls that a node carries out at once. */
const NODE_WORKERS = 3;
/** More starts than this at once slow each other down. */
const STARTS_AT_FULL_SPEED = 8;

/** What the simulated cluster imposes on whoever works on it, DHCP server and gateway included, on the durations that it draws. */
export class IdealNodes {
  lockTimeouts = 0;
  readonly lockWaitsMs: number[] = [];
  readonly world: World;
  readonly random: SimRandom;
  readonly #workers: ReadonlyMap<string, Places>;
  readonly #locks = new Map<string, StorageLock>();
  readonly #places = new Map<string, Places>();
  readonly #starting = new Map<string, number>();
  readonly #allowed: Promise<void>;

  constructor(
    { world, seed }: { readonly world: WorldSpec; readonly seed: string },
    private readonly options: IdealOptions,
    readonly time: VirtualTime,
  ) {
    this.world = buildWorld(world, seed);
    this.random = new SimRandom(`${this.world.seed}|${this.world.life}`);
    this.#workers = new Map(this.world.nodes.map(({ name }) => [name, new Places(NODE_WORKERS)]));
    const { median, p95 } = POWERSHELL_START_MS;
    this.#allowed = time.sleep(this.random.stream('winrm.script', 'allow').logNormal(median, p95));
  }

  /** One script that starts with the batch allows all MAC addresses, one after the other. */
  allowed({ turn }: Placed): Promise<void> {
    return this.#allowed.then(() => this.time.sleep(ENTRY_MS * (turn + 1)));
  }

  /** A write, as long as a worker of the node is busy with it. */
  call(node: string, kind: 'fork' | 'config-write', op: string, turn: number): Promise<void> {
    return this.#workers.get(node)!.with(turn, () => this.sleepDrawn(kind, op));
  }

  sleepDrawn(kind: Parameters<typeof drawMs>[1], key: string | number): Promise<void> {
    return this.time.sleep(drawMs(this, kind, key));
  }

  /** The task of a start. `before`: what is done in it before the guest runs. */
  async start({ node, vmid }: Placed, before: () => Promise<void> = async () => {}): Promise<void> {
    const starting = (this.#starting.get(node) ?? 0) + 1;
    this.#starting.set(node, starting);
    await before();
    await this.time.sleep(drawMs(this, 'start', vmid) * Math.max(1, starting / STARTS_AT_FULL_SPEED));
    this.#starting.set(node, this.#starting.get(node)! - 1);
  }

  /** The connection, then the permission on it; group and account were made while the machine booted. */
  async registerDesktop({ vmid }: Placed): Promise<void> {
    const gateway = this.random.stream('gateway', vmid);
    await this.time.sleep(gateway.logNormal(REQUEST_MS.median, REQUEST_MS.p95));
    await this.time.sleep(gateway.logNormal(REQUEST_MS.median, REQUEST_MS.p95));
  }

  /** Beside at most so many others as the options say, on this storage or node. */
  inFlight<T>(where: string, turn: number, work: () => Promise<T>): Promise<T> {
    return this.placesOf(`in flight ${where}`, this.options.inFlight ?? Infinity).with(turn, work);
  }

  placesOf(key: string, width: number): Places {
    return foundOr(this.#places, key, () => new Places(width));
  }

  /** Work on a volume, under the lock of its storage. */
  async underLock(
    storage: WorldStorage,
    at: { readonly node: string; readonly vmid: number; readonly turn: number },
    disk: 'cloudInit' | 'link',
  ): Promise<void> {
    const lock = foundOr(this.#locks, lockOf(storage, at.node), () => ({
      handedOver: new Places(1),
      isHeld: false,
      firstMs: this.time.nowMs,
      heldMs: 0,
      lastMs: 0,
    }));
    const askedAtMs = this.time.nowMs;
    const hold = async (): Promise<void> => {
      const gotAtMs = this.time.nowMs;
      this.lockWaitsMs.push(gotAtMs - askedAtMs);
      await this.time.sleep(drawStorageMs(this, storage, disk, at.vmid));
      lock.heldMs += this.time.nowMs - gotAtMs;
      lock.lastMs = this.time.nowMs;
    };
    if (this.options.storageLock !== 'polled') return lock.handedOver.with(at.turn, hold);
    await this.#poll(lock);
    lock.isHeld = true;
    await hold();
    lock.isHeld = false;
  }

  /** Whoever looks first has it. After a time-out the request is made again. */
  async #poll(lock: StorageLock): Promise<void> {
    for (let askedAtMs = this.time.nowMs; lock.isHeld;) {
      const remainingMs = OBTAIN_MS - (this.time.nowMs - askedAtMs);
      if (remainingMs <= 0) {
        this.lockTimeouts += 1;
        askedAtMs = this.time.nowMs;
        continue;
      }
      await this.time.sleep(
        this.world.lockPolling === 'legacy' ? 1_000 : Math.max(1, Math.min(1_000, remainingMs / 10)),
      );
    }
  }

  busiestLock(): { firstMs: number; heldMs: number; lastMs: number } {
    const [busiest] = [...this.#locks.values()].toSorted((a, b) => b.heldMs - a.heldMs);
    const { firstMs, heldMs, lastMs } = busiest!;
    return { firstMs, heldMs, lastMs };
  }

  templates(kind: 'qemu' | 'lxc'): readonly WorldGuest[] {
    return [...this.world.guests.values()].filter(
      (guest) => guest.kind === kind && guest.config['template'] === '1',
    );
  }

  /** Of the volume that this line of a config names. */
  storageOf(line: string): WorldStorage {
    const [id] = line.split(':');
    return this.world.storages.find((storage) => storage.id === id)!;
  }
}

/** A shared storage has one lock, a local one has one on each node. */
export const lockOf = (storage: WorldStorage, node: string): string =>
  storage.shared ? storage.id : `${node}/${storage.id}`;

function foundOr<T>(map: Map<string, T>, key: string, make: () => T): T {
  const found = map.get(key) ?? make();
  map.set(key, found);
  return found;
}
