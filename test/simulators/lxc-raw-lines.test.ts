import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { nodeHelper } from '../../src/app/config/node-helper.js';
import { SshNodeFiles } from '../../src/drivers/ssh/ssh-node-files.js';
import { systemClock } from '../../src/drivers/system-clock.js';
import { plainCall } from '../../src/ports/call.js';
import type { NodeFileRef, RawLine } from '../../src/ports/node-files.js';
import { Secret } from '../../src/ports/secrets.js';
import { startSimulators, type Simulators } from '../../src/simulators/simulators.js';
import { WireClient } from './proxmox-client.js';

const AT = { node: 'pve1', vmid: 10_050 };
const call = plainCall();
const HOOK: NodeFileRef = { node: 'pve1', place: { in: 'hooks' }, name: 'first' };
const REPORT: NodeFileRef = { node: 'pve1', place: { in: 'reports' }, name: 'first' };
const HOOK_LINES: readonly RawLine[] = [
  [
    'lxc.mount.entry',
    '/var/lib/hatchery/hooks/first var/lib/hatchery/first/hook none bind,ro,create=file 0 0',
  ],
  [
    'lxc.mount.entry',
    '/var/lib/hatchery/reports/first var/lib/hatchery/first/report none bind,create=file 0 0',
  ],
  ['lxc.hook.start', '/var/lib/hatchery/first/hook'],
];

let simulators: Simulators;
let client: WireClient;
let files: SshNodeFiles;
beforeEach(async () => {
  simulators = await startSimulators({
    which: ['proxmox'],
    timeScale: 0.001,
    world: { guests: [{ ...AT, kind: 'lxc', owner: 'alice', running: false }] },
  });
  const { proxmox } = simulators;
  client = new WireClient(proxmox!, proxmox!.rootToken);
  const { privateKey, ...settings } = proxmox!.ssh;
  files = new SshNodeFiles({
    cluster: 'main',
    settings: { ...settings, port: 22, privateKey: { file: 'given' } },
    privateKey: new Secret(privateKey),
    program: nodeHelper(),
    clock: systemClock,
    remoteTimeScale: 0.01,
  });
});
afterEach(async () => {
  files.close();
  client.close();
  await simulators.stop();
});

async function write(lines: readonly RawLine[]): Promise<void> {
  const { digest } = (await files.readContainerConfig(AT, call))!;
  await files.replaceRawLines(AT, { digest, lines }, call);
}
const start = async () => client.task(await client.post('/nodes/pve1/lxc/10050/status/start'));
const fails = { exit: "startup for container '10050' failed" };
const empty = { bytes: Buffer.alloc(0), mode: 'guest', keeps: true } as const;

describe('a container with raw lines', () => {
  it('shows them in its config, with the digest of its file, and keeps them when the API writes', async () => {
    await write([['lxc.idmap', 'u 0 100000 65536']]);
    await client.put('/nodes/pve1/lxc/10050/config', { cores: 4 });
    const shown = (await client.get('/nodes/pve1/lxc/10050/config')).json.data as Record<string, unknown>;
    expect(shown).toMatchObject({ cores: 4, lxc: [['lxc.idmap', 'u 0 100000 65536']] });
    expect(shown['digest']).toBe((await files.readContainerConfig(AT, call))!.digest);
  });

  it('starts with maps that root may make', async () => {
    await write([
      ['lxc.idmap', 'u 0 100000 65536'],
      ['lxc.idmap', 'g 0 100000 65536'],
      ['lxc.idmap', 'u 600000000 600000000 999999999'],
      ['lxc.idmap', 'g 600000000 600000000 999999999'],
    ]);
    expect(await start()).toMatchObject({ exit: 'OK' });
  });

  it.each<[string, string, RegExp]>([
    [
      'a range that is not in subuid',
      'u 0 300000 65536',
      /uid range \[0-65536\) -> \[300000-365536\) not allowed/,
    ],
    ['maps that overlap', 'u 60000 600000000 10', /write to uid_map failed: Invalid argument/],
    ['a map of root', 'u 70000 0 1', /uid range \[70000-70001\) -> \[0-1\) not allowed/],
    ['a short line', 'u 70000', /Failed to parse id mappings/],
  ])('does not start with %s', async (_, value, words) => {
    await write([
      ['lxc.idmap', 'u 0 100000 65536'],
      ['lxc.idmap', value],
    ]);
    const task = await start();
    expect(task).toMatchObject(fails);
    expect(task.log.join('\n')).toMatch(words);
  });

  it('does not start when a line of subuid was taken away', async () => {
    await write([['lxc.idmap', 'g 600000000 600000000 1000']]);
    simulators.proxmox!.conditions.dropIdRange('pve1', 600_000_000);
    expect(await start()).toMatchObject(fails);
  });

  it('runs its start hook, which reports how far it is (FS33)', async () => {
    await files.putFile(HOOK, { bytes: Buffer.from('#!/bin/sh\n'), mode: 'runnable' }, call);
    await files.putFile(REPORT, empty, call);
    await write(HOOK_LINES);
    expect(await start()).toMatchObject({ exit: 'OK' });
    const report = async (): Promise<string> =>
      (await files.readReports('pve1', ['first'], call)).get('first') ?? '';
    while (!(await report()).endsWith('done\n')) void 0;
    expect(await report()).toMatch(/^progress 10 .*\nprogress 60 .*\ndone\n$/);
  });

  it.each<[string, () => Promise<unknown>]>([
    ['fails', () => Promise.resolve(simulators.proxmox!.conditions.setFirstBoot(AT.vmid, 'exits', ''))],
    ['is missing', () => files.removeFile(HOOK, call)],
    ['may not be run', () => files.putFile(HOOK, { bytes: Buffer.from('x'), mode: 'readable' }, call)],
  ])('does not start when its hook %s (E08)', async (_, spoil) => {
    await files.putFile(HOOK, { bytes: Buffer.from('#!/bin/sh\n'), mode: 'runnable' }, call);
    await files.putFile(REPORT, empty, call);
    await write(HOOK_LINES);
    await spoil();
    expect(await start()).toMatchObject(fails);
  });
});
