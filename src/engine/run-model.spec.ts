import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import type { ErrorCode } from '../core/errors.js';
import type { CompiledPlan, CompiledStep } from '../plan/compiled-plan.js';
import { defineEffect, defineStep, type AnyStep, type Registry } from '../plan/step.js';
import type { AttemptEnd, EffectRow, HeldStep, LoadedRun, StepRow } from '../ports/run-store.js';
import { RunModel } from './run-model.js';

const SETTLE_MS = 40_000;
const WAIT_LIMIT_MS = 600_000;
const worker = { id: 'w1', isAlone: false };

const anyStep = (id: string, slots?: string[]): AnyStep =>
  defineStep({
    id,
    version: 1,
    summary: id,
    input: z.unknown(),
    output: z.unknown(),
    locks: () => [],
    effects: () => [],
    ...(slots === undefined ? {} : { slots: () => slots }),
    timeout: '1m',
    retry: { attempts: 3, first: '1s', max: '10s' },
    lateWrites: '',
    act: async () => ({}),
  });
const registry = {
  steps: new Map([anyStep('plain'), anyStep('slotted', ['clones@x'])].map((step) => [step.id, step])),
  effects: new Map([
    [
      'guest@1',
      defineEffect({
        kind: 'guest',
        version: 1,
        payload: z.object({}),
        slots: () => ['destroys@x'],
        locks: () => [],
        timeout: '1m',
        retry: { attempts: 4, first: '3s', max: '5s' },
        look: async () => ({ found: 'nothing' }),
        undo: async () => {},
      }),
    ],
  ]),
};

const compiled = (key: string, more: Partial<CompiledStep> = {}): CompiledStep => ({
  key,
  uses: 'plain',
  version: 1,
  needs: [],
  with: {},
  timeoutMs: 60_000,
  retry: { attempts: 3, firstMs: 1_000, maxMs: 10_000 },
  onFailure: 'park',
  rank: 1,
  ...more,
});

const stepRow = (step: CompiledStep): StepRow => ({
  id: `id-${step.key}`,
  key: step.key,
  uses: step.uses,
  version: step.version,
  rank: step.rank,
  state: 'pending',
  dueAtMs: undefined,
  slots: undefined,
  groupKey: undefined,
  isGathering: false,
  dispatch: 0,
  epoch: 0,
  workerId: undefined,
  claimedAtMs: undefined,
  tries: 0,
  firstClaimedAtMs: undefined,
  input: undefined,
  output: undefined,
  remote: {},
  error: undefined,
  percent: undefined,
});

const effect = (step: string, seq: number, state: EffectRow['state'] = 'confirmed'): EffectRow => ({
  id: `effect-${seq}`,
  seq,
  stepId: `id-${step}`,
  kind: 'guest',
  version: 1,
  system: 'main',
  key: String(seq),
  shared: false,
  payload: {},
  state,
  intendedAtMs: 0,
});

/** A run in memory, and the model that works on it; effects are added and removed by the test as the store would. */
class Bench {
  readonly loaded: LoadedRun & { effects: EffectRow[]; attemptEnds: AttemptEnd[]; nowMs: number };
  model!: RunModel;
  /** How far away the next place for a retry is. */
  placeMs = 0;

  constructor(
    steps: readonly CompiledStep[],
    private readonly known: Registry = registry,
  ) {
    const plan: CompiledPlan = { workflow: 'w', version: 'v', steps };
    this.loaded = {
      plan,
      run: {
        id: 'run',
        machineId: 'm',
        batchId: 'b',
        workflowVersion: 'v',
        inputs: { machine: { network: {} } },
        state: 'queued',
        wanted: 'done',
        error: undefined,
        undoEndsAs: undefined,
        deaths: 0,
        deathsAmong: 0,
        deathsAlone: 0,
        version: 0,
      },
      machine: {
        id: 'm',
        cluster: 'main',
        mac: '',
        vmid: 100,
        node: 'n',
        state: 'reserved',
        incarnation: undefined,
        address: undefined,
        link: undefined,
        secretRef: undefined,
        error: undefined,
        phoneHome: undefined,
      },
      steps: steps.map(stepRow),
      effects: [],
      attemptEnds: [],
      isClusterStopped: false,
      parkedUses: new Set<string>(),
      readAtMs: 0,
      nowMs: 1_000_000,
    };
    this.next().advance();
  }

  next(random = 1): RunModel {
    this.model = new RunModel(this.loaded, this.known, {
      settleMs: SETTLE_MS,
      backOffScale: 1,
      waitLimitMs: WAIT_LIMIT_MS,
      place: () => this.placeMs,
      random: () => random,
    });
    return this.model;
  }

  /** Due and admitted to whatever it needs. */
  claim(key: string, by: { id: string; isAlone: boolean } = worker): HeldStep {
    this.step(key).slots = undefined;
    const answer = this.next().claim(`id-${key}`, by);
    if ('refused' in answer) throw new Error(`refused: ${answer.refused}`);
    return answer;
  }

  run(key: string): void {
    const held = this.claim(key);
    this.next().done(held, {}, {});
  }

