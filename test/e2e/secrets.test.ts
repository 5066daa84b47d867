import { readFile } from 'node:fs/promises';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ADMIN_PASSWORD } from '../support/api-app.js';
import { startProduct, type Product } from '../support/product.js';
import { ownRedis, type OwnStore } from '../support/stores.js';

const GENERATED = `
name: generated
version: 1
title: { en: Own password, fr: Mot de passe propre }
kind: qemu
source: { templates: [debian-12-xfce], clone: linked }
sizes: { default: small, small: { cores: 1, memoryMiB: 1024, diskGiB: 20 } }
nameFrom: own-{login}
network: { bridge: vmbr0, dhcp: dhcp }
cloudInit: { user: student, sshKeys: [roster] }
access: { service: guacamole, protocol: rdp, port: 3389, signIn: generated }
workflow: student-vm
clusters: [main]
`;

let product: Product;
let store: OwnStore;
let watcher: Redis;
/** Every command that any client sent to Redis meanwhile. */
const redisTraffic: string[] = [];
/** Every answer of the API but the ones that have to carry a secret. */
const answers: string[] = [];

beforeAll(async () => {
  // Nobody else speaks to it while the watcher begins: ioredis takes what comes too early for an answer.
  store = await ownRedis();
  const redis = new Redis(store.url);
  watcher = await redis.monitor();
  redis.disconnect();
  watcher.on('monitor', (_time: string, args: string[]) => redisTraffic.push(args.join(' ')));
  product = await startProduct({ blueprints: { generated: GENERATED }, redisUrl: store.url });
});
afterAll(async () => {
  watcher?.disconnect();
  await product?.stop();
  await store?.remove();
});

async function ask(method: string, path: string, token: string, form?: FormData): Promise<string> {
  const response = await product.api.call(method, `/api/v1/${path}`, { token, ...(form ? { form } : {}) });
  const text = await response.text();
  answers.push(text);
  return text;
}

/** Follows the events of a batch until it has come to rest. */
async function atRest(batch: string, token: string): Promise<void> {
  const leaving = new AbortController();
  const { body } = await product.api.call('GET', `/api/v1/batches/${batch}/events?after=0`, {
    token,
    signal: leaving.signal,
  });
  let text = '';
  for await (const piece of body!.pipeThrough(new TextDecoderStream())) {
    text += piece;
    if (/"type":"batch.progress".*"state":"(ready|attention|deleted)"/.test(text)) break;
  }
  answers.push(text);
  leaving.abort();
}

async function everyTable(): Promise<string> {
  const { db } = product.api;
  const { rows } = await db.query<{ name: string }>(
    `select tablename as name from pg_tables where schemaname = 'public' and tablename <> 'secrets'`,
  );
  expect(rows.length).toBeGreaterThan(15);
  const contents = await Promise.all(
    rows.map(async ({ name }) => {
      const all = await db.query<{ row: string }>(`select to_jsonb(t)::text as row from "${name}" t`);
      return all.rows.map(({ row }) => `${name} ${row}`).join('\n');
    }),
  );
  return contents.join('\n');
}

it('keeps every secret out of the log, the tables, Redis, answers and the journal', async () => {
  const { api, site } = product;
  const { proxmox, winrm, guacamole, context } = site.simulators;
  const teacher = (await api.makeUser('teacher')).token;
  const signedIn = await api.call('POST', '/api/v1/auth/login', {
    json: { login: 'admin', password: ADMIN_PASSWORD },
  });
  const { token: session } = (await signedIn.json()) as { token: string };

  // One goes well, one meets a refusal whose text must not carry what we sent.
  context.faults.add({
    id: 'refused',
    match: { op: 'qemu.config.put', nth: 1 },
    effect: 'status',
    value: { status: 500, message: 'unable to apply cipassword' },
  });
  const form = new FormData();
  form.set('blueprint', 'generated');
  form.set('name', 'own');
  form.set('roster', new Blob(['login;nom;prénom\nada;Lovelace;Ada\nbob;Noyce;Bob\n']), 'class.csv');
  await ask('POST', 'batches', teacher, form);
  await atRest('own', teacher);
  expect(context.journal.read().some(({ fault }) => fault === 'refused')).toBe(true);

  const shown = await api.call('POST', '/api/v1/batches/own/credentials', { token: teacher });
  const { items } = (await shown.json()) as { items: { login: string; password: string }[] };
  expect(items.length).toBeGreaterThan(0);
  for (const path of ['batches/own/results', 'batches/own/machines', 'runs', 'tokens', 'batches/own'])
    await ask('GET', path, teacher);
  const { items: runs } = JSON.parse(answers.at(-3)!) as { items: { id: string }[] };
  for (const { id } of runs) await ask('GET', `runs/${id}`, teacher);
  for (const path of ['users', 'clusters', 'tokens']) await ask('GET', path, session);
  const { findings } = JSON.parse(await ask('POST', 'clusters/main/check', session)) as {
    findings: { subject: string; ok: boolean }[];
  };
  expect(findings).toContainEqual(expect.objectContaining({ subject: 'SSH to pve1', ok: true }));
  await ask('POST', 'batches/own/credentials', teacher);
  await ask('DELETE', 'batches/own', teacher);
  await atRest('own', teacher);

  const secrets: Record<string, string> = {
    'the token of the cluster': proxmox.token.secret,
    'the key for the nodes': proxmox.ssh.privateKey.split('\n')[3]!,
    'the password of the DHCP server': winrm.password,
    'the password of the gateway': guacamole.password,
    'the password of the first admin': ADMIN_PASSWORD,
    'a token of a teacher': teacher,
    'the token of a session': session,
    'a key of the deployment': Buffer.alloc(32, 1).toString('base64'),
    ...Object.fromEntries(items.map(({ login, password }) => [`the password of ${login}`, password])),
  };
  const places: Record<string, string> = {
    log: api.logLines.join('\n'),
    tables: await everyTable(),
    redis: redisTraffic.join('\n'),
    answers: answers.join('\n'),
    journal: await readFile(context.journal.file, 'utf8'),
  };
  for (const [place, content] of Object.entries(places)) expect(content.length, place).toBeGreaterThan(200);
  const found = Object.entries(secrets).flatMap(([secret, text]) =>
    Object.entries(places).flatMap(([place, content]) =>
      [
        text,
        encodeURIComponent(text),
        Buffer.from(text).toString('hex'),
        Buffer.from(text).toString('base64').slice(0, -3),
      ].some((form) => content.includes(form))
        ? [`${secret} in ${place}`]
        : [],
    ),
  );
  expect(found).toEqual([]);
});
