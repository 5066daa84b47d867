import { copyMiBps, drawBootMs } from '../../../src/simulators/proxmox/durations.js';
import type { WorldGuest, WorldStorage } from '../../../src/simulators/world.js';
import { lockOf, type IdealNodes, type Placed } from './ideal-nodes.js';

const COPY_STEPS = 20;

/** Virtual machines: a clone with its cloud-init drive, config, size, start, agent, desktop. */
export class IdealVms {
  readonly #copies = new Map<string, number>();

  constructor(
    private readonly nodes: IdealNodes,
    private readonly clone: 'linked' | 'full',
  ) {}

  async make(machine: Placed): Promise<void> {
    const { nodes } = this;
    const { vmid, node, turn } = machine;
    const allowed = nodes.allowed(machine);
    await this.#clone(machine);
    await nodes.call(node, 'config-write', 'qemu.config.put', turn);
    await nodes.call(node, 'fork', 'qemu.resize', turn);
    await nodes.sleepDrawn('resize', vmid);
    await allowed;
    await nodes.call(node, 'fork', 'qemu.start', turn);
    await nodes.start(machine, () => nodes.sleepDrawn('cloud-init-iso', vmid));
    await nodes.time.sleep(drawBootMs(nodes, vmid));
    await nodes.registerDesktop(machine);
  }

  async #clone({ vmid, node, turn }: Placed): Promise<void> {
    const { nodes } = this;
    const template = this.#source(node);
    const storage = nodes.storageOf(template.config['scsi0']!);
    await nodes.inFlight(lockOf(storage, template.node), turn, async () => {
      await nodes.call(template.node, 'fork', 'qemu.clone', turn);
      for (const disk of ['cloudInit', 'link'] as const) {
        const isNear = disk === 'link';
        const at = { node: template.node, vmid, turn: isNear ? turn : turn + 1e6 };
        await nodes.underLock(storage, at, disk);
        await nodes.sleepDrawn('clone-step', vmid);
        if (isNear && this.clone === 'full') await this.#copy(storage, diskGiB(template), vmid);
      }
      // The firewall's file and the pool, each under a lock that is hardly ever contended.
      await nodes.sleepDrawn('cluster-write', vmid);
      await nodes.sleepDrawn('cluster-write', vmid);
    });
  }

  async #copy(storage: WorldStorage, gib: number, vmid: number): Promise<void> {
    const { random, time } = this.nodes;
    const speed = copyMiBps(storage) * random.stream('copy', vmid).logNormal(1, 1.5);
    const count = (by: number): number => {
      const copies = (this.#copies.get(storage.id) ?? 0) + by;
      this.#copies.set(storage.id, copies);
      return copies;
    };
    count(1);
    for (let step = 0; step < COPY_STEPS; step += 1)
      await time.sleep(((gib * 1024) / COPY_STEPS / speed) * 1000 * count(0));
    count(-1);
  }

  /** The template that a machine on this node is cloned from: its own node's, else the first. */
  #source(node: string): WorldGuest {
    const templates = this.nodes.templates('qemu');
    return templates.find((one) => one.node === node) ?? templates[0]!;
  }
}

const diskGiB = ({ config }: WorldGuest): number => Number(/size=(\d+)G/.exec(config['scsi0']!)?.[1]);