  states(): Record<string, string> {
    return Object.fromEntries(this.loaded.steps.map((step) => [step.key, step.state]));
  }

  step(key: string): StepRow {
    return this.loaded.steps.find((step) => step.key === key)!;
  }
}

const failure = (retry: 'later' | 'never' | 'after-fix', code: ErrorCode = 'remote-refused') => ({
  error: { code, message: 'no' } as const,
  retry,
  afterMs: undefined,
});

describe('a worker that goes on', () => {
  const chain = (): Bench => new Bench([compiled('a'), compiled('b', { needs: ['a'] })]);
  const end = (bench: Bench, key: string, by = worker): HeldStep | undefined => {
    const held = bench.claim(key, by);
    bench.next().done(held, {}, {});
    return bench.model.goOn(by.id);
  };

  it('claims what its step made due, which then is neither dispatched nor told to have been ready', () => {
    const bench = chain();
    expect(end(bench, 'a')).toEqual({ stepId: 'id-b', epoch: 1, workerId: 'w1' });
    expect(bench.states()).toEqual({ a: 'done', b: 'running' });
    expect(bench.model.changes.dispatches).toEqual([]);
    expect(bench.model.changes.events.map(({ step, state }) => `${step} ${state}`)).toEqual([
      'a done',
      'b running',
    ]);
  });

  it('takes the step with the longest way to the end and leaves the others to be dispatched', () => {
    const bench = new Bench([
      compiled('a', { rank: 3 }),
      compiled('b', { needs: ['a'] }),
      compiled('c', { needs: ['a'], rank: 2 }),
      compiled('d', { needs: ['c'] }),
    ]);
    expect(end(bench, 'a')).toMatchObject({ stepId: 'id-c' });
    expect(bench.model.changes.dispatches.map((one) => one.stepId)).toEqual(['id-b']);
  });

  it('leaves a step that waits for a slot, or is done for many at once', () => {
    const many = {
      ...anyStep('many'),
      coalesce: { key: () => 'x', windowMs: 1, max: 9, actMany: async () => [] },
    };
    const known = { ...registry, steps: new Map([...registry.steps, ['many', many as AnyStep]]) };
    const bench = new Bench(
      [
        compiled('a'),
        compiled('b', { needs: ['a'], uses: 'slotted' }),
        compiled('c', { needs: ['a'], uses: 'many' }),
      ],
      known,
    );
    expect(end(bench, 'a')).toBeUndefined();
    expect(bench.states()).toEqual({ a: 'done', b: 'ready', c: 'ready' });
    expect(bench.model.changes.dispatches).toEqual([]);
  });

  it('leaves a step that it does not know, and one of a stopped cluster', () => {
    const strange = new Bench([compiled('a'), compiled('b', { needs: ['a'], version: 2 })]);
    expect(end(strange, 'a')).toBeUndefined();
    const stopped = chain();
    const held = stopped.claim('a');
    Object.assign(stopped.loaded, { isClusterStopped: true });
    stopped.next().done(held, {}, {});
    expect(stopped.model.goOn(worker.id)).toBeUndefined();
  });

  it('wakes the dispatcher only when a slot may have come free or somebody waits for one', () => {
    const plain = chain();
    end(plain, 'a');
    expect(plain.model.isForDispatcher).toBe(false);
    const before = new Bench([compiled('a'), compiled('b', { needs: ['a'], uses: 'slotted' })]);
    end(before, 'a');
    expect(before.model.isForDispatcher).toBe(true);
    before.run('b');
    expect(before.model.isForDispatcher).toBe(true);
  });
});

describe('a run that goes forward', () => {
  it('makes a step due when everything it needs is done, and is ready at the end', () => {
    const bench = new Bench([
      compiled('a'),
      compiled('b', { needs: ['a'] }),
      compiled('c', { needs: ['a'] }),
      compiled('d', { needs: ['b', 'c'] }),
    ]);
    expect(bench.states()).toEqual({ a: 'ready', b: 'pending', c: 'pending', d: 'pending' });
    bench.run('a');
    bench.run('b');
    expect(bench.states()).toMatchObject({ c: 'ready', d: 'pending' });
    bench.run('c');
    bench.run('d');
    expect(bench.loaded.run.state).toBe('done');
    expect(bench.loaded.machine.state).toBe('ready');
  });

  it('skips a step whose condition is false and goes on behind it', () => {
    const bench = new Bench([
      compiled('a', { if: { op: 'ref', path: ['inputs', 'machine', 'network', 'dhcp'] } }),
      compiled('b', { needs: ['a'] }),
    ]);
    expect(bench.states()).toEqual({ a: 'skipped', b: 'ready' });
  });

  it('hands a step without slots to the queue at once, and one with slots only after admission', () => {
    const bench = new Bench([compiled('a'), compiled('b', { uses: 'slotted' })]);
    expect(bench.model.changes.dispatches.map((dispatch) => dispatch.stepId)).toEqual(['id-a']);
    expect(bench.step('b').slots).toEqual(['clones@x']);
    expect(bench.next().claim('id-b', worker)).toEqual({ refused: 'not-admitted' });
  });

  it('gives a step to one worker only, and not before it is due', () => {
    const bench = new Bench([compiled('a')]);
    const held = bench.claim('a');
    expect(bench.next().claim('id-a', worker)).toEqual({ refused: 'not-due' });
    bench.next().wait(held, 5_000, {}, undefined);
    expect(bench.next().claim('id-a', worker)).toEqual({ refused: 'not-due' });
    bench.loaded.nowMs += 5_000;
    expect(bench.claim('a').epoch).toBe(2);
  });

  it('knows a stale holder by its epoch', () => {
    const bench = new Bench([compiled('a')]);
    const first = bench.claim('a');
    bench.next().lost('w1');
    bench.claim('a');
    expect(bench.next().isHeld(first)).toBe(false);
  });

  it('leaves a version that it does not know to others, of a step and of an undo', () => {
    const bench = new Bench([compiled('a'), compiled('b', { version: 2 })]);
    expect(bench.next().claim('id-b', worker)).toEqual({ refused: 'unknown-version' });
    bench.run('a');
    bench.loaded.effects.push({ ...effect('a', 1), version: 9 });
    bench.next().wantGone();
    expect(bench.next().claim('id-a', worker)).toEqual({ refused: 'unknown-version' });
  });
});

