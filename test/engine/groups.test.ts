import { afterEach, describe, expect, it } from 'vitest';
import { HatcheryError } from '../../src/core/errors.js';
import { changeRun } from '../../src/engine/engine.js';
import { aloneAsGroup, defineEffect, undoneAsGroup } from '../../src/plan/step.js';
import type { AnyEffect, AnyStep, Coalesce, CoalesceUndo } from '../../src/plan/step.js';
import { EngineBench, Gate } from '../support/engine-bench.js';
import { Outside, use, workflow, type Input } from '../support/outside.js';

let bench: EngineBench;
afterEach(async () => bench.close());

const HOUR_MS = 3_600_000;

/** A server that does many at once, and what it was asked. */
class Server {
  readonly there = new Set<string>();
  readonly acts: string[][] = [];
  readonly finds: string[][] = [];
  readonly undos: string[][] = [];
  /** Called in the middle of an act, with the ids of the machines. */
  during: (ids: readonly string[]) => Promise<void> | void = () => {};
  /** What becomes of one of them. */
  refuse: (id: string) => HatcheryError | undefined = () => undefined;

  step(outside: Outside, more: Partial<Coalesce<Input, object>> = {}, step: Partial<AnyStep> = {}): AnyStep {
    const coalesce: Coalesce<Input, object> = {
      key: () => 'server',
      windowMs: HOUR_MS,
      max: 50,
      findMany: async (members) => {
        const ids = members.map(({ input }) => input.machine.id);
        this.finds.push(ids);
        return ids.map((id) => (this.there.has(id) ? {} : undefined));
      },
      actMany: async (members, _ports, call) => {
        const ids = members.map(({ input }) => input.machine.id);
        this.acts.push(ids);
        call.beforeSend();
        for (const id of ids) if (this.refuse(id) === undefined) this.there.add(id);
        await this.during(ids);
        return ids.map((id) => this.refuse(id) ?? {});
      },
      ...more,
    };
    return outside.step('many', { slots: () => ['shells@x'], coalesce, ...aloneAsGroup(coalesce), ...step });
  }

  effect(thing: AnyEffect): AnyEffect {
    const coalesce: CoalesceUndo<{ name: string }> = {
      key: () => 'server',
      windowMs: HOUR_MS,
      max: 50,
      undoMany: async (members) => {
        const ids = members.map(({ input }) => input.name.replace('many/', ''));
        this.undos.push(ids);
        return ids.map((id) => {
          const failure = this.refuse(id);
          if (failure === undefined) this.there.delete(id);
          return failure;
        });
      },
    };
    return defineEffect({ ...thing, coalesce, ...undoneAsGroup(coalesce) });
  }
}

const sorted = (groups: readonly string[][]): string[] => groups.flat().toSorted();
const idsOf = (runs: readonly { machineId: string }[]): string[] =>
  runs.map((run) => run.machineId).toSorted();
const refusal = (code: 'remote-refused' | 'outcome-unknown', retry: 'later' | 'after-fix'): HatcheryError =>
  new HatcheryError(code, `Unable to do it: ${code}`, { retry });

async function start(
  server: Server,
  more: { coalesce?: Partial<Coalesce<Input, object>>; step?: Partial<AnyStep>; before?: AnyStep } = {},
): Promise<void> {
  const outside = new Outside();
  const { before } = more;
  bench = await EngineBench.start({
    workflow: workflow((before ? use(before.id) : '') + use('many', before ? [before.id] : [])),
    steps: [...(before ? [before] : []), server.step(outside, more.coalesce, more.step)],
    effects: [server.effect(outside.thing)],
    limitOf: () => 1,
  });
}

