import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { BatchPlan, BatchResults } from '../../src/client/types.gen.js';
import { RESULT_COLUMNS } from '../../src/core/results.js';
import { createTransportContext } from '../../src/simulators/transport/create-context.js';
import { startTransport } from '../../src/simulators/transport/transport.js';
import { ADMIN_PASSWORD } from '../support/api-app.js';
import { startProduct, type Product } from '../support/product.js';
import { startCli } from '../support/run-cli.js';

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
let folder: string;
let teacher: string;

beforeAll(async () => {
  product = await startProduct({ blueprints: { generated: GENERATED } });
  folder = await mkdtemp(join(tmpdir(), 'hatchery-cli-'));
  teacher = (await product.api.makeUser('teacher')).token;
});
afterAll(async () => {
  await product.stop();
  await rm(folder, { recursive: true, force: true });
});

/** A command as the teacher; `environment` in its place when given. */
const start = (args: readonly string[], environment?: Record<string, string>, input?: string) =>
  startCli(
    args,
    { HOME: folder, ...(environment ?? { HATCHERY_URL: product.api.url, HATCHERY_TOKEN: teacher }) },
    input,
  );
const cli = (...args: string[]) => start(args).ended;
const file = async (name: string, text: string): Promise<string> => {
  await writeFile(join(folder, name), text);
  return join(folder, name);
};
const roster = (...logins: string[]) =>
  file(
    `${logins.join('-')}.csv`,
    `identifiant;nom;prénom\n${logins.map((login) => `${login};N;P\n`).join('')}`,
  );
const create = async (name: string, logins: string[], ...more: string[]) => [
  'batch',
  'create',
  await roster(...logins),
  '--blueprint',
  'student-desktop',
  '--name',
  name,
  ...more,
];
/** Names of the guests on the simulated cluster that begin so. */
const guests = (prefix: string): string[] =>
  [...product.site.simulators.world.guests.values()]
    .map(({ config }) => String(config['name']))
    .filter((name) => name.startsWith(prefix));
const parsed = <T>({ out }: { out: string }): T => JSON.parse(out) as T;

describe('signing in', () => {
  it('keeps a token that only its owner can read, uses it, and ends it', async () => {
    const password = await file('password', `${ADMIN_PASSWORD}\n`);
    const login = ['login', '--url', product.api.url, '--login', 'admin', '--password-file', password];
    expect(await start(login, {}).ended).toMatchObject({ code: 0, err: '' });
    const saved = join(folder, '.config', 'hatchery', 'cli.json');
    expect((await stat(saved)).mode & 0o777).toBe(0o600);
    expect(await readFile(saved, 'utf8')).not.toContain(ADMIN_PASSWORD);

    const users = await start(['user', 'list', '--json'], {}).ended;
    expect(parsed<{ items: { login: string }[] }>(users).items.map(({ login: name }) => name)).toEqual([
      'admin',
      'teacher',
    ]);
    const { token } = JSON.parse(await readFile(saved, 'utf8')) as { token: string };
    expect(await start(['logout'], {}).ended).toMatchObject({ code: 0 });
    await expect(stat(saved)).rejects.toThrow('ENOENT');
    const late = await start(['batch', 'list'], { HATCHERY_URL: product.api.url, HATCHERY_TOKEN: token })
      .ended;
    expect(late.code).toBe(3);
  });

  it('refuses a wrong password with exit code 3', async () => {
    const login = ['login', '--url', product.api.url, '--login', 'admin', '--password-file', '-'];
    const { code, err } = await start(login, {}, 'wrong\n').ended;
    expect(code).toBe(3);
    expect(err).toMatch(/^Unable to sign in: .*\n.*\n\(not-signed-in, request .*\)\n$/);
  });

  it('makes users and tokens for scripts', async () => {
    const admin = { HATCHERY_URL: product.api.url, HATCHERY_TOKEN: product.api.adminToken };
    const made = await start(['user', 'create', 'jane', '--password-file', '-'], admin, 'a long password\n')
      .ended;
    expect(made).toMatchObject({ code: 0, out: 'jane may sign in as teacher.\n' });
    expect(
      await start(['user', 'create', 'jane', '--password-file', '-'], admin, 'a long password\n').ended,
    ).toMatchObject({ code: 5 });
    const token = await cli('token', 'create', 'script', '--expires-in-days', '7');
    expect(token.out).toMatch(/^\S+\n$/);
    const environment = { HATCHERY_URL: product.api.url, HATCHERY_TOKEN: token.out.trim() };
    expect((await start(['batch', 'list'], environment).ended).code).toBe(0);
    const id = /token revoke (\S+)/.exec(token.err)?.[1] ?? '';
    expect((await cli('token', 'revoke', id)).code).toBe(0);
    expect((await start(['batch', 'list'], environment).ended).code).toBe(3);
  });
});