describe('a guest that phones home', () => {
  const listening = { ...anyStep('listening'), wakesOnPhoneHome: true };
  const known = { ...registry, steps: new Map([...registry.steps, [listening.id, listening]]) };
  const expecting = (...steps: CompiledStep[]): Bench => {
    const bench = new Bench(steps, known);
    bench.loaded.machine.phoneHome = { hash: 'aa', address: undefined };
    return bench;
  };

  it('makes the step that waits for it due at once, and no other', () => {
    const bench = expecting(compiled('a', { uses: 'listening' }), compiled('b'));
    for (const key of ['a', 'b']) {
      const held = bench.claim(key);
      bench.next().wait(held, 60_000, {}, { address: undefined });
    }
    expect(bench.next().toldAddress('aa', '10.0.0.5')).toBe(true);
    expect(bench.model.changes).toMatchObject({ machine: true, dispatches: [{ stepId: 'id-a' }] });
    expect(bench.claim('a').epoch).toBe(2);
    expect(bench.next().claim('id-b', worker)).toEqual({ refused: 'not-due' });
  });

  it('is not missed by an attempt that looked just before', () => {
    const bench = expecting(compiled('a', { uses: 'listening' }));
    const held = bench.claim('a');
    expect(bench.next().toldAddress('aa', '10.0.0.5')).toBe(true);
    bench.next().wait(held, 60_000, {}, { address: undefined });
    const again = bench.claim('a');
    bench.next().wait(again, 60_000, {}, { address: '10.0.0.5' });
    expect(bench.next().claim('id-a', worker)).toEqual({ refused: 'not-due' });
  });

  it('is heard once, with its own token, while its machine is wanted', () => {
    const bench = expecting(compiled('a', { uses: 'listening' }));
    expect(bench.next().toldAddress('bb', '10.0.0.5')).toBe(false);
    expect(bench.next().toldAddress('aa', '10.0.0.5')).toBe(true);
    expect(bench.next().toldAddress('aa', '10.0.0.6')).toBe(false);
    expect(bench.loaded.machine.phoneHome?.address).toBe('10.0.0.5');
    const other = expecting(compiled('a'));
    other.next().wantGone();
    expect(other.next().toldAddress('aa', '10.0.0.5')).toBe(false);
    const ready = expecting(compiled('a'));
    ready.run('a');
    expect(ready.next().toldAddress('aa', '10.0.0.5')).toBe(false);
  });
});

