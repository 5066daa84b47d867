import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { HatcheryError } from '../../core/errors.js';
import { loadSite, type SiteConfig } from './site.js';

const cluster = `name: main
kind: proxmox
endpoints: ["https://127.0.0.1:8006"]
trust: { caFile: ca.pem }
token: { id: "hatchery@pve!lab", secret: { file: ../secrets/pve } }
pool: hatchery-lab
vmids: { from: 10000, to: 19999 }
`;
const service = `name: dhcp
kind: windows-dhcp
endpoint: http://127.0.0.1:5985/wsman
username: svc
password: { env: DHCP_PASSWORD }
`;
const blueprint = `name: desk
version: 1
title: { en: Desk, fr: Poste }
kind: qemu
source: { templates: [debian-12-xfce], clone: linked }
sizes: { default: small, small: { cores: 2, memoryMiB: 2048, diskGiB: 20 } }
network: { bridge: vmbr0, dhcp: dhcp }
cloudInit: { user: "{login}" }
workflow: student-vm
clusters: [main]
`;
const good = {
  'clusters/main.yaml': cluster,
  'clusters/ca.pem': 'PEM\n',
  'secrets/pve': 'token-secret\n',
  'services/dhcp.yaml': service,
  'blueprints/desk.yaml': blueprint,
};

function folder(files: Record<string, string>): string {
  const root = mkdtempSync(join(tmpdir(), 'site-'));
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), text);
  }
  return root;
}

function load(files: Record<string, string>, shipped: Record<string, string> = {}): SiteConfig {
  return loadSite({ configDir: folder(files), packageRoot: folder(shipped), env: { DHCP_PASSWORD: 'p' } });
}

function refusal(files: Record<string, string>): string {
  try {
    load(files);
  } catch (error) {
    if (error instanceof HatcheryError && error.code === 'settings-invalid') return error.message;
    throw error;
  }
  throw new Error('the site was accepted');
}

