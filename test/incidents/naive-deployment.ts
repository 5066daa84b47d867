import type { ProxmoxSimulator } from '../../src/simulators/proxmox/proxmox-simulator.js';
import { WireClient } from '../simulators/proxmox-client.js';

/** The nodes as somebody once wrote them down. */
const NODES = ['pve1', 'pve2', 'pve3'];

export interface NaiveMachine {
  readonly name: string;
  vmid: number | undefined;
}

/**
 * A deployment as the real one was on the day: the next id that no lookup finds taken, where an error counts as "free"; a clone without a mark;
 * and an error path that deletes whatever has the id. It knows only its own list. What it does is judged by the same tests as the product.
 */
export class NaiveDeployment {
  readonly machines: NaiveMachine[] = [];
  readonly #taken = new Set<number>();

  constructor(
    private readonly client: WireClient,
    private readonly at: { readonly pool: string; readonly from: number; readonly to: number },
  ) {}

  static on(
    simulator: ProxmoxSimulator,
    endpoint: number,
    token: { id: string; secret: string },
    at: { pool: string; from: number; to: number },
  ): NaiveDeployment {
    return new NaiveDeployment(new WireClient(simulator, token, simulator.endpoints[endpoint]), at);
  }

  async createAll(names: readonly string[]): Promise<void> {
    await Promise.all(names.map((name) => this.#create(name)));
  }

  close(): void {
    this.client.close();
  }

  async #create(name: string): Promise<void> {
    const machine: NaiveMachine = { name, vmid: undefined };
    this.machines.push(machine);
    const vmid = await this.#nextVmid();
    machine.vmid = vmid;
    try {
      await this.#wait(
        await this.client.post('/nodes/pve1/qemu/9000/clone', { newid: vmid, name, pool: this.at.pool }),
      );
      await this.#done(await this.client.put(`/nodes/pve1/qemu/${vmid}/config`, { cores: 4, memory: 4096 }));
      await this.#wait(await this.client.post(`/nodes/pve1/qemu/${vmid}/status/start`));
    } catch {
      await this.#remove(vmid);
      machine.vmid = undefined;
    }
  }

  async #nextVmid(): Promise<number> {
    for (let vmid = this.at.from; vmid <= this.at.to; vmid += 1) {
      if (this.#taken.has(vmid)) continue;
      this.#taken.add(vmid);
      if (await this.#isFree(vmid)) return vmid;
    }
    throw new Error('no id is left');
  }

  async #isFree(vmid: number): Promise<boolean> {
    for (const node of NODES) {
      const reply = await this.client.get(`/nodes/${node}/qemu/${vmid}/config`);
      if (reply.status === 200) return false;
    }
    return true;
  }

  async #remove(vmid: number): Promise<void> {
    for (const node of NODES) {
      await this.client.post(`/nodes/${node}/qemu/${vmid}/status/stop`);
      await this.client.delete(`/nodes/${node}/qemu/${vmid}`);
    }
  }

  async #wait(started: Awaited<ReturnType<WireClient['post']>>): Promise<void> {
    await this.#done(started);
    const { exit } = await this.client.task(started);
    if (exit !== 'OK') throw new Error(exit);
  }

  async #done(reply: { status: number; reason: string }): Promise<void> {
    if (reply.status !== 200) throw new Error(reply.reason);
  }
}