describe('a step that fails', () => {
  it('is repeated with growing gaps as often as its policy says, then parks run and machine with the error', () => {
    const bench = new Bench([compiled('a')]);
    for (const waitMs of [1_000, 2_000]) {
      bench.next().failed(bench.claim('a'), failure('later'), {});
      expect(bench.step('a').dueAtMs).toBe(bench.loaded.nowMs + waitMs);
      bench.loaded.nowMs += waitMs;
    }
    bench.next().failed(bench.claim('a'), failure('later'), {});
    expect(bench.states()).toEqual({ a: 'parked' });
    expect(bench.loaded.run.state).toBe('parked');
    expect(bench.loaded.machine).toMatchObject({ state: 'parked', error: { code: 'remote-refused' } });
  });

  it('spreads its tries over half of each gap, so that those that failed together do not come back together', () => {
    for (const [random, waitMs] of [
      [0, 500],
      [0.5, 750],
      [1, 1_000],
    ] as const) {
      const bench = new Bench([compiled('a')]);
      const held = bench.claim('a');
      bench.next(random).failed(held, failure('later'), {});
      expect(bench.step('a').dueAtMs).toBe(bench.loaded.nowMs + waitMs);
    }
  });

  it('comes back no sooner than the thrower says, and not much later', () => {
    for (const [random, waitMs] of [
      [0, 8_000],
      [1, 10_000],
    ] as const) {
      const bench = new Bench([compiled('a')]);
      const held = bench.claim('a');
      bench.next(random).failed(held, { ...failure('later'), afterMs: 8_000 }, {});
      expect(bench.step('a').dueAtMs).toBe(bench.loaded.nowMs + waitMs);
    }
  });

  it('is not repeated when the thrower says never', () => {
    const bench = new Bench([compiled('a')]);
    bench.next().failed(bench.claim('a'), failure('never'), {});
    expect(bench.states()).toEqual({ a: 'parked' });
  });

  it('keeps its slot while the outcome is unknown, and gives it back when nothing was made', () => {
    const bench = new Bench([compiled('a', { uses: 'slotted' })]);
    const first = bench.claim('a');
    bench.next().failed(first, failure('later', 'outcome-unknown'), {});
    expect(bench.model.changes.freed).toEqual([]);
    expect(bench.step('a').slots).toBeUndefined();
    bench.loaded.nowMs += 60_000;
    const second = bench.claim('a');
    bench.next().failed(second, failure('later'), {});
    expect(bench.model.changes.freed).toEqual(['id-a']);
    expect(bench.step('a').slots).toEqual(['clones@x']);
  });

  it('keeps its slot from the last unknown outcome until its undo is over, for its request may still be at work', () => {
    const bench = new Bench([compiled('a', { uses: 'slotted', onFailure: 'undo' })]);
    bench.loaded.effects.push(effect('a', 1, 'intended'));
    for (let tries = 1; tries <= 3; tries += 1) {
      const unsure = bench.claim('a');
      bench.next().failed(unsure, failure('later', 'outcome-unknown'), {});
      expect(bench.model.changes.freed).toEqual([]);
      bench.loaded.nowMs += 60_000;
    }
    expect(bench.states()).toEqual({ a: 'undoing' });
    const held = bench.claim('a');
    bench.loaded.effects.length = 0;
    bench.next().undone(held);
    expect(bench.model.changes.freed).toEqual(['id-a']);
  });

  it('lets its slot go with its last unknown outcome when nothing is to be undone', () => {
    const bench = new Bench([compiled('a', { uses: 'slotted', onFailure: 'undo' })]);
    for (let tries = 1; tries <= 3; tries += 1) {
      const unsure = bench.claim('a');
      bench.next().failed(unsure, failure('later', 'outcome-unknown'), {});
      bench.loaded.nowMs += 60_000;
    }
    expect(bench.model.changes.freed).toEqual(['id-a']);
  });

  it('with onFailure undo undoes what was made and ends failed', () => {
    const bench = new Bench([compiled('a'), compiled('b', { needs: ['a'], onFailure: 'undo' })]);
    bench.loaded.effects.push(effect('a', 1));
    bench.run('a');
    bench.next().failed(bench.claim('b'), failure('never'), {});
    expect(bench.states()).toEqual({ a: 'undoing', b: 'failed' });
    const held = bench.claim('a');
    bench.loaded.effects.length = 0;
    bench.next().undone(held);
    expect(bench.loaded.run.state).toBe('failed');
    expect(bench.loaded.machine).toMatchObject({ state: 'failed', error: { code: 'remote-refused' } });
    expect(bench.model.changes.released).toBe(true);
  });

  it('takes its place among the retries of its cluster when that is further away than its own gap', () => {
    const bench = new Bench([compiled('a')]);
    bench.placeMs = 30_000;
    bench.next().failed(bench.claim('a'), failure('later'), {});
    expect(bench.step('a').dueAtMs).toBe(bench.loaded.nowMs + 30_000);
  });

  it('asks for a slot once, however often the step names it', () => {
    const twice = anyStep('plain', ['clones@x', 'clones@x']);
    const bench = new Bench([compiled('a')], { ...registry, steps: new Map([['plain', twice]]) });
    expect(bench.step('a').slots).toEqual(['clones@x']);
  });

  it('goes on when a person says again while another step of the run still works', () => {
    const bench = new Bench([compiled('a'), compiled('b')]);
    const other = bench.claim('b');
    bench.next().failed(bench.claim('a'), failure('after-fix'), {});
    expect(bench.loaded).toMatchObject({ run: { state: 'running' }, machine: { state: 'parked' } });
    expect(bench.next().retry()).toBe(1);
    expect(bench.loaded).toMatchObject({ run: { state: 'running' }, machine: { state: 'creating' } });
    bench.next().done(other, {}, {});
    bench.run('a');
    expect(bench.loaded.run.state).toBe('done');
  });

  it('waits for a cluster without quorum without spending a try, and asks a person only at the limit', () => {
    const bench = new Bench([compiled('a')]);
    for (let ask = 0; ask < 20; ask += 1) {
      bench.next().failed(bench.claim('a'), failure('later', 'cluster-no-quorum'), {});
      bench.loaded.nowMs = bench.step('a').dueAtMs!;
    }
    expect(bench.step('a')).toMatchObject({ state: 'ready', tries: 0 });
    bench.loaded.nowMs += WAIT_LIMIT_MS;
    bench.next().failed(bench.claim('a'), failure('later', 'cluster-no-quorum'), {});
    expect(bench.step('a')).toMatchObject({ state: 'parked', error: { code: 'cluster-no-quorum' } });
  });

  it('with onFailure continue lets the others go on', () => {
    const bench = new Bench([compiled('a', { onFailure: 'continue' }), compiled('b', { needs: ['a'] })]);
    bench.next().failed(bench.claim('a'), failure('never'), {});
    expect(bench.states()).toEqual({ a: 'failed', b: 'ready' });
  });

  it('goes on with fresh tries when a person says again', () => {
    const bench = new Bench([compiled('a')]);
    bench.next().failed(bench.claim('a'), failure('after-fix'), {});
    expect(bench.next().retry()).toBe(1);
    expect(bench.states()).toEqual({ a: 'ready' });
    expect(bench.step('a').tries).toBe(0);
    expect(bench.loaded.machine.state).toBe('creating');
  });
});

