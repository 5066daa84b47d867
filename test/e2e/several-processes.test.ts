import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import pg from 'pg';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { checkJournal } from '../../src/simulators/journal/check.js';
import { EventClient } from '../support/event-client.js';
import { adminToken, postClass, startRoles, type RoleProcess } from '../support/processes.js';
import { simulatedSite, type SimulatedSite } from '../support/simulated-site.js';
import { ownEmptyPostgres, redisPrefix, redisUrl, type OwnStore } from '../support/stores.js';

/** What happens to a process from inside: on SIGUSR2 a promise that nobody waits for is rejected; on SIGWINCH its clock jumps, first an hour ahead, then to an hour behind. */
const HAZARDS = `data:text/javascript,${encodeURIComponent(`
  const real = Date.now;
  let aheadMs = 0;
  Date.now = () => real() + aheadMs;
  process.on('SIGWINCH', () => { aheadMs = aheadMs === 0 ? 3_600_000 : -3_600_000; });
  process.on('SIGUSR2', () => { Promise.reject(new Error('nobody waits for this')); });
`)}`;

let postgres: OwnStore;
let site: SimulatedSite;
let roles: RoleProcess[];
let token: string;

beforeAll(async () => {
  // A server of its own: events are served below the oldest transaction of the whole server, and other tests hold some open.
  [postgres, site] = await Promise.all([ownEmptyPostgres(), simulatedSite()]);
  const shared = {
    databaseUrl: postgres.url,
    redisUrl: redisUrl(),
    redisPrefix: redisPrefix(),
    site,
    preload: HAZARDS,
  };
  roles = await startRoles(shared, ['api', 'api', 'worker', 'worker']);
  token = await adminToken(roles[0]!.url!);
});
afterAll(async () => {
  await Promise.all((roles ?? []).map((role) => role.stop()));
  await site?.stop();
  await postgres?.remove();
});

const api = (number: 0 | 1) => ({ url: roles[number]!.url!, token });
const listen = (number: 0 | 1, after?: number): Promise<EventClient> =>
  EventClient.open(`${api(number).url}/api/v1/events`, token, after);

async function query<R extends object>(sql: string): Promise<R[]> {
  const client = new pg.Client(postgres.url);
  await client.connect();
  try {
    return (await client.query<R>(sql)).rows;
  } finally {
    await client.end();
  }
}

const log = async (): Promise<number[]> =>
  (await query<{ seq: string }>('select seq from events order by xid, seq')).map(({ seq }) => Number(seq));

const isOver = ({ type, state }: { type: string; state: string | null }): boolean =>
  type === 'batch.progress' && state !== 'working';

it('came up together on an empty database, as one deployment with one first admin', async () => {
  const rows = await query<{ what: string; count: string }>(
    `select 'deployment' as what, count(*) from deployment union all select 'users', count(*) from users
     union all select 'clusters', count(*) from clusters union all select 'workers', count(*) from workers`,
  );
  expect(Object.fromEntries(rows.map(({ what, count }) => [what, Number(count)]))).toMatchObject({
    deployment: 1,
    users: 1,
    clusters: 1,
  });
});

it('take the same submit at either API once', async () => {
  const key = `k${randomBytes(4).toString('hex')}`;
  const events = await listen(1);
  const answers = await Promise.all([postClass(api(0), key, 1), postClass(api(1), key, 1)]);
  // One was accepted; the other is told its answer, or to ask again while it is being given.
  expect(answers.map(({ status }) => status).filter((status) => status !== 409)).toContain(202);
  const again = await postClass(api(1), key, 1);
  expect(again.status).toBe(202);
  expect(again.headers.get('idempotent-replayed')).toBe('true');
  expect(await query(`select id from batches where name = '${key}'`)).toHaveLength(1);
  // Nothing of it is to come between the events of the next test.
  await events.until(isOver);
  await events.leave();
});

it('serve the same events, and losing an API loses and repeats nothing', async () => {
  const [left, right] = await Promise.all([listen(0, 0), listen(1, 0)]);
  const { holds } = site.simulators.context;
  holds.hold('qemu.start', 'before');
  expect((await postClass(api(0), 'both', 3)).status).toBe(202);
  await holds.reached('qemu.start', 'before');
  // Something has come by now, and more is to come.
  await left.until(({ state }) => state === 'creating');
  await roles[0]!.kill();
  await left.ended;
  const seen = left.ids;
  const resumed = await listen(1, left.events.at(-1)!.id);
  holds.release('qemu.start', 'before');
  const ended = async (client: EventClient): Promise<void> => {
    const last = (await log()).at(-1)!;
    await client.until(({ id, type }) => type !== 'batch.progress' && id === last);
  };
  await resumed.until(isOver);
  await Promise.all([ended(resumed), ended(right)]);
  const all = await log();
  expect(right.ids).toEqual(all);
  expect([...seen, ...resumed.ids]).toEqual(all);
  await Promise.all([resumed.leave(), right.leave()]);
  expect((await checkJournal(site.simulators.context.journal.file)).findings).toEqual([]);
});

it('lose a worker to a stray rejection as to a kill, and the other goes on though its clock jumps by hours', async () => {
  const { holds } = site.simulators.context;
  const [, , worker, other] = roles;
  const ended = once(worker!.child, 'exit');
  other!.child.kill('SIGWINCH');
  holds.hold('qemu.start', 'before');
  expect((await postClass(api(1), 'stray', 3)).status).toBe(202);
  await holds.reached('qemu.start', 'before');
  worker!.child.kill('SIGUSR2');
  expect((await ended)[0]).toBe(1);
  other!.child.kill('SIGWINCH');
  const events = await listen(1);
  holds.release('qemu.start', 'before');
  await events.until(isOver);
  await events.leave();
  expect(await query(`select 1 from machines where login like 'stray%' and state = 'ready'`)).toHaveLength(3);
  expect((await checkJournal(site.simulators.context.journal.file)).findings).toEqual([]);
});
