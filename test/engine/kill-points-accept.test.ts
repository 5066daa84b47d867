import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { people } from '../support/assembled.js';
import { inTime } from '../support/lose-worker.js';
import { SteeredWorker } from '../support/steered-worker.js';
import { newName, StepWorld } from '../support/step-world.js';

const COUNT = 5;

let world: StepWorld;
let api: SteeredWorker;

beforeAll(async () => {
  world = await StepWorld.start();
});
afterEach(() => api.kill());
afterAll(async () => world?.close());

const newRequest = () => ({
  name: newName('b'),
  blueprint: 'student-desktop',
  rows: people(COUNT, newName('s')),
  skipExisting: false,
});
type Request = ReturnType<typeof newRequest>;

/** What is allocated under the name of this batch, and what hangs in the air without one. */
async function allocated({ name }: Request): Promise<object> {
  return world.one(
    `select (select count(*)::int from batches where name = $1) as batches,
            (select count(*)::int from machines m join batches b on b.id = m.batch_id where b.name = $1) as machines,
            (select count(distinct r.value)::int from reservations r join machines m on m.id = r.machine_id join batches b on b.id = m.batch_id
              where b.name = $1 and r.kind = 'vmid') as vmids,
            (select count(*)::int from reservations r where not exists (select 1 from machines m where m.id = r.machine_id)) as loose`,
    [name],
  );
}
const NOTHING = { batches: 0, machines: 0, vmids: 0, loose: 0 };
const ALL = { batches: 1, machines: COUNT, vmids: COUNT, loose: 0 };

/** K10: VMIDs, MACs, names and addresses are taken in the transaction that accepts. */
describe('a process that is lost while it allocates', () => {
  it('killed before the transaction, has taken nothing, and the same request is accepted whole', async () => {
    const [request, key] = [newRequest(), randomUUID()];
    api = await SteeredWorker.start(world);
    const stands = api.standsBeforeAccept();
    void api.accept(request, world.admin, key);
    await inTime('K10', stands);
    await api.kill();
    expect(await allocated(request)).toEqual(NOTHING);
    expect(await world.assembly.intake.create(request, world.admin, key)).toMatchObject({ replayed: false });
    expect(await allocated(request)).toEqual(ALL);
  });

  it('killed in the middle of the transaction, has taken nothing, and the same request is accepted whole', async () => {
    const [request, key] = [newRequest(), randomUUID()];
    api = await SteeredWorker.start(world);
    const gate = new pg.Client({ connectionString: world.options.databaseUrl });
    await gate.connect();
    try {
      // The last of what an accept writes: everything else stands in its transaction by then.
      await gate.query('begin; lock table outbox in share row exclusive mode');
      void api.accept(request, world.admin, key);
      await world.until('the accept stands in the middle of its transaction', async () => {
        const { waits } = await world.one<{ waits: boolean }>(
          `select exists (select 1 from pg_locks where relation = 'outbox'::regclass and not granted) as waits`,
        );
        return waits;
      });
      await api.kill();
    } finally {
      await gate.end();
    }
    expect(await allocated(request)).toEqual(NOTHING);
    expect(await world.assembly.intake.create(request, world.admin, key)).toMatchObject({ replayed: false });
    expect(await allocated(request)).toEqual(ALL);
  });

  it('suspended, and awake when somebody else has accepted the same request, answers with that batch', async () => {
    const [request, key] = [newRequest(), randomUUID()];
    api = await SteeredWorker.start(world);
    const stands = api.standsBeforeAccept();
    const late = api.accept(request, world.admin, key);
    await inTime('K10', stands);
    api.suspend();
    const { batchId } = await world.assembly.intake.create(request, world.admin, key);
    await api.resume();
    expect(await late).toEqual({ batchId, replayed: true });
    expect(await allocated(request)).toEqual(ALL);
  });
});