describe('a run that is wanted gone', () => {
  it('makes no forward step due, waits for what runs, then undoes the newest effect first', () => {
    const bench = new Bench([
      compiled('a'),
      compiled('b', { needs: ['a'] }),
      compiled('c', { needs: ['a'] }),
    ]);
    bench.loaded.effects.push(effect('a', 1), effect('b', 2), effect('c', 3));
    bench.run('a');
    bench.run('b');
    const running = bench.claim('c');
    bench.next().wantGone();
    expect(bench.states()).toEqual({ a: 'done', b: 'done', c: 'running' });
    bench.next().done(running, {}, {});
    expect(bench.states()).toEqual({ a: 'done', b: 'done', c: 'undoing' });
    for (const key of ['c', 'b', 'a']) {
      expect(bench.loaded.run.state).not.toBe('cancelled');
      const held = bench.claim(key);
      bench.loaded.effects.splice(
        bench.loaded.effects.findIndex((one) => one.stepId === `id-${key}`),
        1,
      );
      bench.next().undone(held);
    }
    expect(bench.loaded.run.state).toBe('cancelled');
    expect(bench.loaded.machine.state).toBe('deleted');
  });

  it('does not let a ready step be claimed any more', () => {
    const bench = new Bench([compiled('a'), compiled('b')]);
    const held = bench.claim('a');
    bench.next().wantGone();
    expect(bench.next().claim('id-b', worker)).toEqual({ refused: 'not-due' });
    bench.next().done(held, {}, {});
    expect(bench.states()).toEqual({ a: 'done', b: 'skipped' });
    expect(bench.loaded.run.state).toBe('cancelled');
  });

  it('undoes a step whose outcome is unknown only after lease and longest request', () => {
    const bench = new Bench([compiled('a')]);
    bench.loaded.effects.push(effect('a', 1, 'intended'));
    bench.next().failed(bench.claim('a'), failure('later', 'outcome-unknown'), {});
    bench.loaded.attemptEnds.push({
      stepId: 'id-a',
      outcome: 'retry',
      code: 'outcome-unknown',
      endedAtMs: bench.loaded.nowMs,
    });
    bench.next().wantGone();
    expect(bench.step('a')).toMatchObject({ state: 'undoing', dueAtMs: bench.loaded.nowMs + SETTLE_MS });
  });

  it('counts that wait from the last attempt that may still have a request on its way, whatever came after it', () => {
    const bench = new Bench([compiled('a')]);
    bench.loaded.effects.push(effect('a', 1, 'intended'));
    bench.next().failed(bench.claim('a'), failure('later', 'outcome-unknown'), {});
    const unsureAtMs = bench.loaded.nowMs;
    bench.loaded.nowMs += 3_000;
    bench.next().failed(bench.claim('a'), failure('after-fix'), {});
    bench.loaded.attemptEnds.push(
      { stepId: 'id-a', outcome: 'retry', code: 'outcome-unknown', endedAtMs: unsureAtMs },
      { stepId: 'id-a', outcome: 'parked', code: 'remote-refused', endedAtMs: bench.loaded.nowMs },
    );
    bench.next().wantGone();
    expect(bench.step('a').dueAtMs).toBe(unsureAtMs + SETTLE_MS);
  });

  it.each<[string, (bench: Bench, held: HeldStep) => void]>([
    ['is unknown', (bench, held) => bench.next().failed(held, failure('later', 'outcome-unknown'), {})],
    ['was lost with its worker', (bench) => bench.next().lost('w1')],
    ['was cut short by its worker’s end', (bench, held) => bench.next().handOver(held)],
  ])('waits as long when the attempt that runs at the cancel %s', (_name, end) => {
    const bench = new Bench([compiled('a')]);
    const held = bench.claim('a');
    bench.loaded.effects.push(effect('a', 1, 'intended'));
    bench.next().wantGone();
    expect(bench.states()).toEqual({ a: 'running' });
    end(bench, held);
    expect(bench.step('a')).toMatchObject({ state: 'undoing', dueAtMs: bench.loaded.nowMs + SETTLE_MS });
  });

  it('gives back the slots of steps that will not run at once, even while others still do', () => {
    const bench = new Bench([
      compiled('a'),
      compiled('b', { uses: 'slotted' }),
      compiled('c', { needs: ['b'] }),
    ]);
    const held = bench.claim('a');
    bench.next().wantGone();
    expect(bench.states()).toEqual({ a: 'running', b: 'skipped', c: 'skipped' });
    expect(bench.model.changes.freed).toContain('id-b');
    expect(bench.step('b')).toMatchObject({ dueAtMs: undefined, slots: undefined });
    bench.next().done(held, {}, {});
    expect(bench.loaded.run.state).toBe('cancelled');
  });

  it.each<[string, (model: RunModel, held: HeldStep) => void]>([
    ['died', (model) => model.lost('w1')],
    ['hands it over', (model, held) => model.handOver(held)],
    [
      'does not know its outcome',
      (model, held) => model.failed(held, failure('later', 'outcome-unknown'), {}),
    ],
  ])(
    'gives back the slot of a step that made nothing of its own when its worker %s after a cancel',
    (_, end) => {
      const bench = new Bench([compiled('a'), compiled('b', { needs: ['a'], uses: 'slotted' })]);
      bench.run('a');
      bench.loaded.effects.push(effect('a', 1));
      const held = bench.claim('b');
      bench.next().wantGone();
      end(bench.next(), held);
      expect(bench.states()).toEqual({ a: 'undoing', b: 'skipped' });
      expect(bench.model.changes.freed).toContain('id-b');
    },
  );

  it('repeats an undo as its effect says, and lets its slot go in between', () => {
    const bench = new Bench([compiled('a', { retry: { attempts: 1, firstMs: 1, maxMs: 1 } })]);
    bench.loaded.effects.push(effect('a', 1));
    bench.run('a');
    bench.next().wantGone();
    expect(bench.step('a').slots).toEqual(['destroys@x']);
    for (const waitMs of [3_000, 5_000, 5_000]) {
      const held = bench.claim('a');
      bench.next().failed(held, failure('later'), {});
      expect(bench.model.changes.freed).toEqual(['id-a']);
      expect(bench.step('a')).toMatchObject({
        state: 'undoing',
        slots: ['destroys@x'],
        dueAtMs: bench.loaded.nowMs + waitMs,
      });
      bench.loaded.nowMs += waitMs;
    }
    bench.next().failed(bench.claim('a'), failure('later'), {});
    expect(bench.states()).toEqual({ a: 'undo-parked' });
  });

  it('deletes a ready machine, and a second delete changes nothing', () => {
    const bench = new Bench([compiled('a')]);
    bench.loaded.effects.push(effect('a', 1));
    bench.run('a');
    bench.next().wantGone();
    const held = bench.claim('a');
    bench.loaded.effects.length = 0;
    bench.next().undone(held);
    bench.next().wantGone();
    expect(bench.model.changes.events).toEqual([]);
    expect(bench.loaded.machine.state).toBe('deleted');
  });

  it('does not ask a second time for a slot that its own unfinished request still holds', () => {
    const step = anyStep('plain', ['destroys@x', 'clones@x']);
    const bench = new Bench([compiled('a')], { ...registry, steps: new Map([['plain', step]]) });
    bench.loaded.effects.push(effect('a', 1, 'intended'));
    const held = bench.claim('a');
    bench.next().wantGone();
    bench.next().failed(held, failure('later', 'outcome-unknown'), {});
    expect(bench.step('a')).toMatchObject({ state: 'undoing', slots: undefined });
    expect(bench.model.changes.freed).toEqual([]);
  });

  it('parks an undo that fails for good, lists the error, and goes on when a person says again', () => {
    const bench = new Bench([compiled('a')]);
    bench.loaded.effects.push(effect('a', 1));
    bench.run('a');
    bench.next().wantGone();
    bench.next().failed(bench.claim('a'), failure('after-fix'), {});
    expect(bench.states()).toEqual({ a: 'undo-parked' });
    expect(bench.loaded.run.state).toBe('parked');
    expect(bench.loaded.machine.error?.hint).toContain(
      'Left outside: guest 1 of main. When it is mended: hatchery run retry run',
    );
    bench.next().retry();
    expect(bench.states()).toEqual({ a: 'undoing' });
    expect(bench.loaded).toMatchObject({ run: { state: 'undoing' }, machine: { state: 'deleting' } });
  });
});

