import { Agent, request as httpsRequest } from 'node:https';
import { connect } from 'node:net';
import { once } from 'node:events';
import { Redis } from 'ioredis';
import pg from 'pg';
import { afterEach, describe, expect, it } from 'vitest';
import type { FaultRule } from '../../src/simulators/faults.js';
import { startSimulators, type Simulators } from '../../src/simulators/simulators.js';
import { createTransportContext } from '../../src/simulators/transport/create-context.js';
import { startTransport, type Transport } from '../../src/simulators/transport/transport.js';
import { redisPrefix, redisUrl, testDatabase, type TestDatabase } from '../support/stores.js';

/* A client, a transport and a real store or a simulator behind it. What happened is asked on the other side, past the transport. */

let cleanUp: (() => unknown)[] = [];
afterEach(async () => {
  for (const one of cleanUp.splice(0).reverse()) await one();
  cleanUp = [];
});

async function before(
  to: string,
  ...faults: FaultRule[]
): Promise<{ transport: Transport; url: string; fired: () => string[] }> {
  const context = createTransportContext({ faults });
  const transport = await startTransport(context, { to });
  cleanUp.push(async () => {
    context.clock.stop();
    await transport.stop();
    context.close();
  });
  const url = new URL(to);
  url.port = new URL(transport.endpoints[0]!).port;
  const fired = (): string[] =>
    context.journal.read().flatMap((line) => (line.event === 'fault' ? [`${line.sim} ${line.op}`] : []));
  return { transport, url: url.href, fired };
}

