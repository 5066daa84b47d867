import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Assembly } from '../../src/app/engine/assemble.js';
import type { Actor, BatchRequest } from '../../src/engine/intake.js';
import { assembled, people } from '../support/assembled.js';
import { simulatedSite, type SimulatedSite } from '../support/simulated-site.js';

let site: SimulatedSite;
let assembly: Assembly;
let admin: Actor;
let teacher: Actor;
let until: (sql: string) => Promise<void>;

beforeAll(async () => {
  site = await simulatedSite();
});
afterAll(async () => site?.stop());

// No worker runs here: what is accepted stays as it was accepted.
beforeEach(async () => {
  const bench = await assembled(site);
  ({ assembly, admin, teacher, until } = bench);
  return () => bench.close();
});

const aBatch = (more: Partial<BatchRequest> = {}): BatchRequest => ({
  name: 'l3-info',
  blueprint: 'student-desktop',
  rows: people(3),
  skipExisting: false,
  ...more,
});

async function counts(): Promise<Record<string, number>> {
  const [row] = await assembly.database.query<Record<string, number>>(
    `select (select count(*) from batches)::int as batches, (select count(*) from machines)::int as machines, (select count(*) from reservations)::int as reservations,
            (select count(*) from runs)::int as runs, (select count(*) from steps)::int as steps, (select count(*) from outbox)::int as outbox`,
  );
  return row!;
}

const inventoryReads = (): number =>
  site.simulators.context.journal.read().filter((line) => line.op === 'cluster.resources').length;

