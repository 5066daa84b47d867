import { createHash, randomBytes } from 'node:crypto';
import { get, type IncomingMessage } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { v7 as uuidv7 } from 'uuid';
import { Database } from '../../src/drivers/postgres/database.js';
import { connectRedis } from '../../src/drivers/redis/connect-redis.js';
import { RedisWakeUps } from '../../src/drivers/redis/redis-wake-ups.js';
import { type Bench, percentile, round, say } from './support/bench.js';
import { startProduct, type BenchProduct } from './support/product.js';

const WATCHERS = 500;
/** Each of them at one batch of a teacher; the others are admins who see everything. */
const TEACHERS = 100;
/** Streams that one person opens here; an API refuses more than 30. */
const STREAMS_OF_ONE = 25;
const BATCHES = 10;
const MACHINES = 60;
const STEPS = 8;
const EVENTS_PER_SECOND = 100;
/** A commit of the engine tells of its step and, at times, of its machine. */
const EVENTS_PER_COMMIT = 2;
const PATIENCE_MS = 20_000;

/**
 * 500 streams at one API while the engine's commits bring 100 events a second: what does it cost to tell everybody, how late is it, is anything lost?
 * `--seconds N`: how long, 30 by default.
 */
export const bench: Bench = async (args) => {
  const { values } = parseArgs({ args: [...args], options: { seconds: { type: 'string', default: '30' } } });
  const seconds = Number(values.seconds);
  const product = await startProduct({ timeScale: 0.05, workers: 0 });
  const database = new Database(product.postgresUrl);
  try {
    const people = await seedPeople(database);
    const batches = await seedBatches(database, people.teachers);
    const watchers = await openAll(product, people, batches);
    say(`${watchers.length} streams are open`);
    const before = await product.cpuSeconds();
    await sleep(3_000);
    const idle = (await product.cpuSeconds()).api - before.api;
    const start = await product.cpuSeconds();
    const committedAtMs = await work(product, database, batches, seconds);
    const expected = await expectations(database, batches);
    await untilAllCame(watchers, expected);
    const end = await product.cpuSeconds();
    for (const { stream } of watchers) stream.destroy();
    return result({ watchers, expected, committedAtMs, seconds, api: end.api - start.api, idle: idle / 3 });
  } finally {
    await database.close();
    await product.stop();
  }
};

interface Person {
  readonly id: string;
  readonly token: string;
}
interface SeededBatch {
  readonly id: string;
  readonly ownerId: string;
  readonly machines: readonly { id: string; runId: string; stepIds: readonly string[] }[];
}
/** One stream: what came, in its order. `batch` undefined = everything. */
interface Watcher {
  readonly batch: string | undefined;
  readonly stream: IncomingMessage;
  readonly ids: number[];
  readonly cameAtMs: number[];
  progress: number;
}

/** Admins enough for the streams that see everything, and a teacher for each batch, with a token each. */
async function seedPeople(database: Database): Promise<{ admins: Person[]; teachers: Person[] }> {
  const seed = async (login: string, role: string): Promise<Person> => {
    const person = { id: uuidv7(), token: `hat_${randomBytes(32).toString('base64url')}` };
    await database.query('insert into users (id, login, role) values ($1, $2, $3)', [person.id, login, role]);
    await database.query(
      `insert into api_tokens (id, user_id, name, token_hash, expires_at) values ($1, $2, 'bench', $3, now() + interval '1 hour')`,
      [uuidv7(), person.id, createHash('sha256').update(person.token).digest()],
    );
    return person;
  };
  const many = (count: number, role: string): Promise<Person[]> =>
    Promise.all(Array.from({ length: count }, (_, index) => seed(`${role}-${index}`, role)));
  return {
    admins: await many((WATCHERS - TEACHERS) / STREAMS_OF_ONE, 'admin'),
    teachers: await many(BATCHES, 'teacher'),
  };
}

