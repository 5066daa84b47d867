import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';
import { loadSite } from '../../src/app/config/site.js';
import type { BatchPlan, BatchResults } from '../../src/client/types.gen.js';
import { HatcheryError } from '../../src/core/errors.js';
import { cellAddress } from '../../src/core/roster/sheet-scan.js';
import { storeZip } from '../../src/core/roster/zip.js';
import { textOf } from '../../src/simulators/proxmox/lxc-config-file.js';
import type { JournalLine } from '../../src/simulators/journal.js';
import type { WorldGuest } from '../../src/simulators/world.js';
import { startProduct, type Product } from '../support/product.js';
import { newSshKey } from '../support/real-sshd.js';
import { startCli } from '../support/run-cli.js';

/*
 * Rows S02-S04, S28 and S34-S37: what people write is data or is refused, whichever way it comes in. Judged by the files of the simulated
 * nodes and by the journal of their SSH servers.
 */

const KEY = newSshKey().public.trim();
const IDENTITIES = { from: 600_000_000, count: 999_999_999 };
/** Of a blueprint, for a hook: one line of text, whatever it looks like. */
const ARGUMENT = `"; rm -rf / # $(id) \`id\` ' lxc.hook.pre-start: /bin/sh`;
const HOOK = '#!/bin/sh\nexit 0\n';
const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

const BLUEPRINT = {
  name: 'closed',
  version: 1,
  title: { en: 'Closed', fr: 'Fermé' },
  kind: 'lxc',
  source: { archive: 'debian-12-standard', storage: 'ceph' },
  sizes: { default: 'one', one: { cores: 1, memoryMiB: 512, diskGiB: 8 } },
  nameFrom: 'vm-{login}',
  network: { bridge: 'vmbr0', dhcp: 'dhcp' },
  container: {
    identities: [IDENTITIES],
    sshKeys: ['roster'],
    home: { under: 'students' },
    firstBoot: { packages: ['vim'], signIn: { admins: ['it-staff'] } },
    hooks: [{ hook: 'lab-tools', arguments: { labName: ARGUMENT } }],
  },
  siteSshKeys: [] as string[],
  workflow: 'student-lxc-debian',
  clusters: ['main'],
};
const HOOK_FILE = {
  name: 'lab-tools',
  phase: 'start',
  script: { file: 'lab-tools.sh' },
  sha256: sha256(HOOK),
  arguments: ['labName'],
};

/** A cell of the roster that refuses the whole of it, by the column it stands in and the code of its refusal. */
const REFUSED: readonly (readonly [row: string, column: string, text: string, code: string])[] = [
  ['S02', 'login', 'x;id', 'login-invalid'],
  ['S02', 'login', '$(id)', 'login-invalid'],
  ['S02', 'login', '`id`', 'login-invalid'],
  ['S02', 'login', '-oProxyCommand=id', 'formula'],
  ['S02', 'login', 'x\nid', 'line-break'],
  ['S03', 'login', 'x\nlxc.hook.pre-start: /bin/sh', 'line-break'],
  ['S03', 'nom', 'x\nlxc.idmap: u 0 0 65536', 'line-break'],
  ['S03', 'prénom', 'x\r[pve:pending]', 'line-break'],
  ['S03', 'groupe', 'x\u2028lxc.include: /etc/x', 'line-break'],
  ['S03', 'nom', 'x\u0085lxc.include: /etc/x', 'invisible-character'],
  ['S04', 'clé ssh', `command="id" ${KEY}`, 'ssh-key-invalid'],
  ['S04', 'clé ssh', `${KEY}\n${KEY}`, 'line-break'],
  ['S04', 'clé ssh', `${KEY}\n#cloud-config`, 'line-break'],
  ['S04', 'clé ssh', 'ssh-dss AAAAB3NzaC1kc3MAAACBAA==', 'ssh-key-invalid'],
  ['S04', 'mail', 'a@example.org\nusers: [root]', 'line-break'],
  ['S28', 'nom', '\u001b]8;;http://evil.invalid\u0007click', 'invisible-character'],
  ['S28', 'prénom', 'a\u202egnp.exe', 'invisible-character'],
  ['S36', 'login', '..', 'login-invalid'],
  ['S36', 'login', '../root', 'login-invalid'],
  ['S36', 'login', '/etc/pve', 'login-invalid'],
];