describe('a run that kills workers', () => {
  const dieWith = (bench: Bench, key: string, times: number, isAlone = false, isOneOfMany = false): void => {
    for (let deaths = 0; deaths < times; deaths += 1) {
      bench.claim(key, { id: 'w1', isAlone });
      bench.next().lost('w1', { isOneOfMany });
    }
  };

  it('is claimed alone after three deaths and parked after three more while alone', () => {
    const bench = new Bench([compiled('a')]);
    dieWith(bench, 'a', 3);
    expect(bench.next().claim('id-a', worker)).toEqual({ refused: 'alone' });
    dieWith(bench, 'a', 2, true);
    expect(bench.states()).toEqual({ a: 'ready' });
    dieWith(bench, 'a', 1, true);
    expect(bench.states()).toEqual({ a: 'parked' });
    expect(bench.loaded.machine.error?.code).toBe('workers-died');
    expect(bench.loaded.run.state).toBe('parked');
  });

  it('is not the one that does it where others die who had nothing of it', () => {
    const bench = new Bench([compiled('a')]);
    dieWith(bench, 'a', 9, false, true);
    dieWith(bench, 'a', 2);
    expect(bench.loaded.run).toMatchObject({ deaths: 2, deathsAmong: 9 });
    dieWith(bench, 'a', 1, false, true);
    expect(bench.next().claim('id-a', worker)).toEqual({ refused: 'alone' });
    dieWith(bench, 'a', 2, true);
    dieWith(bench, 'a', 20, true, true);
    expect(bench.loaded.run).toMatchObject({ deaths: 2, deathsAmong: 10, deathsAlone: 2 });
    expect(bench.states()).toEqual({ a: 'ready' });
    dieWith(bench, 'a', 1, true);
    expect(bench.states()).toEqual({ a: 'parked' });
  });

  it('is a healthy one as soon as a step of it comes to its end: only deaths in a row count', () => {
    const bench = new Bench([compiled('a'), compiled('b', { needs: ['a'] })]);
    dieWith(bench, 'a', 3);
    dieWith(bench, 'a', 2, true);
    const held = bench.claim('a', { id: 'w1', isAlone: true });
    bench.next().done(held, {}, {});
    dieWith(bench, 'b', 2);
    expect(bench.loaded.run).toMatchObject({ deaths: 2, deathsAlone: 0 });
    bench.loaded.effects.push(effect('a', 1));
    bench.next().wantGone();
    const undo = bench.claim('a');
    bench.loaded.effects.length = 0;
    bench.next().undone(undo);
    expect(bench.loaded.run).toMatchObject({ deaths: 0, state: 'cancelled' });
  });

  it('counts nobody who lives: a claim that its worker does not know of is no death', () => {
    const bench = new Bench([compiled('a')]);
    const held = bench.claim('a');
    bench.next().leftBehind(held);
    expect(bench.states()).toEqual({ a: 'ready' });
    expect(bench.loaded.run.deaths).toBe(0);
  });

  it('counts a worker once, however many steps of the run it held', () => {
    const bench = new Bench([compiled('a'), compiled('b'), compiled('c')]);
    for (const key of ['a', 'b', 'c']) bench.claim(key);
    bench.next().lost('w1');
    expect(bench.states()).toEqual({ a: 'ready', b: 'ready', c: 'ready' });
    expect(bench.loaded.run.deaths).toBe(1);
  });

  it('holds no slot while it is parked, and asks for it again when a person says again', () => {
    const bench = new Bench([compiled('a', { uses: 'slotted' })]);
    dieWith(bench, 'a', 3);
    dieWith(bench, 'a', 3, true);
    expect(bench.model.changes.freed).toEqual(['id-a']);
    bench.next().retry();
    expect(bench.step('a')).toMatchObject({ state: 'ready', slots: ['clones@x'] });
  });

  it('is parked when its other steps have come to their ends', () => {
    const bench = new Bench([compiled('a'), compiled('b')]);
    const other = bench.claim('b', { id: 'w2', isAlone: false });
    dieWith(bench, 'a', 3);
    dieWith(bench, 'a', 3, true);
    expect(bench.loaded).toMatchObject({ run: { state: 'running' }, machine: { state: 'parked' } });
    bench.next().done(other, {}, {});
    expect(bench.loaded.run.state).toBe('parked');
  });
});

