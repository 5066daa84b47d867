import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import {
  snippetFiles,
  snippetLoginProblem,
  snippetNodes,
  snippetNotes,
  snippetPlace,
  snippetVolumes,
  snippetsSchema,
} from './snippets.js';

const machine = {
  id: '0190b0c0-0000-7000-8000-000000000001',
  name: 'vm-ada',
  mac: '02:00:00:00:00:07',
  login: 'ada',
  user: { name: 'ada', sshKeys: ['ssh-ed25519 AAAA ada'] },
};
const PHONE_HOME = ['cloud-init-per', 'instance', 'hatchery-phone-home', 'sh', '-c', 'true'];

/** Text by part. */
const textsOf = (
  asked: object,
  of: Partial<typeof machine> = {},
  phoneHome?: readonly string[],
): Record<string, string> =>
  Object.fromEntries(
    snippetFiles(snippetsSchema.parse(asked), { ...machine, ...of }, phoneHome).map(({ part, text }) => [
      part,
      text,
    ]),
  );

describe('cloud-init files', () => {
  it('say for each machine what the blueprint says, with its names in', () => {
    const texts = textsOf({
      user: { package_upgrade: false, runcmd: [['echo', 'hello {login}'], 'echo ${login} {machine}'] },
      network: { version: 2, ethernets: { lan: { match: { macaddress: '{mac}' }, dhcp4: true } } },
      vendor: { packages: ['vim'] },
    });
    expect(texts['user']!.split('\n')[0]).toBe('#cloud-config');
    expect(parse(texts['user']!)).toEqual({
      hostname: 'vm-ada',
      manage_etc_hosts: true,
      user: 'ada',
      users: ['default'],
      ssh_authorized_keys: ['ssh-ed25519 AAAA ada'],
      chpasswd: { expire: false },
      package_upgrade: false,
      runcmd: [['echo', 'hello ada'], 'echo ${login} vm-ada'],
    });
    expect(parse(texts['network']!)).toMatchObject({
      ethernets: { lan: { match: { macaddress: machine.mac } } },
    });
    expect(parse(texts['vendor']!)).toEqual({ packages: ['vim'] });
  });

  it('have names of their own, by which the guest finds them', () => {
    const files = snippetFiles(snippetsSchema.parse({ network: {}, vendor: {} }), machine, undefined);
    expect(snippetVolumes({ storage: 'local', files })).toEqual({
      network: `local:snippets/hatchery-${machine.id}-network.yaml`,
      vendor: `local:snippets/hatchery-${machine.id}-vendor.yaml`,
    });
  });

  it('let root sign in where root is the first user', () => {
    const { user } = textsOf({ user: {} }, { user: { name: 'root', sshKeys: [] } });
    expect(parse(user!)).toMatchObject({ user: 'root', disable_root: false });
    expect(parse(user!)).not.toHaveProperty('users');
  });

  it.each([
    ['vendor data', { vendor: { bootcmd: ['a'] } }, { vendor: [PHONE_HOME, 'a'] }],
    ['vendor data without commands', { vendor: {} }, { vendor: [PHONE_HOME] }],
    ['user data that hides those of vendor data', { user: { bootcmd: ['a'] } }, { user: [PHONE_HOME, 'a'] }],
    ['user data that hides none', { user: {} }, { user: undefined }],
  ])('phone home by the commands of %s', (_, asked, commands) => {
    for (const [part, bootcmd] of Object.entries(commands))
      expect((parse(textsOf(asked, {}, PHONE_HOME)[part]!) as { bootcmd?: unknown }).bootcmd).toEqual(
        bootcmd,
      );
  });

  it.each([
    'x\nusers: [{name: root2}]',
    'x\n#cloud-config\nruncmd: [id]',
    'x: y',
    '"]}, "users": ["root2"',
    '\u2028users: x',
    '\u0085users: x',
    '---\n',
    '{mac}',
    '!!python/object:x',
    '$&',
  ])('keep the text %j of a person one text (S04)', (text) => {
    const key = `ssh-ed25519 AAAA ${text}`;
    const { user } = textsOf(
      { user: { final_message: '{login}!' } },
      { login: text, user: { name: text, sshKeys: [key] } },
    );
    expect(parse(user!)).toEqual({
      hostname: 'vm-ada',
      manage_etc_hosts: true,
      user: text,
      users: ['default'],
      ssh_authorized_keys: [key],
      chpasswd: { expire: false },
      final_message: `${text}!`,
    });
  });

  it('refuse a login that commands would run, where they hold it (S04)', () => {
    const asked = snippetsSchema.parse({ user: { runcmd: ['mkdir /srv/{login}'] } });
    for (const login of ['ada', 'Ada.B-1_2']) expect(snippetLoginProblem(asked, login)).toBeUndefined();
    for (const login of ['$(id)', 'a b', "o'neil", '-rf', 'a;b', 'élodie', '../x'])
      expect(snippetLoginProblem(asked, login)).toContain('without accents');
    expect(snippetLoginProblem(snippetsSchema.parse({ user: { runcmd: ['id'] } }), '$(id)')).toBeUndefined();
  });

  it.each<[string, object]>([
    ['users besides', { user: { users: ['x'] } }],
    ['keys besides', { user: { ssh_authorized_keys: ['x'] } }],
    ['passwords in vendor data', { vendor: { chpasswd: {} } }],
    ['nothing', {}],
    ['another part', { vendor: {}, meta: {} }],
    ['text instead of data', { user: '#cloud-config' }],
    ['a boot command that is no list', { vendor: { bootcmd: 'id' } }],
    ['more than a node takes', { vendor: { packages: ['x'.repeat(65_536)] } }],
  ])('are refused when they hold %s', (_, asked) =>
    expect(snippetsSchema.safeParse(asked).success).toBe(false),
  );

  it('fit a node however often they hold a name', () => {
    const long = 'a'.repeat(64);
    const { vendor } = textsOf(
      { vendor: { x: ['{login}'.repeat(9_000)] } },
      { login: long, name: long, user: { name: long, sshKeys: [] } },
    );
    expect(Buffer.byteLength(vendor!)).toBeLessThan(1_048_576);
  });
});

