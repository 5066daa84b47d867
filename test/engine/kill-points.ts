import { fork, type ChildProcess } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { assemble, type Assembly, type AssembleOptions } from '../../src/app/engine/assemble.js';
import { loadSite } from '../../src/app/config/site.js';
import { systemClock } from '../../src/drivers/system-clock.js';
import type { Actor } from '../../src/engine/intake.js';
import type { JournalLine } from '../../src/simulators/journal.js';
import { redisPrefix, redisUrl, testDatabase, type TestDatabase } from '../support/stores.js';
import { simulatedSite, type SimulatedSite } from '../support/simulated-site.js';

const TIMES = { leaseMs: 1_000, heartbeatMs: 250, sweepMs: 100, overdueMs: 1_000, longestRequestMs: 500 };
const quiet = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };

/** What the two steps make outside, as the journal shows it. */
const MADE = {
  clone: (line: JournalLine) => line.event === 'task-end' && line.op === 'qemu.clone' && line.effect === true,
  'allow-mac': (line: JournalLine) => line.op === 'dhcp.allow' && line.effect === true,
};
type StepKey = keyof typeof MADE;

vi.setConfig({ testTimeout: 40_000 });

let site: SimulatedSite;
let database: TestDatabase;
let assembly: Assembly;
let admin: Actor;
let shared: Pick<
  AssembleOptions,
  'databaseUrl' | 'redisUrl' | 'redisPrefix' | 'deployment' | 'remoteTimeScale' | 'times'
>;
const secretKey = randomBytes(32);
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
  database = await testDatabase();
  shared = {
    databaseUrl: database.url,
    redisUrl: redisUrl(),
    redisPrefix: redisPrefix(),
    deployment: randomUUID(),
    remoteTimeScale: site.timeScale,
    times: TIMES,
  };
  assembly = await assemble({
    ...shared,
    secretKey,
    site: loadSite({ configDir: site.configDir, env: {} }),
    log: quiet,
    observe: () => {},
    webhook: { post: async () => {} },
  });
  admin = { userId: randomUUID(), login: 'admin', role: 'admin' };
  await assembly.database.query(`insert into users (id, login, role) values ($1, 'admin', 'admin')`, [
    admin.userId,
  ]);
});
afterEach(() => {
  for (const worker of workers) worker.kill('SIGKILL');
  workers.clear();
});
afterAll(async () => {
  for (const child of spares) child.kill('SIGKILL');
  await assembly?.close();
  await database?.drop();
  await site?.stop();
});

async function worker(kill?: { point: string; step: string; nth?: number }): Promise<ChildProcess> {
  spares.push(spare());
  const child = spares.shift() ?? spare();
  workers.add(child);
  child.send({
    options: { ...shared, secretKey: secretKey.toString('base64'), configDir: site.configDir },
    kill,
  });
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

async function createOne(): Promise<Cell> {
  const batch = `b-${randomBytes(4).toString('hex')}`;
  const login = `s${randomBytes(4).toString('hex')}`;
  await assembly.intake.create(
    {
      name: batch,
      blueprint: 'student-desktop',
      rows: [{ row: 2, login, loginKey: login, lastName: 'N', firstName: 'P', sshKeys: [] }],
      skipExisting: false,
    },
    admin,
    undefined,
  );
  const [row] = await assembly.database.query<Cell>(
    `select m.id as "machineId", r.id as "runId", b.name as batch from machines m join runs r on r.machine_id = m.id join batches b on b.id = m.batch_id where b.name = $1`,
    [batch],
  );
  return row!;
}

async function ends(cell: Cell, state: string): Promise<void> {
  const endsAt = performance.now() + 15_000;
  for (;;) {
    const [run] = await assembly.database.query<{ state: string }>('select state from runs where id = $1', [
      cell.runId,
    ]);
    if (run?.state === state) return;
    if (performance.now() > endsAt)
      throw new Error(
        `run is ${run?.state}: ${JSON.stringify(await assembly.database.query('select key, state, due_at, worker_id, remote, error from steps where run_id = $1', [cell.runId]), null, 1)}`,
      );
    await systemClock.sleep(50);
  }
}

/** Everything the journal says was made for one machine. */
async function made(cell: Cell, step: StepKey): Promise<number> {
  const [machine] = await assembly.database.query<{ vmid: number; mac: string }>(
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
  const [machine] = await assembly.database.query<{ vmid: number; mac: string; name: string }>(
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

const remove = async (cell: Cell): Promise<void> => assembly.intake.deleteBatch(cell.batch, admin);

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
        const [lost] = await assembly.database.query<{ count: number }>(
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