describe('create', () => {
  it('writes rows, reservations and runs, each waiting to begin, in one transaction, with VMIDs that foreign guests leave free', async () => {
    await assembly.intake.create(aBatch({ rows: people(8) }), teacher, undefined);
    expect(await counts()).toEqual({
      batches: 1,
      machines: 8,
      reservations: 32,
      runs: 8,
      steps: 80,
      outbox: 0,
    });
    const vmids = await assembly.database.query<{ vmid: number }>('select vmid from machines order by vmid');
    expect(vmids.map((row) => row.vmid)).toEqual([
      10_000, 10_001, 10_002, 10_004, 10_005, 10_006, 10_008, 10_009,
    ]);
  });

  it('sends as many statements and inventory reads for 100 machines as for 3', async () => {
    const cost = async (request: BatchRequest): Promise<{ statements: number; reads: number }> => {
      const before = { statements: assembly.database.statements, reads: inventoryReads() };
      await assembly.intake.create(request, teacher, randomUUID());
      return {
        statements: assembly.database.statements - before.statements,
        reads: inventoryReads() - before.reads,
      };
    };
    // The first request of a minute also asks what we may do on the cluster.
    await cost(aBatch({ name: 'first', rows: people(1, 'z') }));
    const few = await cost(aBatch({ name: 'few', rows: people(3, 'a') }));
    const many = await cost(aBatch({ name: 'many', rows: people(100, 'b') }));
    expect(many.statements).toBe(few.statements);
    expect(many.reads).toBeLessThanOrEqual(Math.max(1, few.reads));
  });

  it('answers the same request under the same key with the first batch, and writes nothing', async () => {
    const key = randomUUID();
    const first = await assembly.intake.create(aBatch(), teacher, key);
    const before = await counts();
    const second = await assembly.intake.create(aBatch(), teacher, key);
    expect(second).toEqual({ batchId: first.batchId, replayed: true });
    expect(await counts()).toEqual(before);
  });

  it('refuses another request under the same key, also after the batch changed', async () => {
    const key = randomUUID();
    await assembly.intake.create(aBatch(), teacher, key);
    await expect(assembly.intake.create(aBatch({ rows: people(4) }), teacher, key)).rejects.toMatchObject({
      code: 'idempotency-mismatch',
    });
    await expect(assembly.intake.create(aBatch({ name: 'other' }), teacher, key)).rejects.toMatchObject({
      code: 'idempotency-mismatch',
    });
  });

  it('makes one batch of fifty identical requests at once', async () => {
    const key = randomUUID();
    const answers = await Promise.allSettled(
      Array.from({ length: 50 }, () => assembly.intake.create(aBatch(), teacher, key)),
    );
    const ids = new Set(
      answers.flatMap((answer) => (answer.status === 'fulfilled' ? [answer.value.batchId] : [])),
    );
    expect(ids.size).toBe(1);
    for (const answer of answers)
      if (answer.status === 'rejected')
        expect(answer.reason).toMatchObject({ code: 'idempotency-in-progress' });
    expect(await counts()).toMatchObject({ batches: 1, machines: 3 });
  });

  it('gives batches that are created at once different VMIDs, names and MACs', async () => {
    await Promise.all(
      ['a', 'b', 'c', 'd', 'e'].map((name) =>
        assembly.intake.create(aBatch({ name, rows: people(10, name) }), teacher, undefined),
      ),
    );
    const [distinct] = await assembly.database.query(
      'select count(distinct vmid)::int as vmids, count(distinct name)::int as names, count(distinct mac)::int as macs from machines',
    );
    expect(distinct).toEqual({ vmids: 50, names: 50, macs: 50 });
  });

  it('refuses a name that a live batch has, and people who already have this machine, unless they are left out', async () => {
    await assembly.intake.create(aBatch(), teacher, undefined);
    await expect(
      assembly.intake.create(aBatch({ rows: people(2, 'x') }), admin, undefined),
    ).rejects.toMatchObject({ code: 'name-taken' });
    const overlapping = aBatch({ name: 'second', rows: [...people(3), { ...people(1, 'new')[0]!, row: 9 }] });
    await expect(assembly.intake.create(overlapping, teacher, undefined)).rejects.toMatchObject({
      code: 'already-has-machine',
      problems: [{ row: 2 }, { row: 3 }, { row: 4 }],
    });
    await assembly.intake.create({ ...overlapping, skipExisting: true }, teacher, undefined);
    expect(await counts()).toMatchObject({ batches: 2, machines: 4 });
  });

  it('numbers different logins that fold to one machine name', async () => {
    const [first, second] = people(2);
    await assembly.intake.create(
      aBatch({
        rows: [
          { ...first!, login: 'j.dupont', loginKey: 'j.dupont' },
          { ...second!, login: 'j-dupont', loginKey: 'j-dupont' },
        ],
      }),
      teacher,
      undefined,
    );
    const names = await assembly.database.query<{ name: string }>('select name from machines order by row');
    expect(names.map((row) => row.name)).toEqual(['vm-j-dupont', 'vm-j-dupont-2']);
  });

  it('refuses more machines than the cluster has memory for, names rows, and writes nothing', async () => {
    await expect(
      assembly.intake.create(aBatch({ rows: people(900) }), teacher, undefined),
    ).rejects.toMatchObject({ code: 'no-capacity' });
    expect(await counts()).toEqual({
      batches: 0,
      machines: 0,
      reservations: 0,
      runs: 0,
      steps: 0,
      outbox: 0,
    });
  });

  it('refuses names that are no slug and blueprints that are not there', async () => {
    await expect(
      assembly.intake.create(aBatch({ name: 'L3 Info' }), teacher, undefined),
    ).rejects.toMatchObject({ code: 'request-invalid', hint: 'Write l3-info.' });
    await expect(
      assembly.intake.create(aBatch({ blueprint: 'nosuch' }), teacher, undefined),
    ).rejects.toMatchObject({ code: 'not-found' });
  });
});

describe('plan', () => {
  it('shows what create would do and writes and reserves nothing', async () => {
    const before = await counts();
    const plan = await assembly.intake.plan(aBatch(), teacher);
    expect(await counts()).toEqual(before);
    expect(plan.counts).toEqual({ rows: 3, ok: 3, conflict: 0, noCapacity: 0 });
    await assembly.intake.create(aBatch(), teacher, undefined);
    const machines = await assembly.database.query(
      'select row, login, name as machine, vmid, node from machines order by row',
    );
    expect(plan.items).toMatchObject(machines);
    expect(plan.capacity.map((line) => line.name)).toEqual(['pve1', 'pve2', 'pve3', 'ceph']);
    expect(plan.readyInMs).toBeGreaterThan(0);
  });

  it('tells a teacher that somebody has a machine, but not the batches of others', async () => {
    await assembly.intake.create(aBatch({ name: 'secret-exam' }), admin, undefined);
    const reasonsFor = async (actor: typeof teacher) =>
      JSON.stringify((await assembly.intake.plan(aBatch({ name: 'mine' }), actor)).items);
    expect(await reasonsFor(teacher)).toContain('in a batch of somebody else');
    expect(await reasonsFor(teacher)).not.toContain('secret-exam');
    expect(await reasonsFor(admin)).toContain('in batch secret-exam');
    await expect(assembly.intake.create(aBatch({ name: 'mine' }), teacher, undefined)).rejects.toSatisfy(
      (error) => !JSON.stringify(error).includes('secret-exam'),
    );
  });

  it('names conflicts row by row instead of throwing', async () => {
    await assembly.intake.create(aBatch(), teacher, undefined);
    const plan = await assembly.intake.plan(aBatch({ name: 'again' }), teacher);
    expect(plan.items.map((item) => item.verdict)).toEqual(['conflict', 'conflict', 'conflict']);
    expect(plan.items[0]?.reason).toContain('l3-info');
  });

  it('counts what other batches were promised', async () => {
    const before = await assembly.intake.plan(aBatch(), teacher);
    await assembly.intake.create(aBatch({ name: 'big', rows: people(300, 'big') }), teacher, undefined);
    const after = await assembly.intake.plan(aBatch(), teacher);
    expect(after.capacity[0]!.freeMemoryMiB!).toBeLessThan(before.capacity[0]!.freeMemoryMiB!);
  });
});