describe('steps that a server can do many of at once', () => {
  it('are done by one request, whichever worker would have got them, and hold one slot', async () => {
    const server = new Server();
    let slots: unknown;
    await start(server);
    server.during = async () => {
      slots = await bench.database.query('select resource, number from slots');
    };
    const runs = await bench.accept(12);
    await bench.worker();
    await bench.worker();
    bench.caretaker();
    await bench.untilAll(runs, 'done');
    expect(server.acts).toHaveLength(1);
    expect(sorted(server.acts)).toEqual(idsOf(runs));
    expect(slots).toEqual([{ resource: 'shells@x', number: 1 }]);
    expect(
      await bench.database.query(
        `select (select count(*) from slots)::int as slots, (select count(*) from effects where state = 'confirmed')::int as confirmed,
                (select count(*) from attempts where outcome = 'done')::int as attempts, (select count(*) from steps where is_gathering or group_key is not null)::int as grouped`,
      ),
    ).toEqual([{ slots: 0, confirmed: 12, attempts: 12, grouped: 0 }]);
  });

  it('go in groups of the most that a request may hold, one group after the other', async () => {
    const server = new Server();
    let now = 0;
    let most = 0;
    await start(server, { coalesce: { max: 3 } });
    server.during = async () => {
      now += 1;
      most = Math.max(most, now);
      await bench.database.query('select 1');
      now -= 1;
    };
    const runs = await bench.accept(7);
    bench.caretaker();
    await bench.worker();
    await bench.worker();
    await bench.untilAll(runs, 'done');
    expect(server.acts.map((ids) => ids.length)).toEqual([3, 3, 1]);
    expect(sorted(server.acts)).toEqual(idsOf(runs));
    expect(most).toBe(1);
  });

  it('do not keep one machine waiting when nothing else is on its way', async () => {
    const server = new Server();
    await start(server);
    const runs = await bench.accept(1);
    bench.caretaker();
    await bench.worker();
    await bench.untilAll(runs, 'done');
    expect(server.acts).toEqual([[runs[0]!.machineId]]);
  });

  it('wait for those on their way, and no longer than their window', async () => {
    const server = new Server();
    const gates = new Map<string, Gate>();
    const before = new Outside().step('before', {
      effects: () => [],
      act: async ({ machine }) => {
        await gates.get(machine.id)?.pass();
        return {};
      },
    });
    await start(server, { before });
    const runs = await bench.accept(3);
    const [late, stuck] = [new Gate(), new Gate()];
    gates.set(runs[1]!.machineId, late).set(runs[2]!.machineId, stuck);
    bench.caretaker();
    await bench.worker();
    await Promise.all([late.reached, stuck.reached]);
    await bench.until(`select count(*) = 1 as ok from steps where is_gathering`);
    late.release();
    await bench.until(`select count(*) = 2 as ok from steps where is_gathering`);
    expect(server.acts).toEqual([]);
    // The window of the first one has passed.
    await bench.database.query(
      `update steps set due_at = due_at - interval '1 hour' where is_gathering and run_id = $1`,
      [runs[0]!.runId],
    );
    await bench.untilAll(runs.slice(0, 2), 'done');
    expect(server.acts).toHaveLength(1);
    stuck.release();
    await bench.untilAll(runs, 'done');
  });

  it('take one machine of somebody else along before the rest of a class', async () => {
    const server = new Server();
    await start(server, { coalesce: { max: 2 } });
    const runs = await bench.accept(4);
    const [member] = await bench.accept(1);
    const other = crypto.randomUUID();
    await bench.database.query(`insert into users (id, login, role) values ($1, 'member', 'teacher')`, [
      other,
    ]);
    await bench.database.query('update steps set owner_id = $1 where run_id = $2', [other, member!.runId]);
    bench.caretaker();
    await bench.worker();
    await bench.untilAll([...runs, member!], 'done');
    expect(server.acts[0]).toContain(member!.machineId);
  });

  it('fail one by one: what is refused to one is done for the others', async () => {
    const server = new Server();
    await start(server);
    const runs = await bench.accept(5);
    const refused = runs[2]!.machineId;
    server.refuse = (id) => (id === refused ? refusal('remote-refused', 'after-fix') : undefined);
    bench.caretaker();
    await bench.worker();
    await bench.untilAll(
      runs.filter((run) => run.machineId !== refused),
      'done',
    );
    await bench.untilAll([runs[2]!], 'parked');
    expect(server.acts).toHaveLength(1);
  });

  it('are all unknown when the answer is lost: one read finds them, and nothing is made twice', async () => {
    const server = new Server();
    await start(server);
    const runs = await bench.accept(6);
    server.during = () => {
      throw refusal('outcome-unknown', 'later');
    };
    bench.caretaker();
    await bench.worker();
    await bench.untilAll(runs, 'done');
    expect(server.acts).toHaveLength(1);
    expect(server.finds).toHaveLength(1);
    expect(sorted(server.finds)).toEqual(idsOf(runs));
  });

  it('are sent again only where the read finds nothing', async () => {
    const server = new Server();
    await start(server);
    const runs = await bench.accept(4);
    const lost = runs[1]!.machineId;
    server.during = () => {
      if (server.acts.length > 1) return;
      server.there.delete(lost);
      throw refusal('outcome-unknown', 'later');
    };
    bench.caretaker();
    await bench.worker();
    await bench.untilAll(runs, 'done');
    expect(server.acts.map((ids) => ids.length)).toEqual([4, 1]);
    expect(server.acts[1]).toEqual([lost]);
  });

  it('do not go down with one of them that breaks the request of all', async () => {
    const server = new Server();
    await start(server);
    const runs = await bench.accept(4);
    const poison = runs[3]!.machineId;
    server.during = (ids) => {
      if (ids.includes(poison)) {
        server.there.delete(poison);
        throw new TypeError('a name that no script can hold');
      }
    };
    bench.caretaker();
    await bench.worker();
    await bench.untilAll(runs.slice(0, 3), 'done');
    await bench.until(`select state <> 'running' as ok from runs where id = $1`, [runs[3]!.runId]);
    expect(await bench.stepStates(runs[3]!.runId)).toMatchObject({ many: expect.not.stringMatching('done') });
  });

  it('drop out when their run is cancelled while they gather', async () => {
    const server = new Server();
    await start(server);
    const runs = await bench.accept(3);
    await changeRun(bench.parts, { runId: runs[0]!.runId }, (model) => model.wantGone());
    bench.caretaker();
    await bench.worker();
    await bench.untilAll(runs.slice(1), 'done');
    await bench.untilAll([runs[0]!], 'cancelled');
    expect(sorted(server.acts)).toEqual(idsOf(runs.slice(1)));
  });

  it('go on when their leader is cancelled after it was chosen', async () => {
    const server = new Server();
    await start(server);
    const runs = await bench.accept(3);
    bench.caretaker();
    await bench.until(`select exists (select 1 from steps where dispatch > 0 and not is_gathering) as ok`);
    const [leader] = await bench.database.query<{ run_id: string }>(
      'select run_id from steps where dispatch > 0',
    );
    await changeRun(bench.parts, { runId: leader!.run_id }, (model) => model.wantGone());
    await bench.worker();
    await bench.untilAll(
      runs.filter((run) => run.runId !== leader!.run_id),
      'done',
    );
    expect(server.acts).toHaveLength(1);
    expect(server.acts[0]).toHaveLength(2);
  });

  it('of a run that killed workers go alone, the others without it', async () => {
    const server = new Server();
    await start(server);
    const runs = await bench.accept(4);
    await bench.database.query('update runs set deaths = 2 where id = $1', [runs[0]!.runId]);
    const dead = crypto.randomUUID();
    await bench.parts.store.registerWorker({ id: dead, host: 'h', pid: 1, versions: [], leaseMs: 1 });
    const [key] = await bench.database.query<{ group_key: string }>('select distinct group_key from steps');
    for (const { id } of await bench.database.query<{ id: string }>('select id from steps'))
      await changeRun(bench.parts, { stepId: id }, (model) =>
        model.claim(id, { id: dead, isAlone: false, groupKey: key!.group_key }),
      );
    bench.caretaker();
    await bench.worker();
    await bench.untilAll(runs, 'done');
    expect(server.acts).toHaveLength(2);
    expect(server.acts).toContainEqual([runs[0]!.machineId]);
    const lost = `select count(*)::int from attempts where outcome = 'lost'`;
    expect(await bench.database.query(lost)).toEqual([{ count: 4 }]);
  });

  it('are given back together when their worker has to stop, and found by the next one', async () => {
    const server = new Server();
    await start(server);
    const gate = new Gate();
    server.during = async () => gate.pass();
    const runs = await bench.accept(3);
    bench.caretaker();
    const first = await bench.worker();
    await gate.reached;
    const stopped = first.stop();
    await bench.until(`select count(*) = 3 as ok from attempts where outcome = 'handed-over'`);
    gate.release();
    await stopped;
    await bench.worker();
    await bench.untilAll(runs, 'done');
    expect(server.acts).toHaveLength(1);
    expect(sorted(server.finds)).toEqual(idsOf(runs));
  });

  it('go before those whose turn has not come when their worker is gone', async () => {
    const server = new Server();
    await start(server, { coalesce: { max: 3 } });
    const gate = new Gate();
    server.during = async () => gate.pass();
    const runs = await bench.accept(9);
    bench.caretaker();
    const first = await bench.worker();
    await gate.reached;
    const stopped = first.stop();
    await bench.until(`select count(*) = 3 as ok from attempts where outcome = 'handed-over'`);
    const foundBefore: number[] = [];
    server.during = () => void foundBefore.push(server.finds.flat().length);
    gate.release();
    await stopped;
    await bench.worker();
    await bench.untilAll(runs, 'done');
    expect(sorted(server.finds)).toEqual(sorted([server.acts[0]!]));
    expect(foundBefore).toEqual([3, 3]);
  });
});

describe('undo that a server can do many of at once', () => {
  it('is one request, and parks only what is refused', async () => {
    const server = new Server();
    await start(server);
    const runs = await bench.accept(5);
    bench.caretaker();
    await bench.worker();
    await bench.worker();
    await bench.untilAll(runs, 'done');
    const kept = runs[4]!.machineId;
    server.refuse = (id) => (id === kept ? refusal('remote-refused', 'after-fix') : undefined);
    for (const { runId } of runs) await changeRun(bench.parts, { runId }, (model) => model.wantGone());
    await bench.untilAll(runs.slice(0, 4), 'cancelled');
    await bench.untilAll(runs.slice(4), 'parked');
    expect([...server.there]).toEqual([kept]);
    expect(server.undos.flat()).toHaveLength(5);
    expect(server.undos.length).toBeLessThan(5);
  });
});