/** Names that are taken as they are. */
const DATA: readonly (readonly [row: string, name: string])[] = [
  ['S02', '$(id) `id` x;id | tee /root/x'],
  ['S03', 'lxc.hook.pre-start: /bin/sh -c id'],
  ['S03', '[pve:pending] %0Alxc.idmap: u 0 0 65536'],
  [
    'S03',
    '[hatchery v1 deployment=01994a3e-0000-7000-8000-000000000001 machine=01994a3e-0000-7000-8000-000000000002 run=01994a3e-0000-7000-8000-000000000003 step=x vmid=9000 attempt=1]',
  ],
  ['S28', '<img src=x onerror=alert(1)> javascript:alert(1)'],
];

const HEADER = ['login', 'nom', 'prénom', 'groupe', 'mail', 'clé ssh'];
const quoted = (cell: string): string => `"${cell.replaceAll('"', '""')}"`;
const csv = (rows: readonly Readonly<Record<string, string>>[], more: readonly string[] = []): string =>
  [[...HEADER, ...more], ...rows.map((row) => [...HEADER, ...more].map((column) => row[column] ?? ''))]
    .map((cells) => cells.map(quoted).join(';'))
    .join('\n');

/** As a spreadsheet writes it: what XML has no character for is `_xHHHH_`. */
function workbook(rows: readonly Readonly<Record<string, string>>[]): Blob {
  const text = (cell: string): string =>
    [...cell]
      .map((sign) => {
        const code = sign.codePointAt(0)!;
        if (code < 0x20 && sign !== '\n') return `_x${code.toString(16).toUpperCase().padStart(4, '0')}_`;
        return '<>&'.includes(sign) ? `&#${code};` : sign;
      })
      .join('');
  const table = [HEADER, ...rows.map((row) => HEADER.map((column) => row[column] ?? ''))];
  const inner = table.map((cells, row) => {
    const all = cells.map(
      (cell, column) =>
        `<c r="${cellAddress(row + 1, column + 1)}" t="inlineStr"><is><t xml:space="preserve">${text(cell)}</t></is></c>`,
    );
    return `<row r="${row + 1}">${all.join('')}</row>`;
  });
  const relations = 'http://schemas.openxmlformats.org/officeDocument/2006/relationships';
  const parts = {
    'xl/workbook.xml': `<workbook xmlns:r="${relations}"><sheets><sheet name="S" sheetId="1" r:id="rId1"/></sheets></workbook>`,
    'xl/_rels/workbook.xml.rels': `<Relationships><Relationship Id="rId1" Type="${relations}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>`,
    'xl/worksheets/sheet1.xml': `<worksheet><sheetData>${inner.join('')}</sheetData></worksheet>`,
  };
  return new Blob([storeZip(new Map(Object.entries(parts).map(([path, xml]) => [path, Buffer.from(xml)])))]);
}

// oxlint-disable-next-line no-control-regex -- control characters are what is looked for
const CONTROL = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e]/;

let product: Product;
let folder: string;

beforeAll(async () => {
  product = await startProduct({
    blueprints: { closed: stringify(BLUEPRINT) },
    files: { 'hooks/lab-tools.yaml': stringify(HOOK_FILE), 'hooks/lab-tools.sh': HOOK },
  });
  folder = await mkdtemp(join(tmpdir(), 'hatchery-injection-'));
});
afterAll(async () => {
  await product?.stop();
  await rm(folder, { recursive: true, force: true });
});

const journal = (): JournalLine[] => product.site.simulators.context.journal.read();
/** What was changed outside since the world began. */
const written = (): JournalLine[] =>
  journal().filter(({ event, effect }) => event === 'request' && effect === true);