describe('a step that no live worker knows', () => {
  it('parks with its run, also before anything of it ran, and holds no slot', () => {
    const bench = new Bench([compiled('a', { uses: 'slotted', version: 2 })]);
    bench.next().parkUnknown('id-a');
    expect(bench.loaded).toMatchObject({
      run: { state: 'parked' },
      machine: { state: 'parked', error: { code: 'unknown-step' } },
    });
    expect(bench.model.changes.freed).toEqual(['id-a']);
    expect(bench.next().retry()).toBe(1);
    expect(bench.states()).toEqual({ a: 'ready' });
  });

  it('parks an undo too', () => {
    const bench = new Bench([compiled('a')]);
    bench.run('a');
    bench.loaded.effects.push({ ...effect('a', 1), version: 9 });
    bench.next().wantGone();
    bench.next().parkUnknown('id-a');
    expect(bench.states()).toEqual({ a: 'undo-parked' });
    expect(bench.loaded).toMatchObject({ run: { state: 'parked' }, machine: { state: 'parked' } });
  });
});

describe('a person who skips a step', () => {
  const parked = (...steps: CompiledStep[]): Bench => {
    const bench = new Bench(steps);
    bench.next().failed(bench.claim('a'), failure('never'), {});
    return bench;
  };

  it('lets what follows go on without it', () => {
    const bench = parked(compiled('a'), compiled('b', { needs: ['a'] }));
    bench.next().skip('a');
    expect(bench.states()).toEqual({ a: 'skipped', b: 'ready' });
    expect(bench.loaded).toMatchObject({
      run: { state: 'running' },
      machine: { state: 'creating', error: undefined },
    });
    bench.run('b');
    expect(bench.loaded.run.state).toBe('done');
  });

  it('ends the run when it was the last one', () => {
    const bench = parked(compiled('a'));
    bench.next().skip('a');
    expect(bench.loaded).toMatchObject({ run: { state: 'done' }, machine: { state: 'ready' } });
  });

  it('leaves the machine parked while another step waits for a person', () => {
    const bench = parked(compiled('a'), compiled('b'));
    bench.next().failed(bench.claim('b'), failure('never'), {});
    bench.next().skip('a');
    expect(bench.loaded).toMatchObject({ run: { state: 'parked' }, machine: { state: 'parked' } });
  });

  it('leaves what it made to the undo', () => {
    const bench = parked(compiled('a'));
    bench.loaded.effects.push(effect('a', 1, 'intended'));
    bench.next().skip('a');
    bench.next().wantGone();
    expect(bench.states()).toEqual({ a: 'undoing' });
  });

  it('is refused where a later step needs what it finds out, and told which', () => {
    const bench = parked(
      compiled('a'),
      compiled('b', {
        needs: ['a'],
        with: { address: { expression: { op: 'ref', path: ['steps', 'a', 'address'] } } },
      }),
    );
    expect(() => bench.next().skip('a')).toThrow('b needs what it finds out');
  });

  it('is refused for a step that nothing can do without, one that is not parked, and in an undo', () => {
    const needed = { ...anyStep('needed'), unskippable: 'everything stands on it' };
    const known = { ...registry, steps: new Map([...registry.steps, ['needed', needed]]) };
    const bench = new Bench([compiled('a', { uses: 'needed' }), compiled('b')], known);
    expect(() => bench.next().skip('b')).toThrow('it is ready');
    expect(() => bench.next().skip('c')).toThrow('has none of this name');
    bench.next().failed(bench.claim('a'), failure('never'), {});
    expect(() => bench.next().skip('a')).toThrow('everything stands on it');
    bench.next().failed(bench.claim('b'), failure('never'), {});
    bench.next().wantGone();
    expect(() => bench.next().skip('b')).toThrow('its run is being undone');
  });
});

