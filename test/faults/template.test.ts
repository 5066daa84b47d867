import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { causeFaults } from '../support/fault-file.js';
import { StepWorld, type TestMachine } from '../support/step-world.js';

const CLASS = ['a', 'b', 'c', 'd', 'e'].map((letter) => `student${letter}`);
let world: StepWorld;

beforeAll(async () => {
  world = await StepWorld.start();
});
afterAll(async () => world?.close());

async function clonedOrParked(machines: readonly TestMachine[]): Promise<{ done: number; parked: number }> {
  const ids = machines.map(({ runId }) => runId);
  const states = async (): Promise<Record<string, number>> => {
    const rows = await world.query<{ state: string; count: number }>(
      `select state, count(*)::int as count from steps where key = 'clone' and run_id = any ($1::uuid[]) group by state`,
      [ids],
    );
    return Object.fromEntries(rows.map(({ state, count }) => [state, count]));
  };
  await world.until('every clone is done or parked', async () => {
    const { done = 0, parked = 0 } = await states();
    return done + parked === machines.length;
  });
  const { done = 0, parked = 0 } = await states();
  return { done, parked };
}

const errorsOf = async (machines: readonly TestMachine[]): Promise<string[]> => {
  const rows = await world.query<{ message: string }>(
    `select distinct error ->> 'code' || ': ' || (error ->> 'message') || ' | ' || coalesce(error -> 'facts' ->> 'advice', '') as message
       from machines where id = any ($1::uuid[]) and state = 'parked'`,
    [machines.map(({ id }) => id)],
  );
  return rows.map(({ message }) => message);
};

/** The first clone begins and the fault comes with it; then the others are let go. */
async function aClassMeets(fault: string): Promise<{ machines: TestMachine[]; end: () => void }> {
  const machines = await world.createBatch(
    'student-desktop',
    CLASS.map((login) => `${fault}-${login}`.toLowerCase()),
  );
  const caused = causeFaults(world.site, fault);
  const [first, ...rest] = machines;
  await world.open(first!, ['reserve', 'clone']);
  await world.stepIs('done', first!, 'clone');
  for (const machine of rest) await world.open(machine, ['reserve', 'clone']);
  return { machines, end: () => caused.end() };
}

async function retried(machines: readonly TestMachine[]): Promise<void> {
  for (const machine of machines) {
    if ((await world.stepState(machine, 'clone')) === 'parked')
      await world.assembly.intake.retryRun(machine.runId, world.admin);
    await world.open(machine);
  }
  await world.runsAre('done', machines);
}

const guestsOf = (machines: readonly TestMachine[]): number => {
  const names = new Set(machines.map(({ name }) => name));
  return world.site.simulators.proxmox.guests().filter(({ config }) => names.has(config['name'] ?? ''))
    .length;
};

describe('the template', () => {
  it('F10: changed in the middle of a batch parks the rest, which goes on when it is put back', async () => {
    const { machines, end } = await aClassMeets('F10-template-changes');
    expect(await clonedOrParked(machines)).toEqual({ done: 1, parked: 4 });
    expect(await errorsOf(machines)).toEqual([
      expect.stringMatching(
        /^template-changed: .*its config is not the one that was planned with \| put the template back/,
      ),
    ]);
    expect(guestsOf(machines)).toBe(1);
    end();
    world.site.simulators.proxmox.foreign.edit(9000, { cores: '2' });
    await retried(machines);
    expect(guestsOf(machines)).toBe(5);
  });

  it('F13: with a lock that a crash left on it parks the rest with the command that unlocks it', async () => {
    const { machines, end } = await aClassMeets('F13-lock-left-behind');
    expect(await clonedOrParked(machines)).toEqual({ done: 1, parked: 4 });
    expect(await errorsOf(machines)).toEqual([
      expect.stringMatching(
        /^template-changed: .*locked \(backup\), and no task on pve1 holds the lock \| .*on pve1: qm unlock 9000$/,
      ),
    ]);
    end();
    world.site.simulators.proxmox.foreign.edit(9000, { lock: null });
    await retried(machines);
    expect(guestsOf(machines)).toBe(5);
  });
});
