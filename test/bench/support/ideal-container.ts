import { drawHalfFirstBootMs, drawMs, drawStorageMs } from '../../../src/simulators/proxmox/durations.js';
import { COMMAND_MS } from '../../../src/simulators/proxmox/ssh/ssh-nodes.js';
import type { WorldGuest } from '../../../src/simulators/world.js';
import type { IdealNodes, Placed } from './ideal-nodes.js';
import { Places } from './virtual-time.js';

/** As its blueprint has it. */
export interface IdealContainer {
  readonly source: 'templates' | 'archive';
  /** Storage of its disk; a clone's is that of its template. */
  readonly storage: string;
  /** Something is written on its node before it starts. */
  readonly isOnNode: boolean;
  readonly hasFirstBoot: boolean;
}

/** More than this at once on one node share what it can unpack. */
const UNPACKED_AT_FULL_SPEED = 4;

/** Containers: cloned from a copy of their template or unpacked, their node's files, start, network, then desktop beside the first boot. */
export class IdealContainers {
  readonly #creating = new Map<string, number>();
  readonly #copies: Places;
  readonly #freeCopies: WorldGuest[];

  constructor(
    private readonly nodes: IdealNodes,
    private readonly wanted: IdealContainer,
  ) {
    this.#freeCopies = [...nodes.templates('lxc')];
    this.#copies = new Places(this.#freeCopies.length);
  }

  async make(machine: Placed): Promise<void> {
    const { nodes, wanted } = this;
    const { vmid, node, turn } = machine;
    const allowed = nodes.allowed(machine);
    if (wanted.source === 'archive') await this.#unpack(machine);
    else {
      await this.#clone(machine);
      await nodes.call(node, 'config-write', 'lxc.config.put', turn);
      await nodes.call(node, 'fork', 'lxc.resize', turn);
      await nodes.sleepDrawn('resize', vmid);
    }
    if (wanted.isOnNode) await this.#tell(node);
    await allowed;
    await nodes.call(node, 'fork', 'lxc.start', turn);
    await nodes.start(machine);
    await nodes.sleepDrawn('container-network', vmid);
    await Promise.all([nodes.registerDesktop(machine), this.#firstBoot(machine)]);
  }

  /** From whichever copy is free first. The id is reserved while somebody else's clone still has the copy to itself. */
  async #clone({ vmid, turn }: Placed): Promise<void> {
    const { nodes } = this;
    const copies = nodes.templates('lxc');
    await nodes.call(copies[turn % copies.length]!.node, 'fork', 'lxc.clone', turn);
    await nodes.sleepDrawn('cluster-write', vmid);
    await this.#copies.with(turn, async () => {
      const source = this.#freeCopies.shift()!;
      const storage = nodes.storageOf(source.config['rootfs']!);
      await nodes.underLock(storage, { node: source.node, vmid, turn }, 'link');
      await nodes.sleepDrawn('cluster-write', vmid);
      await nodes.sleepDrawn('container-setup', vmid);
      this.#freeCopies.push(source);
    });
  }

  async #unpack({ vmid, node, turn }: Placed): Promise<void> {
    const { nodes, wanted } = this;
    const storage = nodes.world.storages.find(({ id }) => id === wanted.storage)!;
    const count = (by: number): number => {
      const creating = (this.#creating.get(node) ?? 0) + by;
      this.#creating.set(node, creating);
      return creating;
    };
    await nodes.inFlight(node, turn, async () => {
      await nodes.call(node, 'fork', 'lxc.create', turn);
      await nodes.sleepDrawn('cluster-write', vmid);
      count(1);
      await nodes.underLock(storage, { node, vmid, turn }, 'link');
      await nodes.sleepDrawn('make-file-system', vmid);
      const load = Math.max(1, count(0) / UNPACKED_AT_FULL_SPEED);
      await nodes.time.sleep(drawStorageMs(nodes, storage, 'unpack', vmid) * load);
      await nodes.sleepDrawn('container-setup', vmid);
      await nodes.sleepDrawn('cluster-write', vmid);
      count(-1);
    });
  }

  /** Works by itself; what it needed is taken away again. */
  async #firstBoot({ vmid, node }: Placed): Promise<void> {
    if (!this.wanted.hasFirstBoot) return;
    await this.nodes.time.sleep(firstBootMs(this.nodes, vmid));
    await this.#tell(node);
  }

  /** One conversation with a node. */
  #tell(node: string): Promise<void> {
    const { random, time } = this.nodes;
    return time.sleep(random.stream('ssh', node).logNormal(COMMAND_MS.median, COMMAND_MS.p95));
  }
}

type Drawn = Pick<IdealNodes, 'world' | 'random'>;

export const networkMs = (nodes: Drawn, vmid: number): number => drawMs(nodes, 'container-network', vmid);

export const firstBootMs = (nodes: Drawn, vmid: number): number =>
  drawHalfFirstBootMs(nodes, vmid) + drawHalfFirstBootMs(nodes, vmid);
