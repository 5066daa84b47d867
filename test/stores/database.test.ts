import { createServer, type AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Database } from '../../src/drivers/postgres/database.js';
import { StoreUnavailable } from '../../src/ports/store-unavailable.js';
import { Gate } from '../support/engine-bench.js';
import { testDatabase, type TestDatabase } from '../support/stores.js';

let test: TestDatabase;
let database: Database;
let other: Database;

beforeAll(async () => {
  test = await testDatabase();
  database = new Database(test.url, { idleInTransactionMs: 200 });
  other = new Database(test.url);
  await other.query('create table counter (n int)');
  await other.query('insert into counter values (0)');
});
afterAll(async () => {
  await database?.close();
  await other?.close();
  await test?.drop();
});

async function untilGone(pid: number): Promise<void> {
  while ((await other.query('select 1 from pg_stat_activity where pid = $1', [pid])).length > 0);
}

const pidOf = async (queries: Pick<Database, 'query'>): Promise<number> =>
  (await queries.query<{ pid: number }>('select pg_backend_pid() as pid'))[0]!.pid;

it('a connection that ends between two statements fails its transaction, says that it may be repeated, and ends nothing else', async () => {
  const broken = database.transaction(async (queries) => {
    const pid = await pidOf(queries);
    await other.query('select pg_terminate_backend($1)', [pid]);
    await untilGone(pid);
    await queries.query('update counter set n = 1');
  });
  await expect(broken).rejects.toBeInstanceOf(StoreUnavailable);
  await expect(broken).rejects.toMatchObject({ retry: 'later' });
  expect(await database.query('select n from counter')).toEqual([{ n: 0 }]);
});

it('a process that is suspended in the middle of a transaction does not keep its locks', async () => {
  const gate = new Gate();
  const suspended = database.transaction(async (queries) => {
    await queries.query('update counter set n = 2');
    await gate.pass();
    await queries.query('update counter set n = 3');
  });
  await gate.reached;
  await other.query('update counter set n = 4');
  gate.release();
  await expect(suspended).rejects.toBeInstanceOf(StoreUnavailable);
  expect(await database.query('select n from counter')).toEqual([{ n: 4 }]);
});

it('two transactions that lock each other out are both done in the end', async () => {
  await other.query('insert into counter values (100)');
  const both = [new Gate(), new Gate()] as const;
  let tries = 0;
  const swap = (own: 0 | 1, first: string, second: string): Promise<unknown> =>
    other.transaction(async (queries) => {
      tries += 1;
      await queries.query(`update counter set n = n + 1 where n ${first} 50`);
      both[own].release();
      await both[own === 0 ? 1 : 0].pass();
      await queries.query(`update counter set n = n + 1 where n ${second} 50`);
    });
  await Promise.all([swap(0, '<', '>'), swap(1, '>', '<')]);
  expect(tries).toBe(3);
  expect(await other.query('select n from counter order by n')).toEqual([{ n: 6 }, { n: 102 }]);
});

it('a database that is not there is not waited for in vain', async () => {
  const nowhere = new Database('postgres://nobody@127.0.0.1:1/none');
  await expect(nowhere.query('select 1')).rejects.toBeInstanceOf(StoreUnavailable);
  await expect(nowhere.transaction(async () => {})).rejects.toBeInstanceOf(StoreUnavailable);
  await nowhere.close();
});

/** A server that is going down: "ready for query" and "terminating connection" arrive together. */
it('a connection that ends in the moment it is made breaks the statement, not the process', async () => {
  const message = (type: string, body: string): Buffer => {
    const head = Buffer.alloc(5);
    head.write(type);
    head.writeInt32BE(4 + body.length, 1);
    return Buffer.concat([head, Buffer.from(body, 'latin1')]);
  };
  const end = ['SFATAL', 'C57P01', 'Mterminating connection due to administrator command', ''];
  const goingDown = createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () =>
      socket.end(
        Buffer.concat([
          message('R', '\0\0\0\0'),
          message('Z', 'I'),
          message('E', end.map((field) => `${field}\0`).join('')),
        ]),
      ),
    );
  });
  await new Promise<void>((resolve) => goingDown.listen(0, '127.0.0.1', resolve));
  const down = new Database(`postgres://nobody@127.0.0.1:${(goingDown.address() as AddressInfo).port}/none`);
  await expect(down.transaction(pidOf)).rejects.toBeInstanceOf(StoreUnavailable);
  await expect(down.query('select 1')).rejects.toBeInstanceOf(StoreUnavailable);
  await down.close();
  goingDown.close();
});