describe('the place of cloud-init files', () => {
  const hostKeys = { pve1: 'key', pve2: 'key', pve3: 'key', pve5: 'key' };
  const cluster = { name: 'main', snippetStorage: 'local', ssh: { hostKeys }, nodes: { exclude: ['pve5'] } };
  const nodes = ['pve1', 'pve2', 'pve3', 'pve4', 'pve5'].map((name) => ({ name, online: name !== 'pve3' }));
  const local = nodes.map(({ name }) => ({ id: 'local', node: name, shared: false }));

  it('is each node that may start the machine, its own first', () => {
    const place = snippetPlace(cluster, { nodes, storages: local }, undefined);
    expect(place).toEqual({ storage: 'local', shared: false, nodes: ['pve1', 'pve2'], offNodes: ['pve3'] });
    expect(snippetNodes(place, 'pve2', true)).toEqual({ nodes: ['pve2', 'pve1'], offNodes: ['pve3'] });
    // Its disk lies on this node only.
    expect(snippetNodes(place, 'pve2', false)).toEqual({ nodes: ['pve2'], offNodes: [] });
    expect(snippetNotes(place)[1]).toContain('pve3 is off');
    const pinned = snippetPlace(cluster, { nodes, storages: local }, { only: ['pve2'], exclude: [] });
    expect(pinned.nodes).toEqual(['pve2']);
  });

  it('is one for all nodes on a shared storage', () => {
    const storages = [{ id: 'local', node: undefined, shared: true }];
    const place = snippetPlace(cluster, { nodes, storages }, undefined);
    expect(place).toMatchObject({ shared: true, nodes: ['pve1', 'pve2'] });
    expect(snippetNodes(place, 'pve2', false)).toEqual({ nodes: ['pve2', 'pve1'], offNodes: [] });
    expect(snippetNotes(place)).toEqual([expect.stringContaining('shared storage local')]);
  });

  it.each([
    ['no such storage is seen', cluster, 'shows us no storage local'],
    ['the cluster names none', { ...cluster, snippetStorage: undefined }, 'has no snippetStorage'],
    ['the cluster has no SSH', { ...cluster, ssh: undefined }, 'has no ssh'],
  ])('is refused when %s', (_, at, sentence) =>
    expect(() => snippetPlace(at, { nodes, storages: [] }, undefined)).toThrow(sentence),
  );
});