/** Batches at work of which nothing is due: the caretaker of the API has nothing to do with them. */
async function seedBatches(database: Database, teachers: readonly Person[]): Promise<SeededBatch[]> {
  const [blueprint] = await database.query<{ id: string }>('select id from blueprint_versions limit 1');
  const [workflow] = await database.query<{ id: string }>('select id from workflow_versions limit 1');
  const batches = teachers.map((teacher): SeededBatch => ({
    id: uuidv7(),
    ownerId: teacher.id,
    machines: Array.from({ length: MACHINES }, () => ({
      id: uuidv7(),
      runId: uuidv7(),
      stepIds: Array.from({ length: STEPS }, () => uuidv7()),
    })),
  }));
  for (const [number, batch] of batches.entries()) {
    await database.query(
      `insert into batches (id, name, owner_id, blueprint_version_id, workflow_version_id, cluster) values ($1, $2, $3, $4, $5, 'main')`,
      [batch.id, `class-${number}`, batch.ownerId, blueprint!.id, workflow!.id],
    );
    const rows = JSON.stringify(
      batch.machines.map((machine, row) => ({ ...machine, row, vmid: 10_000 + number * MACHINES + row })),
    );
    await database.query(
      `insert into machines (id, batch_id, owner_id, row, login, name, cluster, vmid, mac, node, state)
       select id, $2, $3, row, 's' || vmid, 'vm-' || vmid, 'main', vmid, 'bc:24:11:00:00:01', 'pve1', 'creating'
         from jsonb_to_recordset($1) as m (id uuid, row int, vmid int)`,
      [rows, batch.id, batch.ownerId],
    );
    await database.query(
      `insert into runs (id, machine_id, batch_id, workflow_version_id, inputs, state)
       select "runId", id, $2, $3, '{}', 'running' from jsonb_to_recordset($1) as m (id uuid, "runId" uuid)`,
      [rows, batch.id, workflow!.id],
    );
    await database.query(
      `insert into steps (id, run_id, owner_id, cluster, key, uses, version, rank, state)
       select s.id::uuid, m."runId", $2, 'main', 'step-' || s.nr, 'none', 1, s.nr, 'pending'
         from jsonb_to_recordset($1) as m ("runId" uuid, "stepIds" jsonb), jsonb_array_elements_text(m."stepIds") with ordinality as s (id, nr)`,
      [rows, batch.ownerId],
    );
  }
  return batches;
}

async function openAll(
  product: BenchProduct,
  { admins, teachers }: { admins: readonly Person[]; teachers: readonly Person[] },
  batches: readonly SeededBatch[],
): Promise<Watcher[]> {
  const url = product.urls[0]!;
  const watchers: Watcher[] = [];
  for (let number = 0; number < WATCHERS - TEACHERS; number += 1)
    watchers.push(await watch(`${url}/api/v1/events`, admins[number % admins.length]!.token, undefined));
  for (let number = 0; number < TEACHERS; number += 1) {
    const { id } = batches[number % batches.length]!;
    const { token } = teachers[number % batches.length]!;
    watchers.push(await watch(`${url}/api/v1/batches/${id}/events`, token, id));
  }
  return watchers;
}

/** A connection of its own, as every browser has one. */
async function watch(url: string, token: string, batch: string | undefined): Promise<Watcher> {
  const stream = await new Promise<IncomingMessage>((resolve, reject) => {
    get(url, { agent: false, headers: { authorization: `Bearer ${token}` } }, resolve).on('error', reject);
  });
  if (stream.statusCode !== 200) throw new Error(`${url} answers ${stream.statusCode}`);
  const watcher: Watcher = { batch, stream, ids: [], cameAtMs: [], progress: 0 };
  let rest = '';
  stream.setEncoding('latin1').on('data', (piece: string) => {
    const text = rest + piece;
    const end = text.lastIndexOf('\n\n') + 2;
    rest = end < 2 ? text : text.slice(end);
    const now = performance.now();
    for (const [, type, id] of text.slice(0, Math.max(0, end)).matchAll(/^event: (\S+)\nid: (\d+)$/gm))
      if (type === 'batch.progress') watcher.progress += 1;
      else {
        watcher.ids.push(Number(id));
        watcher.cameAtMs.push(now);
      }
  });
  // Ours, at the end.
  stream.on('error', () => undefined);
  return watcher;
}

/** Commits as the engine makes them, spread over the batches; gives when each event was committed, by its number. */
async function work(
  product: BenchProduct,
  database: Database,
  batches: readonly SeededBatch[],
  seconds: number,
): Promise<ReadonlyMap<number, number>> {
  const redis = connectRedis(product.redisUrl, () => undefined);
  const wakeUps = new RedisWakeUps(redis, '{hatchery}', () => undefined);
  const committedAtMs = new Map<number, number>();
  const commits = (seconds * EVENTS_PER_SECOND) / EVENTS_PER_COMMIT;
  const paceMs = (1000 * EVENTS_PER_COMMIT) / EVENTS_PER_SECOND;
  const startedAtMs = performance.now();
  const underWay: Promise<void>[] = [];
  for (let commit = 0; commit < commits; commit += 1) {
    await sleep(startedAtMs + commit * paceMs - performance.now());
    underWay.push(
      commitStep(database, batches, commit).then((seqs) => {
        for (const seq of seqs) committedAtMs.set(seq, performance.now());
        wakeUps.notify('events');
      }),
    );
  }
  await Promise.all(underWay);
  await wakeUps.stop();
  redis.disconnect();
  return committedAtMs;
}

