import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import type { CompiledPlan, CompiledStep } from '../plan/compiled-plan.js';
import { defineStep, type AnyStep } from '../plan/step.js';
import type { EffectRow, HeldStep, LastAttempt, LoadedRun, StepRow } from '../ports/run-store.js';
import { RunModel } from './run-model.js';

const SETTLE_MS = 40_000;
const worker = { id: 'w1', isAlone: false, knows: () => true };

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
const registry = new Map([anyStep('plain'), anyStep('slotted', ['clones@x'])].map((step) => [step.id, step]));

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
  dispatch: 0,
  epoch: 0,
  workerId: undefined,
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
  readonly loaded: LoadedRun & { effects: EffectRow[]; lastAttempts: LastAttempt[]; nowMs: number };
  model!: RunModel;

  constructor(steps: readonly CompiledStep[]) {
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
        deathsAlone: 0,
      },
      machine: {
        id: 'm',
        cluster: 'main',
        mac: '',
        vmid: 100,
        node: 'n',
        state: 'reserved',
        smbiosUuid: undefined,
        address: undefined,
        link: undefined,
        secretRef: undefined,
        error: undefined,
      },
      steps: steps.map(stepRow),
      effects: [],
      lastAttempts: [],
      nowMs: 1_000_000,
    };
    this.next().advance();
  }

  next(): RunModel {
    this.model = new RunModel(this.loaded, { steps: registry, effects: new Map() }, SETTLE_MS);
    return this.model;
  }

  claim(key: string): HeldStep {
    const answer = this.next().claim(`id-${key}`, worker);
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

const failure = (
  retry: 'later' | 'never' | 'after-fix',
  code: 'remote-refused' | 'outcome-unknown' = 'remote-refused',
) => ({
  error: { code, message: 'no' } as const,
  retry,
  afterMs: undefined,
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
    bench.next().wait(held, 5_000, {});
    expect(bench.next().claim('id-a', worker)).toEqual({ refused: 'not-due' });
    bench.loaded.nowMs += 5_000;
    expect(bench.claim('a').epoch).toBe(2);
  });

  it('knows a stale holder by its epoch', () => {
    const bench = new Bench([compiled('a')]);
    const first = bench.claim('a');
    bench.next().lost('id-a', 'w1');
    bench.claim('a');
    expect(bench.next().isHeld(first)).toBe(false);
  });

  it('leaves a version that it does not know to others', () => {
    const bench = new Bench([compiled('a')]);
    expect(bench.next().claim('id-a', { ...worker, knows: () => false })).toEqual({
      refused: 'unknown-version',
    });
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

  it('is not repeated when the thrower says never', () => {
    const bench = new Bench([compiled('a')]);
    bench.next().failed(bench.claim('a'), failure('never'), {});
    expect(bench.states()).toEqual({ a: 'parked' });
  });

  it('keeps its slot while the outcome is unknown, and gives it back when nothing was made', () => {
    const bench = new Bench([compiled('a', { uses: 'slotted' })]);
    bench.step('a').slots = undefined;
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
    bench.loaded.lastAttempts.push({
      stepId: 'id-a',
      outcome: 'retry',
      code: 'outcome-unknown',
      endedAtMs: bench.loaded.nowMs,
    });
    bench.next().wantGone();
    expect(bench.step('a')).toMatchObject({ state: 'undoing', dueAtMs: bench.loaded.nowMs + SETTLE_MS });
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

  it('parks an undo that fails for good, lists the error, and goes on when a person says again', () => {
    const bench = new Bench([compiled('a')]);
    bench.loaded.effects.push(effect('a', 1));
    bench.run('a');
    bench.next().wantGone();
    bench.next().failed(bench.claim('a'), failure('after-fix'), {});
    expect(bench.states()).toEqual({ a: 'undo-parked' });
    expect(bench.loaded.run.state).toBe('parked');
    bench.next().retry();
    expect(bench.states()).toEqual({ a: 'undoing' });
    expect(bench.loaded.machine.state).toBe('deleting');
  });
});

describe('a run that kills workers', () => {
  it('is claimed alone after three deaths and parked after three more while alone', () => {
    const bench = new Bench([compiled('a')]);
    for (let deaths = 0; deaths < 3; deaths += 1) {
      bench.claim('a');
      bench.next().lost('id-a', 'w1');
    }
    expect(bench.next().claim('id-a', worker)).toEqual({ refused: 'alone' });
    for (let deaths = 0; deaths < 3; deaths += 1) {
      expect(bench.states()).toEqual({ a: 'ready' });
      bench.next().claim('id-a', { ...worker, isAlone: true });
      bench.next().lost('id-a', 'w1');
    }
    expect(bench.states()).toEqual({ a: 'parked' });
    expect(bench.loaded.machine.error?.code).toBe('workers-died');
  });
});
