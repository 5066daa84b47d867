import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkJournal } from '../../src/simulators/journal/check.js';
import { durationMs, type MachineSnapshot } from '../../src/plan/step.js';
import { EFFECTS } from '../../src/steps/effects.js';
import { STEPS } from '../../src/steps/index.js';
import { addBlueprint, CLOUD_INIT, withSnippets } from '../support/blueprint-variants.js';
import { StepContract, type StepRecord } from '../support/step-contract.js';
import { StepWorld } from '../support/step-world.js';
import { thingsOutside } from '../support/things-outside.js';

let world: StepWorld;
let foreign: Record<string, string>;
let records: ReadonlyMap<string, StepRecord>;

beforeAll(async () => {
  // Cloud-init files are nothing that a shipped blueprint asks for.
  world = await StepWorld.start({
    prepare: (site) =>
      addBlueprint(site, 'desktop-of-b12', {
        blueprint: [CLOUD_INIT, withSnippets({ vendor: { timezone: 'UTC' } })],
      }),
  });
  foreign = thingsOutside(world.site);
  records = await new StepContract(world).run();
});
afterAll(async () => world?.close());

const recordOf = (id: string): StepRecord => {
  const record = records.get(id);
  if (record === undefined) throw new Error(`no shipped blueprint has a workflow that uses ${id}`);
  return record;
};

describe.each([...STEPS])('step %s', (id, step) => {
  it('says what the engine and its readers need to know', () => {
    expect(step.id).toBe(id);
    expect(step.version).toBeGreaterThan(0);
    expect(step.summary).not.toBe('');
    expect(step.lateWrites).not.toBe('');
    expect(step.retry.attempts).toBeGreaterThan(1);
    for (const duration of [step.timeout, step.retry.first, step.retry.max])
      expect(durationMs(duration)).toBeGreaterThan(0);
    expect(step.deadline === undefined).toBe(step.expired === undefined);
  });

  it('takes the input that the shipped workflow gives it', () => {
    expect(() => step.input.parse(recordOf(id).doing.input)).not.toThrow();
  });

  it('declares only effects that have an undo of their own, each once, and makes something if it declares one', () => {
    const { input, first } = recordOf(id).doing;
    const effects = step.effects(step.input.parse(input), someMachine);
    if (effects.length > 0) expect(first.writes).not.toEqual([]);
    for (const { kind, version, payload } of effects)
      expect(EFFECTS.get(`${kind}@${version}`)?.payload.safeParse(payload).success, kind).toBe(true);
    expect(new Set(effects.map(({ system, kind, key }) => `${system} ${kind} ${key}`)).size).toBe(
      effects.length,
    );
  });

  it('done once more after a lost commit changes nothing outside and gives the same output', () => {
    const { first, second } = recordOf(id).doing;
    expect(second.writes).toEqual([]);
    expect(second.output).toEqual(first.output);
  });

  it('is finished by another worker, each thing made once, when its worker falls silent after any of its writes', () => {
    const { crashed, usual } = recordOf(id);
    for (const ending of crashed) {
      expect(ending.run).toBe('done');
      expect(ending.attempts.filter((outcome) => outcome === 'act lost')).toHaveLength(1);
      expect(ending.writes).toEqual(usual);
    }
  });

  it('leaves nothing behind when its machine is given up right after it', () => {
    const { undone } = recordOf(id);
    expect(undone.run).toBe('cancelled');
    expect(undone.left).toEqual([]);
  });

  it('is undone by another worker, each thing removed once, when the worker of its undo falls silent after any write', () => {
    const { deleted, whole, doing } = recordOf(id);
    if (step.effects(step.input.parse(doing.input), someMachine).length > 0) expect(deleted).not.toEqual([]);
    for (const ending of deleted) {
      expect(ending.run).toBe('cancelled');
      expect(ending.left).toEqual([]);
      expect(ending.attempts.filter((outcome) => outcome === 'undo lost')).toHaveLength(1);
      expect(ending.writes).toEqual(whole);
    }
  });

  it('is undone without a write when a foreign hand took away what it made', () => {
    const { removed } = recordOf(id);
    expect(removed.run).toBe('cancelled');
    expect(removed.writes).toEqual([]);
  });

  it('is undone when it had the intent only', () => {
    const { intended, before, unmade } = recordOf(id);
    expect(intended.attempts.at(-1)).toBe('act lost');
    expect(intended.writes).toEqual(before);
    expect(unmade.run).toBe('cancelled');
    expect(unmade.left).toEqual([]);
  });
});

it('all of them together leave what is foreign as it was, and collide nowhere', async () => {
  expect(thingsOutside(world.site)).toEqual(foreign);
  const verdict = await checkJournal(world.site.simulators.context.journal.file);
  expect(verdict).toMatchObject({ foreignWrites: 0, collisions: 0 });
});

it('all of them together leave no slot, no effect and no reservation behind', async () => {
  const left = await world.one(
    `select (select count(*) from slots)::int as slots, (select count(*) from effects where state <> 'undone')::int as effects,
            (select count(*) from reservations where released_at is null)::int as reservations, (select count(*) from effect_holders where released_at is null)::int as holders`,
  );
  expect(left).toEqual({ slots: 0, effects: 0, reservations: 0, holders: 0 });
});

const someMachine: MachineSnapshot = {
  machineId: '00000000-0000-4000-8000-000000000001',
  vmid: 10_000,
  mac: '02:00:00:00:00:01',
  node: 'pve1',
  incarnation: undefined,
  identity: {
    deployment: '00000000-0000-4000-8000-000000000002',
    machine: '00000000-0000-4000-8000-000000000001',
    vmid: 10_000,
    kind: 'qemu',
  },
  phoneHome: undefined,
};
