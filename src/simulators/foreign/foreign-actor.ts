import { describeWithMark } from '../../core/mark.js';
import { RandomStream } from '../seed.js';
import type { PveApi, Reply } from './pve-api.js';

export interface ForeignHabits {
  readonly who: 'person' | 'deployment';
  /** Decides every deed. */
  readonly seed: string;
  /** VMIDs that the product hands out (a person also works beside them), or those of the second deployment itself. */
  readonly range: readonly [from: number, to: number];
  /** The product's (a person puts some guests into it and moves some of its guests), or the second deployment's own. */
  readonly pool: string;
}

interface Guest {
  readonly vmid: number;
  readonly node: string;
  readonly name: string;
  readonly status: string;
  readonly pool?: string;
  readonly template?: number;
}

const DEEDS = [
  'create',
  'create',
  'create',
  'change',
  'change',
  'power',
  'move',
  'move',
  'remove',
  'remove',
] as const;
type Deed = (typeof DEEDS)[number];
/** From so many guests on it removes one before it makes another. */
const MOST_GUESTS = 12;

/**
 * Somebody who works on the cluster beside the product: makes, changes, starts, moves and deletes guests of their own, and never deletes or changes one of
 * somebody else. A person takes any id and any name, in the product's range and pool too, clones the product's guests (whose mark comes along) and
 * moves them between nodes. A second deployment keeps to its pool and its range and marks what it makes.
 */
export class ForeignActor {
  readonly did: Record<Deed | 'refused', number> = {
    create: 0,
    change: 0,
    power: 0,
    move: 0,
    remove: 0,
    refused: 0,
  };
  readonly #random: RandomStream;
  readonly #own = new Set<number>();

  constructor(
    private readonly api: PveApi,
    private readonly habits: ForeignHabits,
  ) {
    this.#random = new RandomStream(`${habits.seed}|foreign|${habits.who}`);
  }

  /** A wait that is `meanMs` long on average. */
  pauseMs(meanMs: number): number {
    return meanMs * 2 * this.#random.next();
  }

  /** Does one thing to its end. What the cluster refuses is counted and forgotten, as people do. */
  async act(): Promise<void> {
    const guests = await this.#guests();
    const own = guests.filter(({ vmid }) => this.#own.has(vmid));
    const wish = DEEDS[this.#random.integer(DEEDS.length)]!;
    const deed =
      own.length === 0 ? 'create' : wish === 'create' && own.length >= MOST_GUESTS ? 'remove' : wish;
    const isDone = await this.#do(deed, own, guests);
    this.did[isDone ? deed : 'refused'] += 1;
  }

  #do(deed: Deed, own: readonly Guest[], guests: readonly Guest[]): Promise<boolean> {
    switch (deed) {
      case 'create':
        return this.#create(guests);
      case 'change':
        return this.#change(this.#one(own));
      case 'power':
        return this.#power(this.#one(own));
      case 'move':
        return this.#move(own, guests);
      case 'remove':
        return this.#remove(this.#one(own));
    }
  }

  async #guests(): Promise<Guest[]> {
    const { data } = await this.api.call('GET', '/cluster/resources', { type: 'vm' });
    const rows = Array.isArray(data) ? (data as (Guest & { type: string })[]) : [];
    return rows.filter(({ type }) => type === 'qemu');
  }

  async #create(guests: readonly Guest[]): Promise<boolean> {
    const { who, pool } = this.habits;
    const template = guests.find((guest) => guest.template === 1);
    const theirs = this.#ofProduct(guests);
    const isCopy = who === 'person' && theirs.length > 0 && this.#chance(0.15);
    const source = isCopy ? this.#one(theirs) : template;
    if (source === undefined) return false;
    const vmid = await this.#freeId();
    if (vmid === undefined) return false;
    // Names are not unique: people call a guest as another one is called.
    const name = theirs.length > 0 && this.#chance(0.2) ? this.#one(theirs).name : `own-${vmid}`;
    const isInPool = who === 'deployment' || this.#chance(0.15);
    const isDone = await this.api.follow(
      await this.api.call('POST', `${pathOf(source)}/clone`, {
        newid: vmid,
        name,
        ...(isInPool && { pool }),
        ...(who === 'deployment' && { description: this.#mark(vmid) }),
      }),
    );
    if (isDone) this.#own.add(vmid);
    return isDone;
  }

  #mark(vmid: number): string {
    const own = new RandomStream(`${this.habits.seed}|deployment`);
    const [deployment, machine, run] = [own.uuid(), this.#random.uuid(), this.#random.uuid()];
    return describeWithMark('made by another deployment', {
      deployment,
      machine,
      run,
      step: 'clone',
      vmid,
      attempt: 1,
    });
  }

  /** A person asks for the next free id, or takes one in the product's range, or one behind it. */
  async #freeId(): Promise<number | undefined> {
    const [from, to] = this.habits.range;
    const own = from + this.#random.integer(to - from + 1);
    if (this.habits.who === 'deployment') return own;
    switch (this.#random.integer(3)) {
      case 0:
        return Number((await this.api.call('GET', '/cluster/nextid')).data ?? Number.NaN) || undefined;
      case 1:
        return own;
      default:
        return to + 1 + this.#random.integer(10_000);
    }
  }

  async #change(guest: Guest): Promise<boolean> {
    const changes: Record<string, string | number>[] = [
      { cores: 1 + this.#random.integer(4) },
      { tags: 'mine' },
      { onboot: this.#random.integer(2) },
    ];
    const change = changes[this.#random.integer(changes.length)]!;
    return (await this.api.call('PUT', `${pathOf(guest)}/config`, change)).status === 200;
  }

  async #power(guest: Guest): Promise<boolean> {
    const how = guest.status === 'running' ? 'stop' : 'start';
    return this.api.follow(await this.api.call('POST', `${pathOf(guest)}/status/${how}`));
  }

  /** An own guest or, when a person feels like it, one of the product's. */
  async #move(own: readonly Guest[], guests: readonly Guest[]): Promise<boolean> {
    const theirs = this.#ofProduct(guests);
    const isTheirs = this.habits.who === 'person' && theirs.length > 0 && this.#chance(0.4);
    const guest = this.#one(isTheirs ? theirs : own);
    const nodes = ((await this.api.call('GET', '/nodes')).data ?? []) as { node: string; status: string }[];
    const others = nodes.filter(({ node, status }) => node !== guest.node && status === 'online');
    if (others.length === 0) return false;
    return this.api.follow(
      await this.api.call('POST', `${pathOf(guest)}/migrate`, {
        target: this.#one(others).node,
        ...(guest.status === 'running' && { online: 1 }),
      }),
    );
  }

  async #remove(guest: Guest): Promise<boolean> {
    if (guest.status === 'running' && !(await this.#power(guest))) return false;
    const reply: Reply = await this.api.call('DELETE', pathOf(guest));
    const isGone = await this.api.follow(reply);
    if (isGone) this.#own.delete(guest.vmid);
    return isGone;
  }

  #ofProduct(guests: readonly Guest[]): Guest[] {
    return guests.filter(({ pool, vmid }) => pool === this.habits.pool && !this.#own.has(vmid));
  }

  #one<T>(list: readonly T[]): T {
    return list[this.#random.integer(list.length)]!;
  }

  #chance(probability: number): boolean {
    return this.#random.next() < probability;
  }
}

const pathOf = ({ node, vmid }: Guest): string => `/nodes/${node}/qemu/${vmid}`;