async function cli(...args: string[]): Promise<{ code: number | null; out: string; err: string }> {
  const environment = { HATCHERY_URL: product.api.url, HATCHERY_TOKEN: product.api.adminToken, HOME: folder };
  return startCli(args, environment).ended;
}
async function roster(name: string, text: string): Promise<string> {
  await writeFile(join(folder, name), text);
  return join(folder, name);
}
async function send(path: string, fields: Record<string, string>, file: string | Blob) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) form.set(name, value);
  form.set('roster', new Blob([file]), typeof file === 'string' ? 'class.csv' : 'class.xlsx');
  const { api } = product;
  const response = await api.call('POST', `/api/v1/${path}`, { token: api.adminToken, form });
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
}

describe('what is refused', () => {
  const rows = REFUSED.map(([, column, text], at) => ({ login: `s${at}`, [column]: text }));
  afterAll(async () => {
    expect(written()).toEqual([]);
    const { rows: machines } = await product.api.db.query('select 1 from machines');
    expect(machines).toEqual([]);
  });

  it('is refused in every cell of a roster, through the API and the command line', async () => {
    const { status, body } = await send('batches', { blueprint: 'closed', name: 'bad' }, csv(rows));
    expect(status).toBe(422);
    const errors = body['errors'] as { row: number; column: string; code: string }[];
    expect(errors.map(({ row, column, code }) => [row, column, code])).toEqual(
      REFUSED.map(([, column, , code], at) => [at + 2, column, code]),
    );
    const file = await roster('bad.csv', csv(rows));
    const { code, out, err } = await cli('batch', 'create', file, '--blueprint', 'closed', '--name', 'bad');
    expect(code).toBe(2);
    expect(out).toBe('');
    expect(err).not.toMatch(CONTROL);
    for (const at of REFUSED.keys()) expect(err).toMatch(new RegExp(`\\b${at + 2}\\b`));
  });

  it('is refused in every cell of a workbook, too', async () => {
    const { status, body } = await send('batches', { blueprint: 'closed', name: 'bad' }, workbook(rows));
    expect(status).toBe(422);
    const errors = body['errors'] as { row: number; column: string; code: string }[];
    expect(errors.map(({ row, column, code }) => [row, column, code])).toEqual(
      REFUSED.map(([, column, , code], at) => [at + 2, column, code]),
    );
  });

  it('is refused as a login whose home would have another name (S36)', async () => {
    const { status, body } = await send(
      'batches',
      { blueprint: 'closed', name: 'bad' },
      csv([{ login: 'élodie', nom: 'Durand' }]),
    );
    expect(status).toBe(422);
    expect(body['errors']).toMatchObject([{ row: 2, column: 'login', code: 'login-invalid' }]);
  });

  it.each([
    ['S02', { name: 'x;id' }],
    ['S03', { name: 'x\nlxc.idmap: u 0 0 65536' }],
    ['S28', { name: '\u001b[31mred' }],
    ['S09', { blueprint: '../../etc/passwd' }],
    ['S37', { hookscript: 'local:snippets/x.sh' }],
    ['S37', { unprivileged: '0' }],
    ['S37', { args: '-device vfio-pci' }],
    ['S37', { mp0: '/etc,mp=/host' }],
    ['S37', { vmid: '100' }],
  ])('%s: is refused in the fields of a request: %j', async (_row, fields) => {
    const all = { blueprint: 'closed', name: 'bad', ...fields };
    const { status, body } = await send('batches', all, csv([{ login: 'ada' }]));
    expect([400, 404, 422]).toContain(status);
    expect(JSON.stringify(body)).not.toMatch(CONTROL);
  });

  it('is refused as the name of a batch, and shown without what a terminal would do for it (S28)', async () => {
    const file = await roster('good.csv', csv([{ login: 'ada' }]));
    const name = '\u001b]8;;http://evil.invalid\u0007x;id';
    const { code, err } = await cli('batch', 'create', file, '--blueprint', 'closed', '--name', name);
    expect(code).toBe(2);
    expect(err).not.toMatch(CONTROL);
    const shown = await cli('machine', 'show', '\u001b[31m../../x');
    expect(shown.code).not.toBe(0);
    expect(shown.err).not.toMatch(CONTROL);
  });
});

/** A change of one file of the site, and the place that its refusal names. */
type Patch = readonly [row: string, what: string, change: Readonly<Record<string, unknown>>, place: RegExp];