describe('a transport before Redis', () => {
  const client = (url: string): Redis => {
    const redis = new Redis(url, { retryStrategy: () => null, maxRetriesPerRequest: 0 });
    redis.on('error', () => undefined);
    cleanUp.push(() => redis.disconnect());
    return redis;
  };
  const key = redisPrefix();
  const rule = (more: Omit<FaultRule, 'id'>): FaultRule => ({ id: 'rule', ...more });

  it('lets everything through that no rule is about, a long pipeline and a subscription too', async () => {
    const { url, fired } = await before(
      redisUrl(),
      { id: 'other', effect: 'reset' },
      { id: 'http', match: { sim: 'http' }, effect: 'reset' },
    );
    const redis = client(url);
    const long = 'x'.repeat(300_000);
    const pipeline = redis.pipeline();
    for (let n = 0; n < 200; n += 1) pipeline.set(`${key}:${n}`, n === 7 ? long : String(n));
    pipeline.get(`${key}:7`);
    const results = await pipeline.exec();
    expect(results).toHaveLength(201);
    expect(results!.at(-1)).toEqual([null, long]);
    const listener = client(url);
    const heard = once(listener, 'message');
    await listener.subscribe(`${key}:news`);
    await redis.publish(`${key}:news`, 'hello');
    expect(await heard).toEqual([`${key}:news`, 'hello']);
    expect(fired()).toEqual([]);
  });

  it('resets before the effect: the command never arrives', async () => {
    const { url, fired } = await before(
      redisUrl(),
      rule({ match: { sim: 'redis', op: 'INCR' }, effect: 'reset' }),
    );
    await expect(client(url).incr(`${key}:before`)).rejects.toThrow();
    expect(await client(redisUrl()).get(`${key}:before`)).toBeNull();
    expect(fired()).toEqual(['redis INCR']);
  });

  it('resets after the effect: the command is done, its answer and later ones are lost, earlier ones are not', async () => {
    const { url } = await before(
      redisUrl(),
      rule({ match: { sim: 'redis', op: 'INCR' }, when: 'after', effect: 'reset' }),
    );
    const redis = client(url);
    const earlier = redis.set(`${key}:earlier`, 'yes');
    const lost = redis.incr(`${key}:after`);
    expect(await earlier).toBe('OK');
    await expect(lost).rejects.toThrow();
    expect(await client(redisUrl()).get(`${key}:after`)).toBe('1');
  });

  it('falls silent: nothing comes any more, and the connection stays open', async () => {
    const { url } = await before(
      redisUrl(),
      rule({ match: { sim: 'redis', op: 'SET', nth: 2 }, effect: 'silence' }),
    );
    const redis = client(url);
    await redis.set(`${key}:first`, '1');
    const ended: string[] = [];
    const lost = redis.set(`${key}:second`, '2').catch(() => ended.push('second'));
    void redis.get(`${key}:first`).catch(() => ended.push('third'));
    const other = client(redisUrl());
    for (let n = 0; n < 50; n += 1) await other.ping();
    expect([redis.status, ended]).toEqual(['ready', []]);
    expect(await other.get(`${key}:second`)).toBeNull();
    redis.disconnect();
    await lost;
  });

  it('holds a request back, and what comes behind it on the same connection', async () => {
    const { url } = await before(
      redisUrl(),
      rule({ match: { sim: 'redis', op: 'SET' }, effect: 'delay', value: 100 }),
    );
    const order: string[] = [];
    const redis = client(url);
    const note = (what: string) => (): void => void order.push(what);
    await Promise.all([
      redis.set(`${key}:slow`, '1').then(note('slow')),
      redis.get(`${key}:slow`).then(note('behind')),
      client(url).get(`${key}:other`).then(note('other connection')),
    ]);
    expect(order).toEqual(['other connection', 'slow', 'behind']);
  });

  it('cuts all connections and refuses new ones until it is mended', async () => {
    const { url, transport } = await before(
      redisUrl(),
      rule({ match: { sim: 'redis', op: 'DEL' }, effect: 'cut', value: 600_000 }),
    );
    const [one, two] = [client(url), client(url)];
    await Promise.all([one.ping(), two.ping()]);
    const ends = [one, two].map((redis) => new Promise<void>((resolve) => redis.once('end', resolve)));
    await expect(one.del(`${key}:x`)).rejects.toThrow();
    await Promise.all(ends);
    const refused = connect(Number(new URL(url).port), '127.0.0.1');
    const [error] = (await once(refused, 'error')) as [NodeJS.ErrnoException];
    expect(error.code).toBe('ECONNREFUSED');
    await transport.mend();
    expect(await client(url).ping()).toBe('PONG');
  });

  it('comes back by itself after a cut that lasts a while', async () => {
    const { url, transport } = await before(redisUrl());
    transport.cut(20);
    const redis = new Redis(url, { retryStrategy: () => 5 });
    redis.on('error', () => undefined);
    cleanUp.push(() => redis.disconnect());
    expect(await redis.ping()).toBe('PONG');
  });

  it('takes other rules while it runs', async () => {
    const context = createTransportContext();
    const transport = await startTransport(context, { to: redisUrl() });
    cleanUp.push(() => transport.stop().finally(() => context.close()));
    const url = new URL(redisUrl());
    url.port = new URL(transport.endpoints[0]!).port;
    const redis = client(url.href);
    expect(await redis.set(`${key}:rules`, '1')).toBe('OK');
    context.faults.replace([rule({ match: { sim: 'redis', op: 'SET' }, effect: 'drop' })]);
    await expect(redis.set(`${key}:rules`, '2')).rejects.toThrow();
    context.faults.replace([]);
    expect(await client(url.href).get(`${key}:rules`)).toBe('1');
  });
});