describe('looking at a cluster', () => {
  const asAdmin = (...args: string[]) =>
    start(args, { HATCHERY_URL: product.api.url, HATCHERY_TOKEN: product.api.adminToken }).ended;

  it('says that it is in order, finding by finding', async () => {
    const { code, out } = await asAdmin('cluster', 'check', 'main');
    expect(out).toMatch(/^main: in order \(.*\d+ ok\)$/m);
    expect(out).toMatch(/^ {2}ok {5}rights of workflow student-vm +\/: Sys\.Audit; \/vms: VM\.Audit; /m);
    expect(code).toBe(0);
    const [item] = parsed<{ items: { ok: boolean; findings: { level: string }[] }[] }>(
      await asAdmin('cluster', 'check', '--json'),
    ).items;
    expect(item!.ok).toBe(true);
    expect(item!.findings.every(({ level }) => level !== 'fail')).toBe(true);
  });

  it('records how it answers, and compares recordings', async () => {
    const target = join(folder, 'recording.json');
    const made = await asAdmin('cluster', 'record', '--cluster', 'main', '--out', target);
    expect(made).toMatchObject({ code: 0, out: '' });
    expect(made.err).toMatch(/^Recorded \d+ calls and \d+ refusals to /);
    expect(await cli('cluster', 'compare', target, target)).toMatchObject({
      code: 0,
      out: 'No differences.\n',
    });
    const changed = (await readFile(target, 'utf8')).replaceAll('does not exist', 'is not there');
    const other = await file('other.json', changed);
    const against = await asAdmin('cluster', 'record', '--cluster', 'main', '--compare', other);
    expect(against.out).toMatch(
      /^unknown guest$\n {2}reason: ".*does not exist" left, ".*is not there" right$/m,
    );
    const none = await cli('cluster', 'compare', target, await file('none.json', '{}'));
    expect(none).toMatchObject({ code: 2, err: expect.stringContaining('it is no recording of a cluster') });
  });
});

describe('what is refused', () => {
  it('is exit code 2 for a roster, with every row, and nothing is made', async () => {
    const bad = await file('bad.csv', 'login\nzo e\nbob\nBOB\n');
    const { code, out, err } = await cli(
      'batch',
      'create',
      bad,
      '--blueprint',
      'student-desktop',
      '--name',
      'bad',
    );
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err).toMatch(/^ {2}row 2, column login: .* -> Write /m);
    expect(err).toMatch(/^ {2}row 4, column login: .*row 3.* -> /m);
    expect(err).toMatch(/^\(roster-invalid, request \S+\)$/m);
    expect((await cli('batch', 'show', 'bad')).code).toBe(4);
  });

  it('is exit code 3 for what is for admins, 4 for what is of others, 7 for no service', async () => {
    expect((await cli('cluster', 'list')).code).toBe(3);
    expect((await cli('batch', 'show', 'nobody-has-this')).code).toBe(4);
    const nowhere = { HATCHERY_URL: 'http://127.0.0.1:9', HATCHERY_TOKEN: 'x' };
    expect((await start(['batch', 'list'], nowhere).ended).code).toBe(7);
  });
});