describe('what a site writes', () => {
  const container = (more: object): Record<string, unknown> => ({
    container: { ...BLUEPRINT.container, ...more },
  });
  const firstBoot = (more: object): Record<string, unknown> =>
    container({ firstBoot: { ...BLUEPRINT.container.firstBoot, ...more } });
  const ofHook = (labName: string, hook = 'lab-tools'): Record<string, unknown> =>
    container({ hooks: [{ hook, arguments: { labName } }] });
  const home = (more: object): Record<string, unknown> => container({ home: { under: 'students', ...more } });
  const ids = (from: number, count: number): Record<string, unknown> =>
    container({ identities: [{ from, count }] });

  async function refusal(file: string, change: Readonly<Record<string, unknown>>): Promise<string> {
    const path = join(product.site.configDir, file);
    const before = await readFile(path, 'utf8');
    await writeFile(path, stringify({ ...(parse(before) as object), ...change }));
    try {
      loadSite({ configDir: product.site.configDir, env: {} });
    } catch (error) {
      if (error instanceof HatcheryError && error.code === 'settings-invalid') return error.message;
      throw error;
    } finally {
      await writeFile(path, before);
    }
    throw new Error(`it was accepted: ${JSON.stringify(change)}`);
  }

  it.each<Patch>([
    [
      'S02',
      'more than a storage',
      { source: { archive: 'debian-12-standard', storage: 'ceph:1,mp=/etc' } },
      /source.storage: /,
    ],
    ['S02', 'a path for an archive', { source: { archive: '../x;id', storage: 'ceph' } }, /source.archive: /],
    ['S02', 'more than a bridge', { network: { bridge: 'vmbr0,ip=10.0.0.1' } }, /network.bridge: /],
    ['S02', 'an option for a package', firstBoot({ packages: ['-oDir::Etc=/tmp'] }), /packages/],
    ['S02', 'a command for a package', firstBoot({ packages: ['vim;id'] }), /packages/],
    ['S02', 'a rule beside an admin', firstBoot({ signIn: { admins: ['it\nALL : ALL'] } }), /admins/],
    ['S04', 'two keys for one', { siteSshKeys: [`${KEY}\n${KEY}`] }, /siteSshKeys/],
    ['S04', 'options before a key', { siteSshKeys: [`command="id" ${KEY}`] }, /siteSshKeys/],
    ['S34', 'the ids of the node', ids(0, 65_536), /identities.*from 100000 on/s],
    ['S34', 'the ids of every container', ids(100_000, 65_536), /identities.*every container's own/s],
    [
      'S34',
      'ids that reach into those of every container',
      ids(165_000, 1_000),
      /identities.*every container's own/s,
    ],
    ['S34', 'more ids than there are', ids(600_000_000, 5_000_000_000), /identities.*the highest id/s],
    ['S34', 'ids that the cluster does not allow', ids(300_000, 1_000), /identities.*the cluster allows/s],
    [
      'S34',
      'ids twice',
      container({ identities: [IDENTITIES, { from: 700_000_000, count: 10 }] }),
      /identities.*overlap/s,
    ],
    ['S35', 'a path for a hook', ofHook('x', '../../root/x'), /hooks/],
    ['S35', 'a hook that nobody registered', ofHook('x', 'unknown'), /hooks.*unknown is none/s],
    ['S35', 'our own hook', ofHook('x', 'first-boot'), /hooks.*our own/s],
    ['S35', 'a second line in an argument', ofHook('x\nlxc.hook.pre-start: /bin/sh'), /labName/],
    [
      'S35',
      'an argument that the hook has not',
      container({ hooks: [{ hook: 'lab-tools', arguments: { path: 'x' } }] }),
      /needs labName/,
    ],
    ['S36', 'a path for a folder of homes', home({ under: '/etc' }), /home.under/],
    ['S36', 'homes that the cluster has not', home({ under: 'everybody' }), /home.under/],
    ['S36', 'a path that leads back', home({ at: '/home/../etc' }), /home.at/],
    ['S36', 'a second line in a path', home({ at: '/home/x none bind 0 0\nlxc.hook.mount: /x' }), /home.at/],
    ['S36', 'a path of the kernel', home({ at: '/proc/sys' }), /home.at/],
    ['S36', 'a path of ours', home({ at: '/var/lib/hatchery/x' }), /home.at/],
    ['S37', 'a privileged container', container({ unprivileged: false }), /unprivileged/],
    ['S37', 'features', container({ features: 'mount=nfs' }), /features/],
    ['S37', 'a hook script', container({ hookscript: 'local:snippets/x.sh' }), /hookscript/],
    ['S37', 'a bind mount', container({ mp0: '/etc,mp=/host' }), /mp0/],
    ['S37', 'arguments of a virtual machine', { args: '-device vfio-pci' }, /args/],
    ['S37', 'its own cloud-init', { cicustom: 'user=local:snippets/x.yaml' }, /cicustom/],
    ['S37', 'a path for a workflow', { workflow: '../x' }, /workflow/],
  ])('%s: %s is refused in a blueprint', async (_row, _what, change, place) => {
    expect(await refusal('blueprints/closed.yaml', change)).toMatch(place);
  });

  const allowed = (more: object): Record<string, unknown> => ({
    containers: { identities: [IDENTITIES], homes: { students: '/mnt/pve/home' }, ...more },
  });
  it.each<Patch>([
    [
      'S03',
      'two lines of a template for one',
      allowed({ templateLines: ['lxc.environment: A=1\nlxc.hook.mount: /x'] }),
      /templateLines/,
    ],
    [
      'S03',
      'a line that is not raw',
      allowed({ templateLines: ['hookscript: local:snippets/x.sh'] }),
      /templateLines/,
    ],
    ['S34', 'the ids of the node', allowed({ identities: [{ from: 0, count: 1_000 }] }), /identities/],
    ['S36', 'the whole node for homes', allowed({ homes: { students: '/' } }), /homes/],
    ['S36', 'a folder of the node for homes', allowed({ homes: { students: '/etc/pve' } }), /homes/],
    ['S36', 'a path that leads back', allowed({ homes: { students: '/mnt/../root' } }), /homes/],
    ['S36', 'a command for a path', allowed({ homes: { students: '/mnt/$(id)' } }), /homes/],
  ])('%s: %s is refused in the file of a cluster', async (_row, _what, change, place) => {
    expect(await refusal('clusters/main.yaml', change)).toMatch(place);
  });

  it.each<Patch>([
    [
      'S35',
      'another script than was looked at',
      { sha256: sha256('another script') },
      /sha256: the script is another one/,
    ],
    ['S35', 'a phase in which it would run as root of the node', { phase: 'pre-start' }, /phase/],
    ['S35', 'a name that is none', { arguments: ['a b'] }, /arguments/],
  ])('%s: %s is refused in a hook', async (_row, _what, change, place) => {
    expect(await refusal('hooks/lab-tools.yaml', change)).toMatch(place);
  });
});

describe('what is data', () => {
  const logins = DATA.map((_, at) => `p${at}`);
  const names = new Map(DATA.map(([, name], at) => [logins[at]!, name]));
  const guests = new Map<string, WorldGuest>();
  /** Its start hook says so in its report. */
  const lastWords = 'mirror \u001b]8;;http://evil.invalid\u0007click\u001b[31m <b>here</b>';
  let results: BatchResults;

  beforeAll(async () => {
    const text = csv(
      logins.map((login) => ({
        login,
        nom: names.get(login)!,
        groupe: names.get(login)!,
        'clé ssh': `${KEY} $(id)" command="id`,
        hookscript: 'local:snippets/x.sh',
      })),
      ['hookscript'],
    );
    const plan = await send('batches/plan', { blueprint: 'closed', name: 'data' }, text);
    expect(plan.body).toMatchObject({ counts: { ok: logins.length } });
    const { items, notes } = plan.body as unknown as BatchPlan;
    expect(notes).toContain('Ignored columns: hookscript.');
    product.site.simulators.proxmox.conditions.setFirstBoot(items[0]!.vmid!, 'fails', lastWords);
    const file = await roster('data.csv', text);
    const made = await cli('batch', 'create', file, '--blueprint', 'closed', '--name', 'data', '--wait');
    expect(made.out + made.err).not.toMatch(CONTROL);
    expect(made.code).toBe(6);
    const { api } = product;
    const answer = await api.call('GET', '/api/v1/batches/data/results', { token: api.adminToken });
    results = (await answer.json()) as BatchResults;
    for (const { login, vmid } of results.items)
      guests.set(login, product.site.simulators.proxmox.guest(vmid!)!);
  }, 60_000);

  it('stands in the description of its container as it was written, above our mark, and nowhere else (S03)', () => {
    for (const [login, guest] of guests) {
      const [comment, ...rest] = guest.config['description']!.split('\n');
      expect(comment).toBe(`${names.get(login)} (${login}), data`);
      expect(rest).toEqual([expect.stringMatching(/^\[hatchery v1 .* vmid=[0-9]+ attempt=[0-9]+\]$/)]);
      expect(rest[0]).toContain(`vmid=${guest.vmid} `);
      const lines = textOf(guest)
        .split('\n')
        .filter((line) => !line.startsWith('#'));
      const keys = ['arch', 'cores', 'features', 'hostname', 'memory', 'net0', 'ostype', 'rootfs', 'swap'];
      expect(lines.flatMap((line) => /^([a-z0-9]+): /.exec(line)?.[1] ?? [])).toEqual([
        ...keys,
        'unprivileged',
      ]);
      expect(guest.config).toMatchObject({ hostname: `vm-${login}`, unprivileged: '1' });
      expect(
        lines.filter((line) => line.startsWith('lxc.')).filter((line) => !line.includes('/var/lib')),
      ).toEqual([
        'lxc.idmap: u 0 100000 65536',
        'lxc.idmap: g 0 100000 65536',
        'lxc.idmap: u 600000000 600000000 999999999',
        'lxc.idmap: g 600000000 600000000 999999999',
        `lxc.mount.entry: /mnt/pve/home/${login} home/${login} none bind,create=dir 0 0`,
      ]);
    }
  });

  it('lets one key in, without options (S04)', () => {
    for (const guest of guests.values()) {
      const keys = Buffer.from(guest.files.get('/root/.ssh/authorized_keys')!, 'base64').toString();
      expect(keys).toMatch(/^ssh-ed25519 [A-Za-z0-9+/=]+ [A-Za-z0-9@._-]+\n?$/);
    }
  });

  it('comes to a hook as JSON, and to a node as the input of one program (S02, S35)', () => {
    const ofServer = journal().filter(
      ({ event, op }) => event === 'request' && op?.startsWith('ssh.') === true,
    );
    expect(ofServer.map(({ op }) => op)).not.toContain('ssh.command');
    expect(ofServer.map(({ op }) => op)).not.toContain('ssh.malformed');
    const argumentFiles = ofServer.filter(
      ({ op, resource }) => op === 'ssh.file.put' && /\/arguments\/.*\.lab-tools$/.test(resource ?? ''),
    );
    expect(argumentFiles).toHaveLength(logins.length);
    for (const { params } of argumentFiles)
      expect(params).toMatchObject({ sha256: sha256(JSON.stringify({ labName: ARGUMENT })) });
    for (const { params } of ofServer) {
      const { lines = [] } = (params ?? {}) as { lines?: unknown };
      expect(JSON.stringify(lines)).not.toContain('rm -rf');
    }
  });

  it('is shown by a terminal as text only, what a container says included (S28)', async () => {
    const failed = results.items.find(({ login }) => login === 'p0')!;
    expect(failed).toMatchObject({ state: 'parked', code: 'hook-failed' });
    expect(failed.reason).toContain('mirror click <b>here</b>');
    const shown = await Promise.all(
      [
        ['batch', 'results', 'data'],
        ['machine', 'show', failed.machine],
      ].map((args) => cli(...args)),
    );
    for (const { code, out, err } of shown) {
      expect({ code, err }).toEqual({ code: 0, err: '' });
      expect(out).toContain('<b>here</b>');
      expect(out).not.toMatch(CONTROL);
    }
  });
});
