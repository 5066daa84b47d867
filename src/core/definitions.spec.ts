import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { blueprintSchema, clusterSchema, defaultSize } from './definitions.js';

const shipped = (): Record<string, unknown> =>
  parse(readFileSync('blueprints/student-desktop.yaml', 'utf8')) as Record<string, unknown>;

describe('a blueprint', () => {
  it('that is shipped can be used as it is', () => {
    const blueprint = blueprintSchema.parse(shipped());
    expect(blueprint).toMatchObject({
      name: 'student-desktop',
      workflow: 'student-vm',
      clusters: ['main'],
      nameFrom: 'vm-{login}',
    });
    expect(defaultSize(blueprint)).toEqual({ cores: 2, memoryMiB: 4096, diskGiB: 20 });
  });

  it.each([
    [
      'a default size that is none',
      { sizes: { default: 'huge', small: { cores: 1, memoryMiB: 512, diskGiB: 5 } } },
    ],
    ['a size without memory', { sizes: { default: 'small', small: { cores: 1, diskGiB: 5 } } }],
    ['a name pattern without {login}', { nameFrom: 'vm' }],
    ['an unknown key', { hookscript: 'local:snippets/x' }],
    ['an option in the bridge', { network: { bridge: 'vmbr0,firewall=0' } }],
  ])('with %s is refused', (_, change) => {
    expect(blueprintSchema.safeParse({ ...shipped(), ...change }).success).toBe(false);
  });
});

describe('the cloud-init files of a blueprint', () => {
  const asking = (snippets: object, signIn = 'prompt'): boolean => {
    const { access, ...rest } = shipped();
    const cloudInit = { user: 'student', snippets };
    return blueprintSchema.safeParse({ ...rest, access: { ...(access as object), signIn }, cloudInit })
      .success;
  };

  it('take the place of what sets a generated password only where they are vendor data', () => {
    expect(asking({ user: { timezone: 'UTC' } })).toBe(true);
    expect(asking({ user: { timezone: 'UTC' } }, 'generated')).toBe(false);
    expect(asking({ vendor: { timezone: 'UTC' } }, 'generated')).toBe(true);
  });

  it('do not say who signs in', () => expect(asking({ user: { users: ['root2'] } })).toBe(false));
});

describe('a blueprint of containers', () => {
  const container = (over: object): Record<string, unknown> => ({
    ...(parse(readFileSync('blueprints/debian-12-lxc.yaml', 'utf8')) as object),
    ...over,
  });

  it.each([
    ['that are unpacked', {}, true],
    ['that are cloned', { source: { templates: ['x'], clone: 'linked' } }, true],
    ['with cloud-init', { cloudInit: { user: 'student' } }, false],
    ['that asks for privileged ones', { container: { unprivileged: false } }, false],
    ['with another feature than nesting', { container: { features: 'mknod=1' } }, false],
    ['whose archive is a path', { source: { archive: '../../etc/shadow', storage: 'ceph' } }, false],
    [
      'with both sources',
      { source: { archive: 'x', storage: 'ceph', templates: ['x'], clone: 'full' } },
      false,
    ],
    [
      'that are cloned and get a password each',
      {
        source: { templates: ['x'], clone: 'linked' },
        access: { service: 'guacamole', protocol: 'ssh', port: 22, signIn: 'generated' },
      },
      false,
    ],
  ])('%s', (_, over, isAccepted) => {
    expect(blueprintSchema.safeParse(container(over)).success).toBe(isAccepted);
  });

  it('is none of virtual machines', () => {
    expect(blueprintSchema.safeParse({ ...shipped(), container: {} }).success).toBe(false);
    const { cloudInit, ...without } = shipped();
    expect(cloudInit).toBeDefined();
    expect(blueprintSchema.safeParse(without).success).toBe(false);
  });
});

describe('the vendor data of a cluster', () => {
  const cluster = {
    name: 'main',
    kind: 'proxmox',
    endpoints: ['https://pve1:8006'],
    trust: { system: true },
    token: { id: 'hatchery@pve!prod', secret: { env: 'TOKEN' } },
    pool: 'hatchery-prod',
    vmids: { from: 100, to: 200 },
  };

  it.each([
    ['local:snippets/hatchery.yaml', true],
    ['local:snippets/a,user=local:snippets/b', false],
    ['local:snippets/../../etc/passwd', false],
    ['local:iso/hatchery.yaml', false],
    ['/var/lib/vz/snippets/hatchery.yaml', false],
  ])('may be %j: %j', (vendorData, isRight) => {
    expect(clusterSchema.safeParse({ ...cluster, vendorData }).success).toBe(isRight);
  });
});
