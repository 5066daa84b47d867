import { fork, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import type { JournalLine } from '../../src/simulators/journal.js';
import { assembled, people, type Assembled } from '../support/assembled.js';
import { simulatedSite, type SimulatedSite } from '../support/simulated-site.js';

const TIMES = { leaseMs: 1_000, heartbeatMs: 250, sweepMs: 100, overdueMs: 1_000, longestRequestMs: 500 };

/** What the two steps make outside, as the journal shows it. */
const MADE = {
  clone: (line: JournalLine) => line.event === 'task-end' && line.op === 'qemu.clone' && line.effect === true,
  'allow-mac': (line: JournalLine) => line.op === 'dhcp.allow' && line.effect === true,
};
type StepKey = keyof typeof MADE;

vi.setConfig({ testTimeout: 40_000 });

let site: SimulatedSite;
let bench: Assembled;
const workers = new Set<ChildProcess>();
/** Processes that are up but have no work yet: starting one takes longer than a cell. */
const spares: ChildProcess[] = [];

function spare(): ChildProcess {
  return fork(join(import.meta.dirname, '..', 'support', 'engine-worker.mjs'), {
    stdio: ['ignore', 2, 2, 'ipc'],
  });
}

beforeAll(async () => {
  spares.push(spare(), spare());
  site = await simulatedSite();
  bench = await assembled(site, { times: TIMES });
});
afterEach(() => {
  for (const worker of workers) worker.kill('SIGKILL');
  workers.clear();
});
afterAll(async () => {
  for (const child of spares) child.kill('SIGKILL');
  await bench?.close();
  await site?.stop();
});

async function worker(kill?: { point: string; step: string; nth?: number }): Promise<ChildProcess> {
  spares.push(spare());
  const child = spares.shift() ?? spare();
  workers.add(child);
  const { databaseUrl, redisUrl, redisPrefix, deployment, remoteTimeScale, times, secretKey } = bench.options;
  const options = {
    databaseUrl,
    redisUrl,
    redisPrefix,
    deployment,
    remoteTimeScale,
    times,
    configDir: site.configDir,
  };
  child.send({ options: { ...options, secretKey: secretKey.toString('base64') }, kill });
  await once(child, 'message');
  return child;
}

const died = async (child: ChildProcess): Promise<void> => {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  expect(child.signalCode).toBe('SIGKILL');
};

interface Cell {
  readonly machineId: string;
  readonly runId: string;
  readonly batch: string;
}

const createOne = async (): Promise<Cell> => (await createMany(1))[0]!;

async function createMany(count: number): Promise<Cell[]> {
  const batch = `b-${randomBytes(4).toString('hex')}`;
  const login = `s${randomBytes(4).toString('hex')}`;
  await bench.assembly.intake.create(
    {
      name: batch,
      blueprint: 'student-desktop',
      rows: people(count, login),
      skipExisting: false,
    },
    bench.admin,
    undefined,
  );
  return bench.assembly.database.query<Cell>(
    `select m.id as "machineId", r.id as "runId", b.name as batch from machines m join runs r on r.machine_id = m.id join batches b on b.id = m.batch_id where b.name = $1`,
    [batch],
  );
}

const ends = (cell: Cell, state: string): Promise<void> =>
  bench.until('select state = $2 as ok from runs where id = $1', [cell.runId, state]);

/** Everything the journal says was made for one machine. */
async function made(cell: Cell, step: StepKey): Promise<number> {
  const [machine] = await bench.assembly.database.query<{ vmid: number; mac: string }>(
    'select vmid, mac from machines where id = $1',
    [cell.machineId],
  );
  return site.simulators.context.journal
    .read()
    .filter(
      (line) =>
        MADE[step](line) && (step === 'clone' ? line.vmid === machine!.vmid : line.resource === machine!.mac),
    ).length;
}

async function isClean(cell: Cell): Promise<void> {
  const [machine] = await bench.assembly.database.query<{ vmid: number; mac: string; name: string }>(
    'select vmid, mac, name from machines where id = $1',
    [cell.machineId],
  );
  expect(site.simulators.proxmox.guest(machine!.vmid)).toBeUndefined();
  expect(site.simulators.winrm.filters().some((filter) => filter.mac === machine!.mac)).toBe(false);
  expect(
    [...site.simulators.guacamole.connections().values()].some(
      (connection) => connection.name === machine!.name,
    ),
  ).toBe(false);
}

/** Every attempt to add the machine's MAC, also one that was refused because it is there. */
async function adds(cell: Cell): Promise<number> {
  const [machine] = await bench.assembly.database.query<{ mac: string }>(
    'select mac from machines where id = $1',
    [cell.machineId],
  );
  const lines = site.simulators.context.journal.read();
  return lines.filter(({ op, resource }) => op === 'dhcp.allow' && resource === machine!.mac).length;
}

const remove = async (cell: Cell): Promise<void> =>
  bench.assembly.intake.deleteBatch(cell.batch, bench.admin);

/** Kills a worker at every point of one step, and judges by the journal what is there in the end. */
export function killAtEveryPoint(step: StepKey): void {
  describe(`a worker killed in ${step}`, () => {
    const points =
      step === 'clone' ? ['K1', 'K2', 'K4', 'K5', 'K6', 'K7', 'K9'] : ['K1', 'K2', 'K6', 'K7', 'K9'];

    it.each(points)(
      'at %s leaves exactly one of what it makes, and the machine gets ready',
      async (point) => {
        const cell = await createOne();
        await died(await worker({ point, step }));
        await worker();
        await ends(cell, 'done');
        expect(await made(cell, step)).toBe(1);
        const [lost] = await bench.assembly.database.query<{ count: number }>(
          `select count(*)::int as count from attempts a join steps s on s.id = a.step_id where s.run_id = $1 and a.outcome = 'lost'`,
          [cell.runId],
        );
        if (point !== 'K7') expect(lost!.count).toBeGreaterThan(0);
        await remove(cell);
        await ends(cell, 'cancelled');
        await isClean(cell);
      },
    );

    it.each(['before', 'after'] as const)(
      'at K3, the request sent and its effect %s the kill, makes it exactly once',
      async (where) => {
        // "before": the request reached the other side, which had not acted yet; "after": it acted, and nobody was left to hear the answer.
        const op = step === 'clone' ? 'qemu.clone' : 'winrm.script.dhcp-filter-allow';
        const { holds } = site.simulators.context;
        holds.hold(op, where);
        const cell = await createOne();
        const first = await worker();
        await holds.reached(op, where);
        first.kill('SIGKILL');
        await died(first);
        holds.release(op, where);
        await worker();
        await ends(cell, 'done');
        expect(await made(cell, step)).toBe(1);
        await remove(cell);
        await ends(cell, 'cancelled');
        await isClean(cell);
      },
    );

    it.each([
      ['before the undo', 1],
      ['after the undo, before it is written down', 2],
    ])('at K8, %s, leaves nothing behind', async (_name, nth) => {
      const cell = await createOne();
      const first = await worker();
      await ends(cell, 'done');
      first.kill('SIGKILL');
      await died(first);
      await remove(cell);
      await died(await worker({ point: 'K8', step, nth }));
      await worker();
      await ends(cell, 'cancelled');
      await isClean(cell);
    });
  });
}

/** Kills a worker that does a step for many machines at once. */
export function killWithGroup(step: 'allow-mac'): void {
  describe(`a worker killed with a group of ${step} in hand`, () => {
    it.each([
      ['K2', 'their intents saved'],
      ['K6', 'all of it done and nothing of it written down'],
      ['K7', 'the first outcome written down'],
    ])('at %s, %s, leaves each thing made once, and each run counts one death at most', async (point) => {
      const cells = await createMany(6);
      await died(await worker({ point, step }));
      await worker();
      const runs = cells.map(({ runId }) => runId);
      await bench.until(
        `select bool_and(state = 'done') as ok from steps where key = $2 and run_id = any ($1::uuid[])`,
        [runs, step],
        30_000,
      );
      for (const cell of cells) expect(await adds(cell)).toBe(1);
      const [deaths] = await bench.assembly.database.query<{ most: number }>(
        'select max(deaths) as most from runs where id = any ($1::uuid[])',
        [runs],
      );
      // At K7 the others may be written down too by the time that the worker is dead: then nobody held anything any more.
      expect(deaths!.most).toBeLessThanOrEqual(1);
      if (point !== 'K7') expect(deaths!.most).toBe(1);
    });
  });
}
