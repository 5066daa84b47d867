/** A due step that waits for all of its slots at once. */
export interface WaitingStep {
  readonly id: string;
  /** Whose machine it is for. */
  readonly owner: string;
  /** Resources of which it needs one slot each; not empty. */
  readonly slots: readonly string[];
  /** Steps on the longest way from here to the end of its run. */
  readonly rank: number;
}

export interface HeldSlot {
  readonly resource: string;
  /** From 1; above the limit only after the limit fell. */
  readonly number: number;
  readonly owner: string;
}

/** When an owner was last given a slot of a resource, by `turnKey`: higher is later, missing is never. */
export type Turns = ReadonlyMap<string, number>;
export const turnKey = (owner: string, resource: string): string => `${owner} ${resource}`;

export interface Admission {
  readonly admitted: readonly {
    readonly stepId: string;
    readonly slots: readonly { readonly resource: string; readonly number: number }[];
  }[];
  /** Resources that a step lacked because all of their slots are held. */
  readonly short: ReadonlySet<string>;
  /** For the next round; knows only owners that wait. */
  readonly turns: Turns;
}

/**
 * Gives waiting steps their slots: to the owner with the smallest share first, then to the step with the least work left, then to the one
 * accepted first (ids are UUIDv7). An owner's share is the largest part of a resource's limit, among those that the step needs, that its steps
 * hold; of equal shares the owner whose turn is longest ago goes first, so that even a single slot goes round.
 *
 * A step gets all of its slots or none. The first one in line for a resource that it lacks keeps what is free of its others: smaller steps
 * behind it cannot take them away for ever. Those behind it in the same line keep nothing, for one slot comes free at a time.
 */
export function admit(round: {
  readonly waiting: readonly WaitingStep[];
  readonly held: readonly HeldSlot[];
  readonly limitOf: (resource: string) => number;
  readonly turns: Turns;
}): Admission {
  const lines = linesOf(round.waiting);
  const resources = new Resources(round.held, round.limitOf);
  const turns = new Turned(round.turns);
  const admitted: Admission['admitted'][number][] = [];
  const hasHead = new Set<string>();
  const short = new Set<string>();
  for (let line = next(lines, resources, turns); line; line = next(lines, resources, turns)) {
    const { owner, slots, steps } = line;
    const lacked = slots.filter((resource) => resources.free(resource) <= 0);
    if (lacked.length > 0) {
      // Those behind it want the same.
      lines.delete(line);
      if (lacked.some((resource) => !hasHead.has(resource)))
        for (const resource of slots) resources.keep(resource);
      for (const resource of lacked) {
        hasHead.add(resource);
        if (resources.isFull(resource)) short.add(resource);
      }
      continue;
    }
    admitted.push({
      stepId: steps.shift()!.id,
      slots: slots.map((resource) => ({ resource, number: resources.take(resource, owner) })),
    });
    turns.give(owner, slots);
    if (steps.length === 0) lines.delete(line);
  }
  return { admitted, short, turns: turns.of(new Set(round.waiting.map((step) => step.owner))) };
}

/** Steps of one owner that want the same slots: only the first of them has to be looked at. */
interface Line {
  readonly owner: string;
  readonly slots: readonly string[];
  readonly steps: WaitingStep[];
}

function linesOf(waiting: readonly WaitingStep[]): Set<Line> {
  const lines = new Map<string, Line>();
  for (const step of waiting.toSorted(byWorkLeft)) {
    const key = [step.owner, ...step.slots].join(' ');
    const line = lines.get(key) ?? { owner: step.owner, slots: step.slots, steps: [] };
    line.steps.push(step);
    lines.set(key, line);
  }
  return new Set(lines.values());
}

const byWorkLeft = (a: WaitingStep, b: WaitingStep): number =>
  a.rank - b.rank || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0);

function next(lines: ReadonlySet<Line>, resources: Resources, turns: Turned): Line | undefined {
  let best: { line: Line; share: number; turn: number } | undefined;
  for (const line of lines) {
    const one = {
      line,
      share: Math.max(...line.slots.map((resource) => resources.shareOf(line.owner, resource))),
      turn: turns.last(line.owner, line.slots),
    };
    const order = best
      ? one.share - best.share || one.turn - best.turn || byWorkLeft(line.steps[0]!, best.line.steps[0]!)
      : -1;
    if (order < 0) best = one;
  }
  return best?.line;
}

class Resources {
  private readonly taken = new Map<string, Set<number>>();
  private readonly kept = new Map<string, number>();
  private readonly inUse = new Map<string, number>();

  constructor(
    held: readonly HeldSlot[],
    private readonly limitOf: (resource: string) => number,
  ) {
    for (const { resource, number, owner } of held) this.add(resource, number, owner);
  }

  free(resource: string): number {
    return this.limitOf(resource) - (this.taken.get(resource)?.size ?? 0) - (this.kept.get(resource) ?? 0);
  }

  isFull(resource: string): boolean {
    return (this.taken.get(resource)?.size ?? 0) >= this.limitOf(resource);
  }

  keep(resource: string): void {
    if (this.free(resource) > 0) this.kept.set(resource, (this.kept.get(resource) ?? 0) + 1);
  }

  take(resource: string, owner: string): number {
    let number = 1;
    while (this.taken.get(resource)?.has(number)) number += 1;
    this.add(resource, number, owner);
    return number;
  }

  shareOf(owner: string, resource: string): number {
    return (this.inUse.get(turnKey(owner, resource)) ?? 0) / this.limitOf(resource);
  }

  private add(resource: string, number: number, owner: string): void {
    const numbers = this.taken.get(resource) ?? new Set();
    this.taken.set(resource, numbers.add(number));
    const key = turnKey(owner, resource);
    this.inUse.set(key, (this.inUse.get(key) ?? 0) + 1);
  }
}

class Turned {
  private readonly at: Map<string, { owner: string; turn: number }>;
  private latest: number;

  constructor(turns: Turns) {
    this.at = new Map(
      [...turns].map(([key, turn]) => [key, { owner: key.slice(0, key.indexOf(' ')), turn }]),
    );
    this.latest = Math.max(0, ...turns.values());
  }

  last(owner: string, resources: readonly string[]): number {
    return Math.max(...resources.map((resource) => this.at.get(turnKey(owner, resource))?.turn ?? 0));
  }

  give(owner: string, resources: readonly string[]): void {
    this.latest += 1;
    for (const resource of resources) this.at.set(turnKey(owner, resource), { owner, turn: this.latest });
  }

  of(owners: ReadonlySet<string>): Turns {
    return new Map(
      [...this.at].flatMap(([key, { owner, turn }]) => (owners.has(owner) ? [[key, turn]] : [])),
    );
  }
}
