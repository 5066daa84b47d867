import { execFile, spawnSync } from 'node:child_process';
import { chmod, copyFile, mkdir, mkdtemp, readFile, readlink, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { firstBootArguments, firstBootSchema, type FirstBoot } from '../../src/core/lxc/first-boot.js';
import { readHookReport } from '../../src/core/lxc/hook-report.js';
import { PACKAGE_ROOT } from '../../src/app/config/package-root.js';

/** Its own /etc, /var, /usr/local and PAM profiles, so that nothing of this machine is touched. */
const FOLDERS = { etc: '/etc', var: '/var', local: '/usr/local', pam: '/usr/share/pam-configs' };
const lacksNamespaces = spawnSync('unshare', ['-rm', 'true']).status !== 0;
const STUBS = ['apt-get', 'realm', 'systemctl', 'pam-auth-update', 'umount'];

// Namespaces of an unprivileged user may be switched off; CI has them.
describe.skipIf(lacksNamespaces)('the first boot of a container', () => {
  let folder: string;
  const at = (path: string): string => join(folder, path);
  const text = (path: string): Promise<string> => readFile(at(path), 'utf8');
  const calls = async (): Promise<string[]> => (await text('calls')).trimEnd().split('\n').filter(Boolean);
  const report = async (): Promise<ReturnType<typeof readHookReport>> => readHookReport(await text('report'));

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'first-boot-'));
    for (const path of ['etc/security', 'etc/sssd', 'var/lib/dhcp', 'var/log', 'local/bin', 'pam'])
      await mkdir(at(path), { recursive: true });
    await copyFile(join(PACKAGE_ROOT, 'hooks/first-boot.sh'), at('hook'));
    for (const path of ['report', 'calls']) await writeFile(at(path), '');
    for (const name of STUBS) await stub(name, '');
    await stub('realm', '[ "$1" != join ] || printf "%s\\n" "password $(cat)" >> "$CALLS"');
    await writeFile(at('etc/machine-id'), 'of-the-template\n');
    await writeFile(
      at('etc/sssd/sssd.conf'),
      'use_fully_qualified_names = True\nfallback_homedir = /home/%u@%d\n',
    );
    await writeFile(at('var/lib/dhcp/dhclient.eth0.leases'), 'lease');
  });
  afterEach(() => rm(folder, { recursive: true }));

  async function stub(name: string, body: string): Promise<void> {
    await writeFile(at(`local/bin/${name}`), `#!/bin/sh\nprintf '%s\\n' "${name} $*" >> "$CALLS"\n${body}\n`);
    await chmod(at(`local/bin/${name}`), 0o755);
  }

  async function asks(wish: Partial<FirstBoot>, realm?: string): Promise<void> {
    const domain =
      realm === undefined ? undefined : { realm, user: 'join', password: `p'"$(touch /etc/x)\\` };
    const machine = { mac: 'bc:24:11:b3:c1:3d', login: 'rapamato' };
    const wanted = firstBootArguments(firstBootSchema.parse(wish), machine, domain);
    await writeFile(at('arguments'), JSON.stringify(wanted));
  }

  /** Its exit code. */
  function hook(phase: 'start' | 'run'): Promise<number> {
    const binds = Object.entries(FOLDERS).map(([from, to]) => `mount --bind '${at(from)}' ${to}`);
    const call = phase === 'run' ? 'run' : '105 lxc start';
    const command = `set -e; ${binds.join('; ')}; exec '${at('hook')}' ${call}`;
    return new Promise((resolve) => {
      execFile(
        'unshare',
        ['-rm', 'sh', '-c', command],
        { env: { ...process.env, CALLS: at('calls') } },
        (error) => resolve(error ? Number(error.code) : 0),
      );
    });
  }

  it('prepares what must be there before anybody can sign in, and leaves the rest to a service', async () => {
    await asks({ signIn: { admins: ['it-staff'] } });
    expect(await hook('start')).toBe(0);
    expect(await report()).toMatchObject({ state: 'working', percent: 4 });
    expect(await text('etc/nologin')).not.toBe('');
    expect(await text('etc/machine-id')).toBe('');
    expect(await text('etc/dhcp/dhclient.conf')).toBe(
      '# hatchery\nsend dhcp-client-identifier ff:11:b3:c1:3d:00:03:00:01:bc:24:11:b3:c1:3d;\n# end of hatchery\n',
    );
    await expect(text('var/lib/dhcp/dhclient.eth0.leases')).rejects.toThrow('ENOENT');
    expect((await text('etc/security/access.hatchery.conf')).trimEnd().split('\n')).toEqual([
      ...[
        '+:root:ALL',
        '+:ALL:cron atd',
        '+:rapamato:ALL',
        '+:it-staff:ALL',
        '+:(it-staff):ALL',
        '-:ALL:ALL',
      ],
    ]);
    expect(await text('pam/hatchery')).toContain('accessfile=/etc/security/access.hatchery.conf');
    expect(await calls()).toEqual(['pam-auth-update --package --enable hatchery']);
    const service = '/etc/systemd/system/hatchery-first-boot.service';
    expect(await text(service)).toContain(`ExecStart=${at('hook')} run`);
    expect(await readlink(at('etc/systemd/system/multi-user.target.wants/hatchery-first-boot.service'))).toBe(
      service,
    );
  });

  it('updates, installs, joins the domain and then opens the door', async () => {
    await asks({ packages: ['cinnamon', 'g++'], domain: 'cri' }, 'local.isima.fr');
    await hook('start');
    expect(await hook('run')).toBe(0);
    expect(await report()).toEqual({ state: 'done' });
    const options = '-y -o Acquire::Retries=5 -o DPkg::Lock::Timeout=600 -o Dpkg::Options::=--force-confold';
    expect(await calls()).toEqual([
      `apt-get ${options} update`,
      `apt-get ${options} upgrade`,
      `apt-get ${options} install -- cinnamon g++ realmd sssd sssd-tools libnss-sss libpam-sss adcli`,
      'realm list --name-only',
      'realm join --unattended --membership-software=adcli --user=join -- local.isima.fr',
      `password p'"$(touch /etc/x)\\`,
      'systemctl restart sssd',
      `umount ${at('arguments')}`,
    ]);
    expect(await text('etc/sssd/sssd.conf')).toBe(
      'use_fully_qualified_names = False\nfallback_homedir = /home/%u\n',
    );
    for (const gone of ['etc/nologin', 'etc/x', 'etc/systemd/system/hatchery-first-boot.service'])
      await expect(text(gone)).rejects.toThrow('ENOENT');
    expect(await text('var/log/hatchery-first-boot.log')).not.toContain(`p'"`);
  });

  it('comes to the same end when it is run again, and does nothing when it is done', async () => {
    await asks({ update: false });
    await hook('start');
    await writeFile(at('etc/machine-id'), 'its own\n');
    await hook('start');
    expect(await text('etc/machine-id')).toBe('its own\n');
    expect((await text('etc/dhcp/dhclient.conf')).match(/^send/gm)).toHaveLength(1);
    await hook('run');
    expect(await hook('start')).toBe(0);
    expect(await report()).toEqual({ state: 'done' });
    await expect(text('etc/nologin')).rejects.toThrow('ENOENT');
  });

  it('begins anew in a clone of a container in which it was done', async () => {
    await asks({ update: false });
    await hook('start');
    await hook('run');
    const template = JSON.parse(await text('arguments')) as object;
    await writeFile(at('arguments'), JSON.stringify({ ...template, mac: '02:00:00:00:00:07' }));
    await writeFile(at('etc/machine-id'), 'of-the-clone-source\n');
    await hook('start');
    expect(await text('etc/machine-id')).toBe('');
    expect(await report()).toMatchObject({ state: 'working' });
    expect(await text('etc/dhcp/dhclient.conf')).toContain('00:03:00:01:02:00:00:00:00:07;');
  });

  it.each([
    [
      'apt-get',
      '[ "$8" != upgrade ] || { echo "E: no mirror" >&2; exit 100; }',
      /updates \(exit code 100\): .*no mirror/,
    ],
    [
      'realm',
      '[ "$1" != join ] || { echo "Couldn\'t authenticate" >&2; exit 1; }',
      /joining the domain .*authenticate/,
    ],
  ])('says what failed when %s does, and keeps the door closed (E08)', async (name, body, why) => {
    await asks({ domain: 'cri' }, 'local.isima.fr');
    await stub(name, body);
    await hook('start');
    expect(await hook('run')).not.toBe(0);
    const failed = await report();
    expect(failed.state).toBe('failed');
    expect(failed).toHaveProperty('why', expect.stringMatching(why));
    expect(await text('etc/nologin')).not.toBe('');
  });

  it('does not let the container start when nobody could be kept out', async () => {
    await asks({ signIn: { admins: [] } });
    await stub('pam-auth-update', 'exit 3');
    expect(await hook('start')).toBe(3);
    expect(await report()).toMatchObject({ state: 'failed' });
  });

  it.each([
    '',
    '[]',
    '{',
    '{"mac":{"a":1}}',
    '{"mac":"a\\nb"}',
    '{"mac":"a\\u000ab"}',
    '{"packages":["a"',
    '{"mac":"a"} x',
    '{"a;b":"c"}',
  ])('takes %j for no arguments', async (bad) => {
    await writeFile(at('arguments'), bad);
    expect(await hook('start')).not.toBe(0);
    expect(await report()).toMatchObject({ state: 'failed' });
    await expect(text('etc/nologin')).rejects.toThrow('ENOENT');
    expect(await calls()).toEqual([]);
  });
});