describe('a batch that exists', () => {
  it('takes late students under its own blueprint version', async () => {
    const { batchId } = await assembly.intake.create(aBatch(), teacher, undefined);
    await assembly.intake.addMachines(
      'l3-info',
      { rows: people(2, 'late'), skipExisting: false },
      teacher,
      undefined,
    );
    const [row] = await assembly.database.query(
      'select count(*)::int as machines from machines where batch_id = $1',
      [batchId],
    );
    expect(row).toEqual({ machines: 5 });
  });

  it('is not there for another teacher', async () => {
    const { batchId } = await assembly.intake.create(aBatch(), admin, undefined);
    for (const batch of [batchId, 'l3-info'])
      for (const act of [
        () => assembly.intake.cancelBatch(batch, teacher),
        () => assembly.intake.deleteBatch(batch, teacher),
        () => assembly.intake.addMachines(batch, { rows: people(1), skipExisting: true }, teacher, undefined),
        () => assembly.intake.credentials(batch, teacher),
      ])
        await expect(act()).rejects.toMatchObject({ code: 'not-found' });
  });

  it('cannot be deleted while it is being created, but cancelled', async () => {
    await assembly.intake.create(aBatch(), teacher, undefined);
    await expect(assembly.intake.deleteBatch('l3-info', teacher)).rejects.toMatchObject({
      code: 'batch-busy',
      hint: expect.stringContaining('batch cancel l3-info') as string,
    });
    await assembly.intake.cancelBatch('l3-info', teacher);
    const [wanted] = await assembly.database.query(
      `select count(*)::int as count from runs where wanted = 'gone'`,
    );
    expect(wanted).toEqual({ count: 3 });
  });

  it('releases names and people when it is cancelled before it began; its VMIDs rest', async () => {
    await assembly.intake.create(aBatch(), teacher, undefined);
    await assembly.intake.cancelBatch('l3-info', teacher);
    assembly.caretaker.start();
    await until('select deleted_at is not null as ok from batches');
    await assembly.caretaker.stop();
    await assembly.intake.create(aBatch(), teacher, undefined);
    const vmids = await assembly.database.query<{ vmid: number }>(
      `select vmid from machines where state = 'reserved' order by vmid`,
    );
    expect(vmids.map((row) => row.vmid)).toEqual([10_004, 10_005, 10_006]);
  });

  it('shows each generated password once, to one of those who ask at once, and keeps what cannot be read for later', async () => {
    await assembly.intake.create(aBatch(), teacher, undefined);
    const machines = await assembly.database.query<{ id: string }>(
      `update machines set state = 'ready' returning id`,
    );
    await assembly.database.query(`update runs set state = 'done'`);
    for (const { id } of machines) await assembly.parts.ports.secrets.ensurePassword(id);
    const show = (): Promise<readonly unknown[]> => assembly.intake.credentials('l3-info', teacher);
    const [secret] = await assembly.database.query<{ key: string }>('select key_id as key from secrets');
    await assembly.database.query(`update secrets set key_id = 'another'`);
    await expect(show()).rejects.toMatchObject({ code: 'settings-invalid' });
    await assembly.database.query('update secrets set key_id = $1', [secret!.key]);
    const asked = await Promise.allSettled([show(), show(), show()]);
    const shown = asked.flatMap((one) => (one.status === 'fulfilled' ? one.value : []));
    expect(shown).toHaveLength(3);
    await expect(show()).rejects.toMatchObject({ code: 'not-applicable' });
  });
});
