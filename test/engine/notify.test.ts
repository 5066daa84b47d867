import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { Webhook } from '../../src/drivers/webhook/webhook.js';
import { assembled, people } from '../support/assembled.js';
import { simulatedSite } from '../support/simulated-site.js';

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});

it('a batch posts its summary once when it has come to rest, again after a refusal, and not for its deletion', async () => {
  const posts: { key: string | string[] | undefined; body: unknown }[] = [];
  let answers = [503, 204];
  const server = createServer((request, response) => {
    let text = '';
    request.on('data', (chunk: Buffer) => (text += chunk.toString()));
    request.on('end', () => {
      posts.push({ key: request.headers['idempotency-key'], body: JSON.parse(text) });
      const [status = 204, ...rest] = answers;
      answers = rest;
      response.writeHead(status).end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closers.push(() => server.close());
  const site = await simulatedSite();
  closers.push(() => site.stop());
  const bench = await assembled(site, {
    webhook: new Webhook({ allowedHosts: ['127.0.0.1'], timeoutMs: 2_000 }),
  });
  closers.push(() => bench.close());
  bench.assembly.caretaker.start();
  closers.push(() => bench.assembly.caretaker.stop());
  const worker = await bench.assembly.startWorker(8);
  closers.push(() => worker.stop());

  const notifyUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`;
  const { batchId } = await bench.assembly.intake.create(
    { name: 'l3', blueprint: 'student-desktop', rows: people(2), skipExisting: false, notifyUrl },
    bench.teacher,
    undefined,
  );
  await bench.until("select count(*) = 1 as ok from outbox where kind = 'notify' and tries = 1");
  // The next try is due in 10 s; a person need not wait here.
  await bench.assembly.database.query('update outbox set due_at = now()');
  await bench.until('select not is_open and not exists (select 1 from outbox) as ok from batches');
  expect(posts).toHaveLength(2);
  for (const post of posts)
    expect(post).toMatchObject({
      key: `batch-${batchId}`,
      body: { batch: 'l3', id: batchId, counts: { ready: 2 }, causes: [] },
    });
  await bench.assembly.intake.deleteBatch('l3', bench.teacher);
  await bench.until('select deleted_at is not null and not exists (select 1 from outbox) as ok from batches');
  expect(posts).toHaveLength(2);
});
