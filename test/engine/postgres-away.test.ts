import { afterEach, expect, it } from 'vitest';
import { Database } from '../../src/drivers/postgres/database.js';
import { assembled, people, type Assembled } from '../support/assembled.js';
import { judged } from '../support/judged.js';
import { simulatedSite, type SimulatedSite } from '../support/simulated-site.js';
import { ownPostgres, testDatabase, type TestDatabase } from '../support/stores.js';

/** A minute is ten leases of six seconds. */
const LEASES_AWAY = 10;
const TIMES = { leaseMs: 600, heartbeatMs: 150, sweepMs: 100, overdueMs: 1_000, longestRequestMs: 200 };
/** More remote calls at once than the pool has connections. */
const MANY = 12;
const LIMITS = { clonesPerStorage: MANY, clonesPerNode: MANY };

const closers: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});

/** Hears what a worker says about its lease. */
class LeaseLog {
  #waiting: { isThis: (why: string) => boolean; left: number; resolve: () => void }[] = [];

  readonly log = {
    debug: () => {},
    info: () => {},
    error: () => {},
    warn: ({ why }: { why?: string }, sentence: string) => {
      if (sentence !== 'the worker’s lease ended') return;
      for (const one of this.#waiting) if (one.isThis(why ?? '') && (one.left -= 1) === 0) one.resolve();
    },
  };

  /** It ran out, or Postgres said that it is over. */
  isOver(): Promise<void> {
    return this.#hear((why) => !why.startsWith('heartbeat failed'), 1);
  }

  heartbeatsFailed(count: number): Promise<void> {
    return this.#hear((why) => why.startsWith('heartbeat failed'), count);
  }

  #hear(isThis: (why: string) => boolean, left: number): Promise<void> {
    return new Promise((resolve) => this.#waiting.push({ isThis, left, resolve }));
  }
}

async function clonesInHand(site: SimulatedSite, bench: Assembled, count: number): Promise<void> {
  const { holds } = site.simulators.context;
  holds.hold('qemu.clone', 'task');
  bench.assembly.caretaker.start();
  const worker = await bench.assembly.startWorker(32);
  closers.push(
    () => worker.stop(),
    () => bench.assembly.caretaker.stop(),
  );
  const request = {
    name: 'class',
    blueprint: 'student-desktop',
    rows: people(count),
    skipExisting: false,
  };
  await bench.assembly.intake.create(request, bench.admin, undefined);
  await holds.reached('qemu.clone', 'task', count);
  // With more remote calls in hand than the pool has connections this is answered: nobody keeps one meanwhile.
  await bench.until(`select count(*) = ${count} as ok from steps where key = 'allow-mac' and state = 'done'`);
}

async function allReady(site: SimulatedSite, bench: Assembled, count: number): Promise<void> {
  const sql = `select count(*) = ${count} as ok from machines where state = 'ready'`;
  await bench.until(sql);
  const verdict = await judged({ site, options: bench.options }, []);
  expect(verdict).toMatchObject({ findings: [], missing: [], counts: { guestsCreated: count } });
}

it('ten leases without Postgres lose time only: nothing is sent meanwhile, and what went on outside is followed', async () => {
  const postgres = await ownPostgres();
  closers.push(() => postgres.remove());
  const site = await simulatedSite({ cluster: { limits: LIMITS } });
  closers.push(() => site.stop());
  const leases = new LeaseLog();
  const bench = await assembled(site, { databaseUrl: postgres.url, times: TIMES, log: leases.log });
  closers.push(() => bench.close());
  await clonesInHand(site, bench, MANY);

  const { context } = site.simulators;
  const isOver = leases.isOver();
  await postgres.stop();
  await isOver;
  const since = BigInt(context.journal.now());
  context.holds.release('qemu.clone', 'task');
  await leases.heartbeatsFailed((LEASES_AWAY * TIMES.leaseMs) / TIMES.heartbeatMs);
  const sent = context.journal
    .read()
    .filter((line) => BigInt(line.ns) >= since && line.event === 'request' && (line.effect || line.upid));
  expect(sent).toEqual([]);
  await postgres.restart();

  await allReady(site, bench, MANY);
});

const SHIFTED = (name: string): string =>
  `create function shifted.${name}() returns timestamptz language sql volatile as 'select pg_catalog.${name}() + (select shift from shifted.by)'`;

/** Every statement of a new connection to this database finds these functions before those of Postgres. */
async function shiftClock({ url }: TestDatabase): Promise<void> {
  const database = new Database(url);
  for (const sql of [
    'create schema shifted',
    `create table shifted.by as select interval '0' as shift`,
    SHIFTED('now'),
    SHIFTED('clock_timestamp'),
    `alter database ${new URL(url).pathname.slice(1)} set search_path = shifted, pg_catalog, public`,
  ])
    await database.query(sql);
  await database.close();
}

it('a database clock that jumps an hour ahead costs time only', async () => {
  const [site, database] = await Promise.all([simulatedSite(), testDatabase()]);
  closers.push(
    () => site.stop(),
    () => database.drop(),
  );
  await shiftClock(database);
  const leases = new LeaseLog();
  const bench = await assembled(site, { databaseUrl: database.url, times: TIMES, log: leases.log });
  closers.push(() => bench.close());
  await clonesInHand(site, bench, 4);
  const isOver = leases.isOver();
  // The sweeper comes before the next heartbeat, which would renew the lease by the new clock.
  await bench.assembly.database.transaction(async (queries) => {
    await queries.query(`update shifted.by set shift = '1 hour'`);
    await queries.query(
      'update workers set stopped_at = clock_timestamp() where stopped_at is null and lease_until < clock_timestamp()',
    );
  });
  await isOver;
  site.simulators.context.holds.release('qemu.clone', 'task');
  await allReady(site, bench, 4);
});
