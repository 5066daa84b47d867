import { afterAll, beforeAll, expect, it } from 'vitest';
import { randomBytes } from 'node:crypto';
import { connect, createServer, type AddressInfo } from 'node:net';
import { pipeline } from 'node:stream';
import { putVendorData } from '../support/simulated-site.js';
import { startProduct, type Product } from '../support/product.js';

let product: Product;
let token: string;

beforeAll(async () => {
  // Slow enough that even on a busy machine a guest phones home before its agent would be asked.
  product = await startProduct({ vendorData: true, site: { timeScale: 0.05, seed: 'home' } });
  ({ token } = await product.api.makeUser('prof'));
});
afterAll(() => product?.stop());

const journal = (op: string, vmid?: number) =>
  product.site.simulators.context.journal
    .read()
    .filter((line) => line.op === op && (vmid === undefined || line.vmid === vmid));

async function create(name: string, logins: readonly string[]): Promise<void> {
  const form = new FormData();
  form.set(
    'roster',
    new Blob([`login;nom;prénom\n${logins.map((login) => `${login};N;P\n`).join('')}`]),
    'c.csv',
  );
  form.set('name', name);
  form.set('blueprint', 'student-desktop');
  const response = await product.api.call('POST', '/api/v1/batches', { token, form });
  expect(response.status, await response.clone().text()).toBe(202);
}

interface Row {
  readonly vmid: number;
  readonly mac: string;
  readonly address: string | null;
  readonly state: string;
  readonly hash: string | null;
}
async function machines(batch: string): Promise<Row[]> {
  const { rows } = await product.api.db.query<Row>(
    `select m.vmid, m.mac, m.address, m.state, encode(phone_home_hash, 'hex') as hash
       from machines m join batches b on b.id = m.batch_id where b.name = $1 order by m.row`,
    [batch],
  );
  return rows;
}

async function until(isSo: () => Promise<boolean> | boolean): Promise<void> {
  while (!(await isSo())) await new Promise((resolve) => setTimeout(resolve, 20));
}
const areReady = async (batch: string): Promise<boolean> =>
  (await machines(batch)).every(({ state }) => state === 'ready');

const call = (json: unknown, headers?: Record<string, string>) =>
  product.api.call('POST', '/api/v1/phone-home', { json, ...(headers && { headers }) });
const guestOf = (vmid: number) => product.site.simulators.world.guests.get(vmid)!;
const serialOf = (vmid: number): string => /serial=([^,]+)/.exec(guestOf(vmid).config['smbios1']!)![1]!;

it('makes a class ready without one question to a guest agent', async () => {
  await create('l3', ['ada', 'alan', 'grace', 'linus', 'edsger', 'barbara']);
  await until(() => areReady('l3'));
  expect(journal('qemu.agent.interfaces')).toEqual([]);
  expect(journal('guest.phone-home').map(({ status }) => status)).toEqual(
    Array.from({ length: 6 }, () => 204),
  );
  for (const { vmid, address } of await machines('l3')) expect(address).toBe(guestOf(vmid).address);
  // The incarnation is the one that the clone got.
  for (const line of journal('qemu.config.put'))
    expect(line.params?.['smbios1']).toMatch(/^uuid=[0-9a-f-]{36},serial=\*\*\*$/);
});

it('shows a token to nobody: not in Postgres, in the log, in the journal or in an answer', async () => {
  const rows = await machines('l3');
  const tokens = rows.map(({ vmid }) => serialOf(vmid));
  expect(new Set(tokens).size).toBe(6);
  const { rows: tables } = await product.api.db.query<{ name: string }>(
    `select tablename as name from pg_tables where schemaname = 'public'`,
  );
  const texts = await Promise.all(
    tables.map(async ({ name }) => {
      const all = await product.api.db.query(`select to_jsonb(t)::text as row from "${name}" t`);
      return JSON.stringify(all.rows);
    }),
  );
  const runs = await (await product.api.call('GET', '/api/v1/runs?batch=l3', { token })).text();
  const journalText = JSON.stringify(product.site.simulators.context.journal.read());
  for (const secret of tokens)
    for (const text of [...texts, runs, journalText, ...product.api.logLines])
      expect(text).not.toContain(secret);
});

it('takes each token once, and answers every wrong call with the same words', async () => {
  const [machine] = await machines('l3');
  const { mac, vmid } = machine!;
  const own = [{ mac, address: '10.66.0.1' }];
  const wrong = [
    { token: serialOf(vmid), addresses: own },
    { token: `hatchery${randomBytes(32).toString('hex')}`, addresses: own },
    { token: '', addresses: own },
    { token: "' or 1=1 --", addresses: [] },
    { token: '<img src=x onerror=alert(1)>', addresses: own },
  ];
  const answers = new Set<string>();
  for (const body of wrong) {
    const response = await call(body);
    expect(response.status).toBe(404);
    answers.add(JSON.stringify({ ...((await response.json()) as object), requestId: '' }));
  }
  expect(answers.size).toBe(1);
  expect((await machines('l3'))[0]!.address).toBe(guestOf(vmid).address);
});

