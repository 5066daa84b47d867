import type { SimulatorContext } from '../context.js';

interface GuestNews {
  readonly name: string;
  readonly status: 'running' | 'stopped';
  readonly template: boolean;
  readonly atMs: number;
}

const CYCLE_MS = 10_000;
const LIVES_MS = 300_000;

/**
 * What pvestatd tells about guests every 10 s: name, status and template in `cluster/resources` come from here, by VMID.
 * So a fresh guest is unknown until the next cycle, and a VMID used again first shows its predecessor (news live 5 minutes).
 */
export class Broadcast {
  readonly #news = new Map<number, GuestNews>();

  constructor(private readonly context: SimulatorContext) {
    this.#tell();
    context.clock.every(CYCLE_MS, () => this.#tell());
  }

  of(vmid: number): GuestNews | undefined {
    const news = this.#news.get(vmid);
    return news && this.context.clock.elapsedMs() - news.atMs < LIVES_MS ? news : undefined;
  }

  #tell(): void {
    const atMs = this.context.clock.elapsedMs();
    for (const guest of this.context.world.guests.values()) {
      const name = guest.config['name'] ?? guest.config['hostname'];
      if (name === undefined) continue;
      this.#news.set(guest.vmid, {
        name,
        status: guest.status,
        template: guest.config['template'] === '1',
        atMs,
      });
    }
  }
}
