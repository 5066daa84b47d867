import { describe, expect, it } from 'vitest';
import { admit, type HeldSlot, type Turns, type WaitingStep } from './admission.js';

const step = (id: string, owner: string, slots: readonly string[], rank = 5): WaitingStep => ({
  id,
  owner,
  slots,
  rank,
});

const held = (resource: string, ...owners: readonly string[]): HeldSlot[] =>
  owners.map((owner, index) => ({ resource, number: index + 1, owner }));

const order = (
  waiting: readonly WaitingStep[],
  limits: Readonly<Record<string, number>>,
  more: { held?: readonly HeldSlot[]; turns?: Turns } = {},
): string[] =>
  admit({
    waiting,
    held: more.held ?? [],
    limitOf: (resource) => limits[resource] ?? 1,
    turns: more.turns ?? new Map(),
  }).admitted.map(({ stepId }) => stepId);

describe('the order of admission', () => {
  it('is the least work left first, then the one accepted first', () => {
    const waiting = [step('c', 'a', ['x'], 3), step('b', 'a', ['x'], 5), step('a', 'a', ['x'], 5)];
    expect(order(waiting, { x: 9 })).toEqual(['c', 'a', 'b']);
  });

  it('puts whoever holds least of what is scarce before that', () => {
    const waiting = [step('a1', 'class', ['x'], 1), step('b1', 'member', ['x'], 7)];
    expect(order(waiting, { x: 4 }, { held: held('x', 'class', 'class', 'class') })).toEqual(['b1']);
  });

  it('shares a single slot by turns', () => {
    const waiting = ['1', '2', '3'].flatMap((number) => [
      step(`a${number}`, 'a', ['x']),
      step(`b${number}`, 'b', ['x']),
    ]);
    const given: string[] = [];
    let turns: Turns = new Map();
    while (given.length < 6) {
      const left = waiting.filter(({ id }) => !given.includes(id));
      const round = admit({ waiting: left, held: [], limitOf: () => 1, turns });
      given.push(...round.admitted.map(({ stepId }) => stepId));
      turns = round.turns;
    }
    expect(given).toEqual(['a1', 'b1', 'a2', 'b2', 'a3', 'b3']);
  });

  it('counts the scarcest of the resources that a step needs', () => {
    const waiting = [step('a1', 'a', ['storage', 'n']), step('b1', 'b', ['storage', 'n'])];
    const limits = { storage: 2, n: 10 };
    const holders = [...held('storage', 'a'), ...held('n', 'b', 'b', 'b')];
    expect(order(waiting, limits, { held: holders })).toEqual(['b1']);
  });

  it('forgets the turns of owners that wait for nothing', () => {
    const turns = new Map([
      ['gone x', 4],
      ['a x', 3],
    ]);
    const round = admit({ waiting: [step('a1', 'a', ['x'])], held: [], limitOf: () => 1, turns });
    expect(round.turns).toEqual(new Map([['a x', 5]]));
  });
});

describe('slots', () => {
  it('are the lowest free numbers, never above the limit in count', () => {
    const waiting = [step('1', 'a', ['x']), step('2', 'a', ['x']), step('3', 'a', ['x'])];
    const holders = [{ resource: 'x', number: 2, owner: 'a' }];
    const { admitted, short } = admit({ waiting, held: holders, limitOf: () => 3, turns: new Map() });
    expect(admitted.flatMap(({ slots }) => slots.map(({ number }) => number))).toEqual([1, 3]);
    expect(short).toEqual(new Set(['x']));
  });

  it('are not given while those of before a fall are more than the limit', () => {
    const holders = [{ resource: 'x', number: 4, owner: 'a' }];
    expect(order([step('1', 'a', ['x'])], { x: 1 }, { held: holders })).toEqual([]);
  });

  it('are all given to a step, or none', () => {
    const { admitted } = admit({
      waiting: [step('1', 'a', ['x', 'y'])],
      held: held('y', 'b'),
      limitOf: () => 1,
      turns: new Map(),
    });
    expect(admitted).toEqual([]);
  });
});