describe('a person who lets go of an effect', () => {
  const admin = { by: 'admin', why: 'kept' };
  /** The undo of `b`, which made two things, is parked; `a` made one. */
  const stuck = (): Bench => {
    const bench = new Bench([compiled('a'), compiled('b', { needs: ['a'] })]);
    bench.run('a');
    bench.run('b');
    bench.loaded.effects.push(effect('a', 1), effect('b', 2), effect('b', 3));
    bench.next().wantGone();
    bench.next().failed(bench.claim('b'), failure('after-fix', 'foreign-guest'), {});
    return bench;
  };

  it('lets the undo go on with the rest of the step, then with the other steps', () => {
    const bench = stuck();
    bench.next().releaseEffect('effect-3', admin);
    expect(bench.model.changes.judged).toEqual([{ effectId: 'effect-3', as: 'let-go', ...admin }]);
    bench.loaded.effects.splice(2, 1);
    expect(bench.states()).toEqual({ a: 'done', b: 'undoing' });
    bench.next().failed(bench.claim('b'), failure('after-fix', 'foreign-guest'), {});
    bench.next().releaseEffect('effect-2', admin);
    expect(bench.states()).toEqual({ a: 'undoing', b: 'undone' });
  });

  it('ends the run when nothing else is left', () => {
    const bench = stuck();
    bench.next().releaseEffect('effect-1', admin);
    bench.loaded.effects.splice(0, 1);
    expect(bench.loaded.run.state).toBe('parked');
    bench.next().releaseEffect('effect-3', admin);
    bench.loaded.effects.splice(1, 1);
    bench.next().failed(bench.claim('b'), failure('after-fix', 'foreign-guest'), {});
    bench.next().releaseEffect('effect-2', admin);
    expect(bench.loaded).toMatchObject({ run: { state: 'cancelled' }, machine: { state: 'deleted' } });
    expect(bench.model.changes.released).toBe(true);
  });

  it('is refused while a worker is at it, while the machine is made of it, and for what the run does not hold', () => {
    const bench = new Bench([compiled('a')]);
    bench.loaded.effects.push(effect('a', 1, 'intended'));
    expect(() => bench.next().releaseEffect('effect-1', admin)).toThrow('still makes the machine of it');
    bench.claim('a');
    expect(() => bench.next().releaseEffect('effect-1', admin)).toThrow('a worker is at it');
    expect(() => bench.next().releaseEffect('effect-9', admin)).toThrow('holds no such thing');
  });

  it('of a ready machine changes nothing but that', () => {
    const bench = new Bench([compiled('a')]);
    bench.run('a');
    bench.loaded.effects.push(effect('a', 1));
    bench.next().releaseEffect('effect-1', admin);
    expect(bench.loaded.run.state).toBe('done');
    expect(bench.states()).toEqual({ a: 'done' });
  });

  it('adopts one with what was read back of it', () => {
    const bench = stuck();
    bench.next().adoptEffect('effect-3', { incarnation: 'u', node: 'n2' }, admin);
    expect(bench.loaded.machine).toMatchObject({ incarnation: 'u', node: 'n2' });
    expect(bench.model.changes.judged).toEqual([{ effectId: 'effect-3', as: 'there', ...admin }]);
    expect(bench.states()).toMatchObject({ b: 'undo-parked' });
  });
});