describe('a class', () => {
  it('is planned, made, shown and deleted', async () => {
    const planned = await cli(
      'batch',
      'plan',
      await roster('ada', 'bob', 'cem'),
      '--blueprint',
      'student-desktop',
      '--name',
      'class',
      '--json',
    );
    expect(planned.code).toBe(0);
    expect(parsed<BatchPlan>(planned).counts).toEqual({ rows: 3, ok: 3, conflict: 0, noCapacity: 0 });
    expect((await cli('batch', 'list', '--json')).out).not.toContain('"class"');

    const made = await start(await create('class', ['ada', 'bob', 'cem'], '--wait')).ended;
    expect(made).toMatchObject({ code: 0 });
    expect(made.out).toMatch(/^login .*state/);
    expect(made.out).toContain('\nclass: 3 of 3 ready\n');
    expect(made.err).toMatch(/^class: 0\/3 ready/);
    expect(made.err).toMatch(/^class: 3\/3 ready, 100 %/m);
    // oxlint-disable-next-line no-control-regex -- no colours and no cursor movements where there is no terminal
    expect(made.out + made.err).not.toMatch(/\u001b/);
    expect(guests('vm-').sort()).toEqual(['vm-ada', 'vm-bob', 'vm-cem']);

    const results = parsed<BatchResults>(await cli('batch', 'results', 'class', '--json'));
    expect(results.items.map(({ login, state }) => `${login} ${state}`)).toEqual([
      'ada ready',
      'bob ready',
      'cem ready',
    ]);
    const csv = join(folder, 'results.csv');
    expect((await cli('batch', 'results', 'class', '--csv', csv)).code).toBe(0);
    const lines = (await readFile(csv, 'utf8')).split('\r\n');
    expect(lines[0]).toBe(`\u{feff}${RESULT_COLUMNS.join(',')}`);
    expect(lines).toHaveLength(5);

    const again = await start(await create('class', ['dan'])).ended;
    expect(again.code).toBe(5);
    expect(again.err).toContain('(name-taken, ');
    const more = await start(['batch', 'add', 'class', await roster('dan'), '--wait', '--json']).ended;
    expect(parsed<BatchResults>(more).counts).toMatchObject({ total: 4, ready: 4 });

    expect((await cli('machine', 'show', 'vm-dan')).out).toMatch(/^address +10\./m);
    expect(await cli('machine', 'delete', 'vm-dan', '--yes')).toMatchObject({
      code: 0,
      out: 'vm-dan is deleted.\n',
    });
    expect((await cli('batch', 'delete', 'class')).code).toBe(2);
    expect(await cli('batch', 'delete', 'class', '--yes')).toMatchObject({
      code: 0,
      out: 'class is deleted: 4 machines.\n',
    });
    expect(guests('vm-')).toEqual([]);
    expect((await cli('batch', 'watch', 'class')).code).toBe(0);
  });

  it('ends with 6 when one machine is not ready, and the command that is shown mends it', async () => {
    // Of this machine only: a right that is missing would hold back the other one too.
    product.site.simulators.context.faults.add({
      id: 'broken-image',
      match: { op: 'qemu.clone', nth: 1 },
      effect: 'task-error',
      value: 'clone failed: rbd create error: (5) Input/output error',
    });
    const made = await start(await create('stuck', ['eva', 'fay'], '--wait')).ended;
    expect(made.code).toBe(6);
    expect(made.err).toMatch(/^stuck: (eva|fay) \(vm-\w+\): remote-refused: /m);
    expect(made.out).toContain('stuck: 1 of 2 ready, 1 parked\n1 x ');
    const next = /hatchery (run retry .*)/.exec(made.out)?.[1]?.split(' ') ?? [];
    expect(await cli(...next)).toMatchObject({ code: 0, out: '1 run goes on.\n' });
    expect(await cli('batch', 'watch', 'stuck')).toMatchObject({ code: 0 });
    expect((await cli('batch', 'delete', 'stuck', '--yes')).code).toBe(0);
  });

  it('comes back to a service that was away, and leaves the batch alone on Ctrl-C', async () => {
    const { holds } = product.site.simulators.context;
    const network = createTransportContext();
    const way = await startTransport(network, { to: product.api.url });
    const environment = { HATCHERY_URL: way.endpoints[0]!, HATCHERY_TOKEN: teacher };
    try {
      holds.hold('qemu.clone');
      const making = start(await create('far', ['gus', 'hal'], '--wait'), environment);
      await making.said('far: 0/2 ready');
      await holds.reached('qemu.clone');
      const watching = start(['batch', 'watch', 'far'], environment);
      await watching.said('far: 0/2 ready');
      watching.child.kill('SIGINT');
      const watched = await watching.ended;
      expect(watched.code).toBe(130);
      expect(watched.err).toContain('Come back with: hatchery batch watch far\n');

      way.cut();
      holds.release('qemu.clone');
      await making.said('The service does not answer; the batch is not lost.');
      await way.mend();
      const made = await making.ended;
      expect(made).toMatchObject({ code: 0 });
      expect(made.err).toContain('The service answers again.\n');
    } finally {
      holds.release('qemu.clone');
      await way.stop();
      network.close();
    }
    expect((await cli('batch', 'delete', 'far', '--yes')).code).toBe(0);
  });

  it('whose passwords are generated shows them once, in a file that only its owner can read', async () => {
    const args = [
      'batch',
      'create',
      await roster('ivy'),
      '--blueprint',
      'generated',
      '--name',
      'own',
      '--wait',
    ];
    expect((await cli(...args)).code).toBe(0);
    const csv = join(folder, 'passwords.csv');
    expect((await cli('batch', 'credentials', 'own', '--csv', csv)).code).toBe(0);
    expect((await stat(csv)).mode & 0o777).toBe(0o600);
    expect(await readFile(csv, 'utf8')).toMatch(
      /^\ufefflogin,machine,user,password\r\nivy,own-ivy,\w+,\S{8,}\r\n$/,
    );
    expect((await cli('batch', 'credentials', 'own', '--csv', csv)).code).toBe(2);
    expect((await cli('batch', 'credentials', 'own')).code).toBe(5);
    expect((await cli('batch', 'delete', 'own', '--yes')).code).toBe(0);
  });
});

describe('the programs beside it', () => {
  it('simulators live as long as the command that started them', async () => {
    const simulating = start(['simulate', 'proxmox', '--time-scale', '0.01']);
    await simulating.said('"endpoints"');
    simulating.child.kill('SIGKILL');
    // Its output closes only when the child that shares it has ended, too.
    const { out } = await simulating.ended;
    const [endpoint] = (JSON.parse(out) as { endpoints: string[] }).endpoints;
    await expect(fetch(endpoint!)).rejects.toMatchObject({ cause: { code: 'ECONNREFUSED' } });
  });

  it('judges the journal of everything above', async () => {
    const { journal } = product.site.simulators.context;
    const checked = await cli('journal', 'check', journal.file, '--deleted', '--json');
    expect(parsed(checked)).toMatchObject({ ok: true, collisions: 0, left: 0 });
    expect(checked.code).toBe(0);
    expect((await cli('journal', 'check', join(folder, 'none'))).code).toBe(2);
  });
});