describe('the head of the line', () => {
  const both = ['storage', 'n'];

  it('keeps what it lacks nothing of, so that smaller steps do not starve it', () => {
    const waiting = [step('big', 'a', both, 1), step('small', 'a', ['n'], 2)];
    expect(order(waiting, { storage: 1, n: 1 }, { held: held('storage', 'b') })).toEqual([]);
  });

  it('leaves the rest of it to them', () => {
    const waiting = [step('big', 'a', both, 1), step('s1', 'a', ['n'], 2), step('s2', 'a', ['n'], 2)];
    expect(order(waiting, { storage: 1, n: 2 }, { held: held('storage', 'b') })).toEqual(['s1']);
  });

  it('is one step for each resource: those behind it keep nothing', () => {
    const waiting = [
      ...['a1', 'a2', 'a3'].map((id) => step(id, 'a', both, 1)),
      step('b1', 'b', both, 1),
      step('s1', 'a', ['n'], 2),
      step('s2', 'b', ['n'], 2),
    ];
    expect(order(waiting, { storage: 1, n: 3 }, { held: held('storage', 'c') })).toEqual(['s1', 's2']);
  });

  it('does not make scarce what it keeps', () => {
    const waiting = [step('a1', 'a', both, 1), step('b1', 'b', both, 1)];
    const { short } = admit({
      waiting,
      held: held('n', 'c'),
      limitOf: () => 1,
      turns: new Map(),
    });
    expect(short).toEqual(new Set(['n']));
  });

  it('gets its turn, whatever a stream of small steps does', () => {
    // Slots of both resources are let go in turn; a new small step stands there at every moment.
    let holders = [...held('storage', 'b'), ...held('n', 'b')];
    let turns: Turns = new Map();
    let rounds = 0;
    for (; rounds < 20; rounds += 1) {
      holders = holders.filter(({ resource }) => resource !== (rounds % 2 === 0 ? 'n' : 'storage'));
      const waiting = [step('big', 'a', both, 9), step(`small${rounds}`, 'b', ['n'], 1)];
      const round = admit({ waiting, held: holders, limitOf: () => 1, turns });
      ({ turns } = round);
      if (round.admitted.some(({ stepId }) => stepId === 'big')) break;
      for (const { slots } of round.admitted) holders.push(...slots.map((slot) => ({ ...slot, owner: 'b' })));
    }
    expect(rounds).toBeLessThan(3);
  });
});

/** Runs owners' steps on one resource to the end; gives when each owner's last step ended and when each step began. */
function play(
  waiting: readonly (WaitingStep & { readonly lasts: number; readonly from?: number })[],
  limit: number,
): { endOf: Map<string, number>; beganAt: Map<string, number> } {
  const endOf = new Map<string, number>();
  const beganAt = new Map<string, number>();
  const left = new Map(waiting.map((one) => [one.id, one]));
  let running: { id: string; number: number; endsAt: number }[] = [];
  let turns: Turns = new Map();
  for (let now = 0; left.size > 0 || running.length > 0;) {
    const due = [...left.values()].filter(({ from = 0 }) => from <= now);
    const owners = new Map(waiting.map(({ id, owner }) => [id, owner]));
    const round = admit({
      waiting: due,
      held: running.map(({ id, number }) => ({ resource: 'x', number, owner: owners.get(id)! })),
      limitOf: () => limit,
      turns,
    });
    ({ turns } = round);
    for (const { stepId, slots } of round.admitted) {
      running.push({ id: stepId, number: slots[0]!.number, endsAt: now + left.get(stepId)!.lasts });
      beganAt.set(stepId, now);
      left.delete(stepId);
    }
    now = Math.min(...running.map(({ endsAt }) => endsAt));
    for (const { id } of running.filter(({ endsAt }) => endsAt <= now)) endOf.set(owners.get(id)!, now);
    running = running.filter(({ endsAt }) => endsAt > now);
  }
  return { endOf, beganAt };
}

describe('shares over time', () => {
  const classOf = (owner: string, count: number, first: string) =>
    Array.from({ length: count }, (_, index) => ({
      ...step(`${first}${String(index).padStart(3, '0')}`, owner, ['x']),
      lasts: 5 + ((index * 7) % 4),
    }));

  it.each([1, 3, 4])('two classes of 300 end within a tenth of each other on %i slots', (limit) => {
    // The second one was accepted later, and all of it stands behind the first one in every other respect.
    const { endOf } = play([...classOf('a', 300, 'a'), ...classOf('b', 300, 'b')], limit);
    expect(Math.abs(endOf.get('a')! - endOf.get('b')!)).toBeLessThan(0.1 * endOf.get('b')!);
  });

  it('one machine in the middle of 600 begins at the next free slot', () => {
    const one = { ...step('z', 'member', ['x']), lasts: 5, from: 401 };
    const { beganAt } = play([...classOf('class', 600, 'a'), one], 4);
    const behind = [...beganAt.values()].filter((at) => at >= 401 && at < beganAt.get('z')!);
    expect(behind).toEqual([]);
  });
});