async function commitStep(
  database: Database,
  batches: readonly SeededBatch[],
  commit: number,
): Promise<number[]> {
  const batch = batches[commit % batches.length]!;
  const turn = Math.floor(commit / batches.length);
  const machine = batch.machines[turn % MACHINES]!;
  const step = Math.floor(turn / MACHINES) % STEPS;
  return database.transaction(async (queries) => {
    await queries.query('select id from runs where id = $1 for update', [machine.runId]);
    await queries.query(`update steps set state = 'done', finished_at = now() where id = $1`, [
      machine.stepIds[step],
    ]);
    await queries.query(`update machines set state = 'creating' where id = $1`, [machine.id]);
    const rows = await queries.query<{ seq: number }>(
      `insert into events (type, batch, machine, run, step, state)
       values ('step.state', $1, $2, $3, $4, 'done'), ('machine.state', $1, $2, $3, null, 'creating') returning seq`,
      [batch.id, machine.id, machine.runId, `step-${step + 1}`],
    );
    return rows.map(({ seq }) => seq);
  });
}

/** What each kind of watcher has to see, in this order. */
async function expectations(
  database: Database,
  batches: readonly SeededBatch[],
): Promise<ReadonlyMap<string | undefined, readonly number[]>> {
  const rows = await database.query<{ seq: number; batch: string }>(
    'select seq, batch from events where batch = any ($1::uuid[]) order by xid, seq',
    [batches.map(({ id }) => id)],
  );
  return new Map<string | undefined, number[]>([
    [undefined, rows.map(({ seq }) => seq)],
    ...batches.map(({ id }): [string, number[]] => [
      id,
      rows.filter(({ batch }) => batch === id).map(({ seq }) => seq),
    ]),
  ]);
}

async function untilAllCame(
  watchers: readonly Watcher[],
  expected: ReadonlyMap<string | undefined, readonly number[]>,
): Promise<void> {
  const giveUpAt = performance.now() + PATIENCE_MS;
  while (performance.now() < giveUpAt) {
    if (watchers.every(({ ids, batch }) => ids.length >= expected.get(batch)!.length)) return;
    await sleep(50);
  }
}

function result(at: {
  watchers: readonly Watcher[];
  expected: ReadonlyMap<string | undefined, readonly number[]>;
  committedAtMs: ReadonlyMap<number, number>;
  seconds: number;
  api: number;
  idle: number;
}): Awaited<ReturnType<Bench>> {
  const incomplete = at.watchers.filter(({ ids, batch }) => {
    const wanted = at.expected.get(batch)!;
    return ids.length !== wanted.length || ids.some((id, index) => id !== wanted[index]);
  });
  const delivered = at.watchers.reduce((sum, { ids }) => sum + ids.length, 0);
  const progress = at.watchers.reduce((sum, watcher) => sum + watcher.progress, 0);
  // One in twenty watchers stands for all of them.
  const lateMs = at.watchers
    .filter((_, index) => index % 20 === 0)
    .flatMap(({ ids, cameAtMs }) =>
      ids.map((id, index) => Math.max(0, cameAtMs[index]! - (at.committedAtMs.get(id) ?? 0))),
    );
  return {
    isMet: incomplete.length === 0 && at.watchers.length === WATCHERS,
    watchers: at.watchers.length,
    eventsPerSecond: EVENTS_PER_SECOND,
    seconds: at.seconds,
    watchersThatLost: incomplete.length,
    delivered,
    deliveredPerSecond: Math.round(delivered / at.seconds),
    progressDelivered: progress,
    apiCpuSeconds: round(at.api, 2),
    apiCpuShare: round(at.api / at.seconds, 2),
    idleCpuShare: round(at.idle, 2),
    cpuSecondsPer1000Deliveries: round((at.api * 1000) / delivered, 4),
    lateMs: { p50: round(percentile(lateMs, 0.5), 1), p99: round(percentile(lateMs, 0.99), 1) },
  };
}