describe('a transport before Postgres', () => {
  let database: TestDatabase;
  const client = async (url: string): Promise<pg.Client> => {
    const own = new pg.Client({ connectionString: url });
    own.on('error', () => undefined);
    await own.connect();
    cleanUp.push(() => own.end());
    return own;
  };
  const counted = async (): Promise<number> => {
    const { rows } = await (await client(database.url)).query('select count(*)::int as count from notes');
    return (rows[0] as { count: number }).count;
  };
  const start = async (...faults: FaultRule[]): Promise<{ own: pg.Client; fired: () => string[] }> => {
    database = await testDatabase();
    cleanUp.push(() => database.drop());
    await (await client(database.url)).query('create table notes (text text)');
    const { url, fired } = await before(database.url, ...faults);
    return { own: await client(url), fired };
  };
  const insert = 'insert into notes values ($1)';

  it('passes on simple, extended, prepared and large queries', async () => {
    const { own, fired } = await start({
      id: 'nth',
      match: { sim: 'postgres', op: 'INSERT', nth: 3 },
      effect: 'delay',
      value: 1,
    });
    const long = 'é'.repeat(200_000);
    for (const value of ['a', 'b', long]) await own.query({ name: 'add', text: insert, values: [value] });
    const { rows } = await own.query("select text from notes where text like 'é%'");
    expect(rows).toEqual([{ text: long }]);
    await expect(own.query('select broken')).rejects.toThrow('does not exist');
    expect((await own.query('select count(*)::int from notes')).rows).toEqual([{ count: 3 }]);
    expect(fired()).toEqual(['postgres INSERT']);
  });

  it('loses a COMMIT before its effect: the transaction is rolled back', async () => {
    const { own } = await start({
      id: 'lost',
      match: { sim: 'postgres', op: 'COMMIT' },
      when: 'before',
      effect: 'reset',
    });
    await own.query('begin');
    await own.query(insert, ['x']);
    await expect(own.query('commit')).rejects.toThrow();
    expect(await counted()).toBe(0);
  });

  it('loses the answer to a COMMIT, and to a statement of its own: both are in the table', async () => {
    const { own } = await start({
      id: 'lost',
      match: { sim: 'postgres', op: 'COMMIT' },
      when: 'after',
      effect: 'reset',
    });
    await own.query('begin');
    await own.query(insert, ['x']);
    await expect(own.query('commit')).rejects.toThrow();
    expect(await counted()).toBe(1);

    const { own: other } = await start({
      id: 'lost',
      match: { sim: 'postgres', op: 'INSERT' },
      when: 'after',
      effect: 'truncate',
      value: 3,
    });
    await expect(other.query(insert, ['x'])).rejects.toThrow();
    expect(await counted()).toBe(1);
  });
});

describe('a transport before an HTTPS server', () => {
  let simulators: Simulators;
  const ask = (url: string, ca: string, method: string, path: string): Promise<number> =>
    new Promise((resolve, reject) => {
      const { id, secret } = simulators.proxmox!.rootToken;
      const headers = { authorization: `PVEAPIToken=${id}=${secret}` };
      const agent = new Agent({ keepAlive: false });
      const request = httpsRequest(`${url}/api2/json${path}`, { method, ca, agent, headers }, (answer) => {
        answer.resume().on('end', () => resolve(answer.statusCode ?? 0));
        answer.on('error', reject);
      });
      request.on('error', reject).end();
    });

  it('reads what goes by, and shares clock, seed, rules and journal with the simulators', async () => {
    simulators = await startSimulators({
      which: ['proxmox'],
      timeScale: 0.01,
      faults: [
        {
          id: 'before',
          match: { sim: 'http', op: 'POST /api2/json/pools', nth: 1 },
          effect: 'reset',
        },
        {
          id: 'after',
          match: { sim: 'http', op: 'POST /api2/json/pools', nth: 2 },
          when: 'after',
          effect: 'reset',
        },
      ],
    });
    cleanUp.push(() => simulators.stop());
    const { context, proxmox } = simulators;
    const ca = context.authority.caPem;
    const transport = await startTransport(context, { to: proxmox!.endpoints[0]!, ca });
    cleanUp.push(() => transport.stop());
    const url = transport.endpoints[0]!;
    expect(await ask(url, ca, 'GET', '/version')).toBe(200);
    await expect(ask(url, ca, 'POST', '/pools?poolid=one')).rejects.toThrow();
    await expect(ask(url, ca, 'POST', '/pools?poolid=two')).rejects.toThrow();
    expect(await ask(url, ca, 'POST', '/pools?poolid=three')).toBe(200);
    const made = context.journal.read().filter(({ op }) => op === 'pools.create');
    expect(made.map(({ params }) => params?.['pool'])).toEqual(['two', 'three']);
    const fired = context.journal.read().filter(({ event }) => event === 'fault');
    expect(fired.map(({ sim, fault }) => [sim, fault])).toEqual([
      ['http', 'before'],
      ['http', 'after'],
    ]);
  });

  it('is refused without a place to lead to', async () => {
    const context = createTransportContext();
    cleanUp.push(() => context.close());
    for (const to of ['', 'nowhere', 'ftp://127.0.0.1', 'redis+cluster://a,b'])
      await expect(startTransport(context, { to })).rejects.toMatchObject({ code: 'settings-invalid' });
  });
});