describe('loadSite', () => {
  it('reads clusters, services and blueprints with their secrets and certificates', () => {
    const site = load(good);
    expect(site.clusters[0]?.secret.reveal()).toBe('token-secret');
    expect(site.clusters[0]?.definition.trust).toEqual({
      caFile: expect.stringMatching(/^\/.*\/clusters\/ca\.pem$/),
    });
    expect(site.services[0]?.password.reveal()).toBe('p');
    expect(site.blueprints.map(({ name }) => name)).toEqual(['desk']);
    expect(JSON.stringify(site)).not.toContain('token-secret');
  });

  it('reads the key for the nodes of a cluster, and takes no other form of what is written about them', () => {
    const ssh = (more: string): string =>
      `${cluster}ssh:\n  privateKey: { file: ../secrets/ssh }\n  hostKeys: { pve1: ssh-ed25519 ${'A'.repeat(68)} }\n${more}`;
    const files = (text: string) => ({ ...good, 'secrets/ssh': 'KEY\n', 'clusters/main.yaml': text });
    const [main] = load(files(ssh('  addresses: { pve1: "10.0.0.11:2222" }\n'))).clusters;
    expect(main?.sshKey?.reveal()).toBe('KEY');
    expect(main?.definition.ssh).toMatchObject({
      user: 'root',
      port: 22,
      addresses: { pve1: '10.0.0.11:2222' },
    });
    expect(refusal(files(ssh('  addresses: { pve1: "-oProxyCommand=id" }\n')))).toMatch(
      /addresses.pve1: write a host/,
    );
    expect(refusal(files(ssh('').replace('ssh-ed25519 A', 'ssh-dss A')))).toMatch(
      /hostKeys.pve1: write a public host key/,
    );
    expect(refusal(files(ssh('').replace('{ file: ../secrets/ssh }', 'KEY')))).toMatch(
      /ssh.privateKey: a secret must not stand in this file/,
    );
  });

  it('offers cloud-init files only where a cluster has SSH and a storage for them', () => {
    const asking = blueprint.replace('" }', '", snippets: { vendor: { timezone: UTC } } }');
    const files = (more: string) => ({
      ...good,
      'secrets/ssh': 'KEY\n',
      'clusters/main.yaml': cluster + more,
      'blueprints/desk.yaml': asking,
    });
    const ssh = `ssh:\n  privateKey: { file: ../secrets/ssh }\n  hostKeys: { pve1: ssh-ed25519 ${'A'.repeat(68)} }\n`;
    expect(load(files(`${ssh}snippetStorage: local\n`)).blueprints).toHaveLength(1);
    expect(refusal(files('snippetStorage: local\n'))).toMatch(/desk\.yaml:8:.*cluster main has no ssh/);
    expect(refusal(files(ssh))).toMatch(/cloudInit.snippets: cluster main has no snippetStorage/);
    expect(refusal(files(`${ssh}snippetStorage: ../x\n`))).toMatch(/write the name of a storage/);
  });

  it('reads the password of an account that stands instead of a token', () => {
    const account = 'account: { username: "lab@pve", password: { file: ../secrets/pve } }';
    const text = cluster.replace(/token: .*/, account);
    const site = load({ ...good, 'clusters/main.yaml': text });
    expect(site.clusters[0]?.secret.reveal()).toBe('token-secret');
    expect(refusal({ ...good, 'clusters/main.yaml': `${cluster}${account}\n` })).toMatch(
      /token: write either token or account, and not both/,
    );
    expect(refusal({ ...good, 'clusters/main.yaml': cluster.replace(/token: .*\n/, '') })).toMatch(
      /token: is missing \(write either token or account, and not both\)/,
    );
    const literal = cluster.replace(/token: .*/, 'account: { username: "lab@pve", password: hunter2 }');
    expect(refusal({ ...good, 'clusters/main.yaml': literal })).toMatch(
      /account.password: a secret must not stand in this file/,
    );
  });

  it('refuses a literal secret and says what to write', () => {
    const text = refusal({
      ...good,
      'services/dhcp.yaml': service.replace('{ env: DHCP_PASSWORD }', 'hunter2'),
    });
    expect(text).toMatch(
      /dhcp\.yaml:5:1: password: a secret must not stand in this file: write \{ file: path \} or \{ env: NAME \}/,
    );
    expect(text).not.toContain('hunter2');
  });

  it('gives file, line and column of every mistake of every file at once', () => {
    const text = refusal({
      ...good,
      'clusters/main.yaml': cluster.replace('pool: hatchery-lab', 'pol: hatchery-lab'),
      'blueprints/desk.yaml': blueprint.replace('version: 1', 'version: one'),
    });
    expect(text).toMatch(/main\.yaml:6:1: pol: is not known here/);
    expect(text).toMatch(/main\.yaml:1:1: pool: is missing/);
    expect(text).toMatch(/desk\.yaml:2:1: version: /);
  });

  it('refuses doubled keys, broken YAML and alias bombs', () => {
    expect(refusal({ ...good, 'services/dhcp.yaml': `${service}name: again\n` })).toMatch(
      /dhcp\.yaml:6:1: .*unique/,
    );
    expect(refusal({ ...good, 'services/dhcp.yaml': 'name: [' })).toMatch(/dhcp\.yaml:1:\d+: /);
    const levels = 'abcdefgh'.split('').map(
      (name, i) =>
        `${name}: &${name} [${
          i === 0
            ? '1'
            : Array(9)
                .fill(`*${'abcdefgh'[i - 1]}`)
                .join(',')
        }]`,
    );
    expect(refusal({ ...good, 'services/dhcp.yaml': levels.join('\n') })).toMatch(/write fewer aliases/);
  });

  it('refuses a blueprint of the site that names an unknown cluster or service', () => {
    expect(refusal({ ...good, 'blueprints/desk.yaml': blueprint.replace('[main]', '[mian]') })).toMatch(
      /desk\.yaml:10:12: clusters\.0: .*mian is none/,
    );
    expect(
      refusal({ ...good, 'blueprints/desk.yaml': blueprint.replace('dhcp: dhcp', 'dhcp: nope') }),
    ).toMatch(/network\.dhcp: .*nope is none/);
  });

  it('refuses two files of one name, a missing secret file and a missing variable', () => {
    expect(refusal({ ...good, 'clusters/again.yaml': cluster })).toMatch(
      /main is also the name in .*again\.yaml/,
    );
    expect(
      refusal({ ...good, 'clusters/main.yaml': cluster.replace('secrets/pve', 'secrets/gone') }),
    ).toMatch(/token\.secret\.file: .*ENOENT/);
    expect(refusal({ ...good, 'services/dhcp.yaml': service.replace('DHCP_PASSWORD', 'NOT_SET') })).toMatch(
      /NOT_SET is not set/,
    );
  });

  it('lays the site over what the package ships, and leaves out what this site cannot serve', () => {
    const site = load(
      { ...good, 'workflows/student-vm.yaml': 'id: mine' },
      {
        'blueprints/desk.yaml': blueprint.replace('version: 1', 'version: 9'),
        'blueprints/lab.yaml': blueprint.replace('name: desk', 'name: lab'),
        'blueprints/other.yaml': blueprint
          .replace('name: desk', 'name: other')
          .replace('[main]', '[elsewhere]'),
        'workflows/student-vm.yaml': 'id: shipped',
        'workflows/second.yaml': 'id: second',
      },
    );
    expect(site.blueprints.map(({ name, version }) => `${name}@${version}`)).toEqual(['desk@1', 'lab@1']);
    expect(site.workflowFiles.map(({ text }) => text).sort()).toEqual(['id: mine', 'id: second']);
  });

  it('works without a folder and refuses one that is not there', () => {
    expect(loadSite({ configDir: undefined, env: {}, packageRoot: folder({}) }).clusters).toEqual([]);
    expect(() => loadSite({ configDir: '/nowhere/at/all', env: {} })).toThrow(/does not exist/);
  });
});