it('believes a guest about its own network card only, and about addresses that can be used', async () => {
  putVendorData(product.site.simulators, 'http://127.0.0.1:9');
  const { proxmox } = product.site.simulators;
  proxmox.hold('qemu.start');
  await create('td', ['eve']);
  await proxmox.reached('qemu.start');
  const [{ mac, vmid }] = (await machines('td')) as [Row];
  const secret = serialOf(vmid);
  const useless = [
    [],
    [{ mac: '02:00:00:00:00:99', address: '10.20.0.77' }],
    [{ mac, address: '127.0.0.1' }],
    [{ mac, address: '169.254.1.1' }],
    [{ mac, address: 'fe80::1' }],
    [{ mac, address: '224.0.0.1' }],
    [{ mac, address: '10.20.0.77"; reboot; "' }],
    [{ mac: `${mac}\n`, address: '10.20.0.77\u0000' }],
  ];
  for (const addresses of useless) expect((await call({ token: secret, addresses })).status).toBe(404);
  // None of them used the token up; and a guest may be quicker than the verdict of its start.
  const addresses = [
    { mac: '02:42:00:00:00:01', address: '172.17.0.1' },
    { mac: mac.toUpperCase(), address: '10.20.0.77' },
  ];
  const twice = await Promise.all([call({ token: secret, addresses }), call({ token: secret, addresses })]);
  expect(new Set(twice.map(({ status }) => status))).toEqual(new Set([204, 404]));
  proxmox.release('qemu.start');
  await until(() => areReady('td'));
  expect((await machines('td'))[0]!.address).toBe('10.20.0.77');
  expect(journal('qemu.agent.interfaces')).toEqual([]);
});

it('does not take the address of another machine on a guest’s word', async () => {
  putVendorData(product.site.simulators, 'http://127.0.0.1:9');
  const { proxmox } = product.site.simulators;
  const [{ address: taken }] = (await machines('l3')) as [Row];
  proxmox.hold('qemu.start');
  await create('thief', ['eve2']);
  await proxmox.reached('qemu.start');
  const [{ mac, vmid }] = (await machines('thief')) as [Row];
  expect((await call({ token: serialOf(vmid), addresses: [{ mac, address: taken }] })).status).toBe(204);
  proxmox.release('qemu.start');
  await until(() => areReady('thief'));
  expect((await machines('thief'))[0]!.address).toBe(guestOf(vmid).address);
  expect(journal('qemu.agent.interfaces', vmid).length).toBeGreaterThan(0);
});

it('reads small calls of the right form, and nothing else', async () => {
  const status = async (json: unknown): Promise<number> => (await call(json)).status;
  expect(await status({ token: 'x'.repeat(20_000), addresses: [] })).toBe(413);
  expect(await status({ token: 'x'.repeat(101), addresses: [] })).toBe(400);
  expect(await status({ token: 7, addresses: 'all' })).toBe(400);
  expect(await status({ addresses: [] })).toBe(400);
  expect(
    await status({ token: '', addresses: Array.from({ length: 101 }, () => ({ mac: '', address: '' })) }),
  ).toBe(400);
  expect(await status({ token: '', addresses: [], hostname: '$(reboot)' })).toBe(400);
  expect(await status([])).toBe(400);
  expect(
    await status({ __proto__: { token: 'x' }, token: 'x', addresses: [{ mac: null, address: {} }] }),
  ).toBe(400);
  const raw = (body: string, type: string): Promise<Response> =>
    fetch(`${product.api.url}/api/v1/phone-home`, {
      method: 'POST',
      body,
      headers: { 'content-type': type },
    });
  expect((await raw('{"token":', 'application/json')).status).toBe(400);
  expect((await raw('token=x', 'application/x-www-form-urlencoded')).status).toBe(400);
});

it('asks the agent of a guest that does not phone home in time', async () => {
  putVendorData(product.site.simulators, 'http://127.0.0.1:9');
  await create('nat', ['mallory']);
  await until(() => areReady('nat'));
  const [{ vmid, address }] = (await machines('nat')) as [Row];
  expect(address).toBe(guestOf(vmid).address);
  expect(journal('qemu.agent.interfaces', vmid).length).toBeGreaterThan(0);
  // It had tried, more than once, and nobody was there.
  const tries = journal('guest.phone-home', vmid);
  expect(tries.length).toBeGreaterThan(2);
  expect(tries.every(({ answered }) => answered === false)).toBe(true);
});

it('hears a guest that tries again when the API is back', async () => {
  const { proxmox } = product.site.simulators;
  const api = Number(new URL(product.api.url).port);
  let isBack = false;
  const way = createServer((socket) => {
    if (isBack) pipeline(socket, connect(api, '127.0.0.1'), socket, () => undefined);
    else socket.destroy();
  });
  await new Promise<void>((resolve) => way.listen(0, '127.0.0.1', resolve));
  putVendorData(product.site.simulators, `http://127.0.0.1:${(way.address() as AddressInfo).port}`);
  // Whatever else happens meanwhile, no agent tells the address.
  proxmox.hold('qemu.agent.interfaces');
  await create('late', ['trent']);
  const [{ vmid }] = (await machines('late')) as [Row];
  const calls = () => journal('guest.phone-home', vmid);
  await until(() => calls().length > 0);
  isBack = true;
  await until(() => calls().at(-1)?.status === 204);
  proxmox.release('qemu.agent.interfaces');
  await until(() => areReady('late'));
  expect(calls()[0]).toMatchObject({ answered: false });
  await new Promise((resolve) => way.close(resolve));
});

it('forgets the token of a deleted machine', async () => {
  putVendorData(product.site.simulators, 'http://127.0.0.1:9');
  const { proxmox } = product.site.simulators;
  proxmox.hold('qemu.start');
  await create('gone', ['oscar']);
  await proxmox.reached('qemu.start');
  const [{ mac, vmid }] = (await machines('gone')) as [Row];
  const body = { token: serialOf(vmid), addresses: [{ mac, address: '10.20.0.88' }] };
  expect((await product.api.call('POST', '/api/v1/batches/gone/cancel', { token })).status).toBe(202);
  expect((await call(body)).status).toBe(404);
  proxmox.release('qemu.start');
  await until(async () => (await machines('gone'))[0]!.state === 'deleted');
  expect((await machines('gone'))[0]!.hash).toBeNull();
  expect((await call(body)).status).toBe(404);
});
