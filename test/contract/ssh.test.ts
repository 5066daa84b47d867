import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import ssh2 from 'ssh2';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, inject, it } from 'vitest';
import { nodeHelper } from '../../src/app/config/node-helper.js';
import { SshConnection } from '../../src/drivers/ssh/connection.js';
import { commandLine } from '../../src/drivers/ssh/quote.js';
import { SshNodeFiles } from '../../src/drivers/ssh/ssh-node-files.js';
import { systemClock } from '../../src/drivers/system-clock.js';
import type { HatcheryError } from '../../src/core/errors.js';
import { plainCall } from '../../src/ports/call.js';
import { Secret } from '../../src/ports/secrets.js';
import { startSimulators } from '../../src/simulators/simulators.js';
import { textOf, writeText } from '../../src/simulators/proxmox/lxc-config-file.js';
import type { SshAccess } from '../../src/simulators/proxmox/ssh/ssh-nodes.js';
import { newSshKey, startRealSshd, type RealSshd } from '../support/real-sshd.js';
import { nodeFilesContract, type NodeFilesSetup } from './node-files.contract.js';

const NODE = hostname().split('.')[0]!;
const VMID = 105;
const NO_NEEDS = { identities: [], homes: {}, reports: false };
const CONFIG = `arch: amd64
cores: 2
hostname: vm-alice
rootfs: local-lvm:vm-105-disk-0,size=8G
unprivileged: 1

[before]
arch: amd64
lxc.environment: KEPT=1
snaptime: 1764000000
`;

/** A folder that stands for the root of a node, and `hatchery-node` made to work below it. */
async function fakeNode(): Promise<{ root: string; program: string; remove(): Promise<void> }> {
  const root = await mkdtemp(join(tmpdir(), 'hatchery-node-'));
  const at = (path: string): string => join(root, path);
  for (const path of [`etc/pve/nodes/${NODE}/lxc`, 'run/lock/lxc', 'snippets', 'bin'])
    await mkdir(at(path), { recursive: true });
  await writeFile(at(`etc/pve/nodes/${NODE}/lxc/${VMID}.conf`), CONFIG);
  const ids = 'root:100000:65536\nalice:200000:65536\nroot:600000000:999999999\n';
  await writeFile(at('etc/subuid'), ids);
  await writeFile(at('etc/subgid'), ids);
  const pvesm = `#!/bin/sh\n[ "$1" = path ] || exit 2\ncase $2 in local:snippets/*) echo "${root}/\${2#local:}";; *) echo "storage does not exist" >&2; exit 2;; esac\n`;
  await writeFile(at('bin/pvesm'), pvesm, { mode: 0o755 });
  const program = nodeHelper()
    .replaceAll(
      /'(\/etc\/pve|\/var\/lib\/hatchery|\/run\/lock\/lxc|\/etc\/subuid|\/etc\/subgid)'/g,
      `'${root}$1'`,
    )
    .replace("'/usr/local/sbin:", `'${root}/bin:/usr/local/sbin:`)
    .replace('$LOCK_SECONDS = 10', '$LOCK_SECONDS = 0.3');
  return { root, program, remove: () => rm(root, { recursive: true, force: true }) };
}

async function simulatedSetup(): Promise<NodeFilesSetup> {
  const simulators = await startSimulators({
    which: ['proxmox'],
    timeScale: 0.002,
    world: {
      storages: [{ id: 'local', type: 'dir', shared: false, sizeGiB: 100, content: ['rootdir', 'snippets'] }],
      guests: [{ vmid: VMID, node: 'pve2', kind: 'lxc', owner: 'hatchery@pve!demo', running: false }],
      templates: [],
    },
  });
  const { ssh } = simulators.proxmox!;
  const guest = simulators.proxmox!.guest(VMID)!;
  writeText(guest, CONFIG);
  const files = simulatedFiles(ssh);
  return {
    files,
    node: 'pve2',
    storage: 'local',
    vmid: VMID,
    configText: async () => textOf(guest),
    async editConfig(key, value) {
      if (value === undefined) delete guest.config[key];
      else guest.config[key] = value;
    },
    async holdingLock(work) {
      const value = { do: 'hold-file-lock', node: 'pve2', vmid: VMID, forMs: 100_000 };
      const { faults } = simulators.context;
      faults.add({ id: 'held', effect: 'act', match: { op: 'ssh.describe' }, value });
      await files.check(['pve2'], NO_NEEDS, plainCall());
      faults.remove('held');
      const result = await work();
      const isHeld = (): Promise<boolean> =>
        files.replaceRawLines({ node: 'pve2', vmid: VMID }, { digest: '', lines: [] }, plainCall()).then(
          () => false,
          (error: HatcheryError) => error.code === 'lock-timeout',
        );
      while (await isHeld()) void 0;
      return result;
    },
    async stop() {
      files.close();
      await simulators.stop();
    },
  };
}

/** The driver on the simulated nodes. */
const simulatedFiles = ({ privateKey, ...settings }: SshAccess): SshNodeFiles =>
  new SshNodeFiles({
    cluster: 'main',
    settings: { ...settings, port: 22, privateKey: { file: 'given' } },
    privateKey: new Secret(privateKey),
    program: nodeHelper(),
    clock: systemClock,
    remoteTimeScale: 0.01,
  });

nodeFilesContract('simulated', simulatedSetup);

describe('a simulated node', () => {
  const call = plainCall();
  const at = { node: 'pve1', vmid: VMID };
  const lines = [['lxc.idmap', 'u 0 100000 65536']] as const;
  let simulators: Awaited<ReturnType<typeof startSimulators>>;
  let files: SshNodeFiles;

  beforeEach(async () => {
    simulators = await startSimulators({
      which: ['proxmox'],
      timeScale: 0.002,
      world: {
        guests: [{ vmid: VMID, node: 'pve1', kind: 'lxc', owner: 'hatchery@pve!demo', running: false }],
      },
    });
    files = simulatedFiles(simulators.proxmox!.ssh);
  });
  afterEach(async () => {
    files.close();
    await simulators.stop();
  });
  const fault = (rule: object): void => simulators.context.faults.add({ id: 'fault', ...rule } as never);
  const written = () =>
    simulators.context.journal
      .read()
      .filter(({ op, event }) => op === 'ssh.config.raw-lines' && event === 'request');

  it('writes nothing of a request that is cut anywhere (E07)', async () => {
    const { digest, text } = (await files.readContainerConfig(at, call))!;
    for (const bytes of [0, 1, 40, 120]) {
      fault({ match: { op: 'ssh.config.raw-lines' }, when: 'during', effect: 'truncate', value: bytes });
      await expect(files.replaceRawLines(at, { digest, lines }, call)).rejects.toMatchObject({
        code: 'outcome-unknown',
        retry: 'later',
      });
      simulators.context.faults.remove('fault');
    }
    expect((await files.readContainerConfig(at, call))?.text).toBe(text);
    expect(written().map(({ effect }) => effect)).toEqual([false, false, false, false]);
    expect((await files.replaceRawLines(at, { digest, lines }, call)).text).toContain('lxc.idmap');
  });

  it.each(['reset', 'drop'])('has written it all when its answer is lost by a %s (E07)', async (effect) => {
    const { digest } = (await files.readContainerConfig(at, call))!;
    fault({ match: { op: 'ssh.config.raw-lines', nth: 1 }, when: 'after', effect });
    await expect(files.replaceRawLines(at, { digest, lines }, call)).rejects.toMatchObject({
      code: 'outcome-unknown',
    });
    const now = (await files.readContainerConfig(at, call))!;
    expect(now.text).toContain('lxc.idmap: u 0 100000 65536');
    expect(await files.replaceRawLines(at, { digest: now.digest, lines }, call)).toEqual(now);
    expect(written().map(({ effect: did, answered }) => [did, answered])).toEqual([
      [true, false],
      [false, true],
    ]);
  });

  it('is told nothing from the moment on that it shows another host key (E10)', async () => {
    await files.idRanges('pve1', call);
    await simulators.proxmox!.conditions.changeHostKey('pve1');
    await expect(files.idRanges('pve1', call)).rejects.toMatchObject({
      code: 'host-key-changed',
      retry: 'after-fix',
    });
    await files.idRanges('pve2', call);
    const [finding] = await files.check(['pve1'], NO_NEEDS, call);
    expect(finding).toMatchObject({ ok: false, remedy: expect.stringContaining('hostKeys') });
  });

  it('cannot be written to without quorum, and can be read', async () => {
    const { digest } = (await files.readContainerConfig(at, call))!;
    simulators.proxmox!.conditions.loseQuorum();
    await expect(files.replaceRawLines(at, { digest, lines }, call)).rejects.toMatchObject({
      code: 'cluster-no-quorum',
    });
    expect((await files.readContainerConfig(at, call))?.digest).toBe(digest);
  });

  it('is not there while it is off, and serves again when it is back', async () => {
    await files.idRanges('pve1', call);
    await simulators.proxmox!.conditions.powerOff('pve1');
    await expect(files.idRanges('pve1', call)).rejects.toMatchObject({
      facts: { reason: 'node-unreachable' },
    });
    await simulators.proxmox!.conditions.powerOn('pve1');
    await files.idRanges('pve1', call);
  });

  it('tells a container from one of another node', async () => {
    const elsewhere = { node: 'pve2', vmid: VMID };
    expect(await files.readContainerConfig(elsewhere, call)).toBeUndefined();
    await expect(files.replaceRawLines(elsewhere, { digest: '', lines }, call)).rejects.toMatchObject({
      code: 'not-found',
    });
  });
});

const sshds: RealSshd[] = [];
const probe = await startRealSshd(inject('stateFolder'));
if (!('missing' in probe)) await probe.stop();
const whyNot = 'missing' in probe ? probe.missing : undefined;
if (whyNot !== undefined) process.stderr.write(`not tested against OpenSSH: ${whyNot}\n`);

interface Reach {
  readonly program: string;
  readonly hostKey?: string;
  readonly privateKey?: string;
}

const nodeFiles = (
  sshd: RealSshd,
  { program, hostKey = sshd.hostKey, privateKey = sshd.privateKey }: Reach,
) =>
  new SshNodeFiles({
    cluster: 'main',
    settings: {
      user: sshd.user,
      port: sshd.port,
      privateKey: { file: 'given' },
      hostKeys: { [NODE]: hostKey },
      addresses: { [NODE]: '127.0.0.1' },
    },
    privateKey: new Secret(privateKey.trimEnd()),
    program,
    clock: systemClock,
    remoteTimeScale: 1,
  });

async function realSetup(): Promise<NodeFilesSetup> {
  const { root, program, remove } = await fakeNode();
  const sshd = await startRealSshd(inject('stateFolder'));
  if ('missing' in sshd) throw new Error(sshd.missing);
  const files = nodeFiles(sshd, { program });
  const config = join(root, `etc/pve/nodes/${NODE}/lxc/${VMID}.conf`);
  const configText = (): Promise<string> => readFile(config, 'utf8');
  return {
    files,
    node: NODE,
    storage: 'local',
    vmid: VMID,
    configText,
    async editConfig(key, value) {
      const [main = '', ...rest] = (await configText()).split(/^(?=\n\[)/m);
      const lines = main.split('\n').filter((line) => line !== '' && !line.startsWith(`${key}: `));
      if (value !== undefined) lines.unshift(`${key}: ${value}`);
      await writeFile(config, [lines.join('\n') + '\n', ...rest].join(''));
    },
    async holdingLock(work) {
      const lock = join(root, `run/lock/lxc/pve-config-${VMID}.lock`);
      const holder = spawn('sh', ['-c', `exec 9>>"$0"; flock 9; echo held; cat`, lock], {
        stdio: ['pipe', 'pipe', 'inherit'],
      });
      await once(holder.stdout, 'data');
      try {
        return await work();
      } finally {
        holder.stdin.end();
        await once(holder, 'exit');
      }
    },
    async stop() {
      files.close();
      await sshd.stop();
      await remove();
    },
  };
}

describe.skipIf(whyNot !== undefined)('a real OpenSSH', () => {
  let sshd: RealSshd;
  let node: Awaited<ReturnType<typeof fakeNode>>;
  const call = plainCall();

  beforeAll(async () => {
    node = await fakeNode();
    sshd = (await startRealSshd(inject('stateFolder'))) as RealSshd;
    sshds.push(sshd);
  });
  afterAll(async () => {
    await Promise.all(sshds.map((one) => one.stop()));
    await node?.remove();
  });

  nodeFilesContract('on OpenSSH', realSetup);

  it('lets a restricted key do this and nothing else', async () => {
    const helper = join(node.root, 'hatchery-node');
    await writeFile(helper, node.program, { mode: 0o755 });
    const keyOptions = `restrict,command="${helper}"`;
    const restricted = (await startRealSshd(inject('stateFolder'), { keyOptions })) as RealSshd;
    sshds.push(restricted);
    // It runs what is installed, whatever it is asked to run.
    const files = nodeFiles(restricted, { program: 'die "not this one"' });
    const { digest } = (await files.readContainerConfig({ node: NODE, vmid: VMID }, call))!;
    const lines = [['lxc.idmap', 'u 0 100000 65536']] as const;
    const written = await files.replaceRawLines({ node: NODE, vmid: VMID }, { digest, lines }, call);
    expect(written.text).toContain('lxc.idmap: u 0 100000 65536');
    files.close();
    const client = await clientOf(restricted);
    expect(await said(client, 'touch /tmp/free; id')).toMatch(/"reason":"malformed"/);
    await expect(
      new Promise((resolve, reject) =>
        client.forwardOut('127.0.0.1', 0, '127.0.0.1', restricted.port, (error) =>
          error ? reject(error) : resolve(0),
        ),
      ),
    ).rejects.toThrow();
    client.end();
  });

  it('is told nothing when its host key is not the pinned one', async () => {
    const other = newSshKey().public;
    for (const hostKey of [other, ssh2.utils.generateKeyPairSync('ecdsa', { bits: 256 }).public]) {
      const files = nodeFiles(sshd, { program: node.program, hostKey });
      await expect(files.idRanges(NODE, call)).rejects.toMatchObject({
        code: 'host-key-changed',
        retry: 'after-fix',
      });
      files.close();
    }
    expect(await sshd.log()).not.toMatch(/Accepted|userauth/);
  });

  it('refuses a key that it does not know', async () => {
    const privateKey = newSshKey().private;
    const files = nodeFiles(sshd, { program: node.program, privateKey });
    await expect(files.idRanges(NODE, call)).rejects.toMatchObject({
      code: 'permission-missing',
      retry: 'after-fix',
    });
    files.close();
    const unreadable = nodeFiles(sshd, { program: node.program, privateKey: 'no key' });
    await expect(unreadable.idRanges(NODE, call)).rejects.toMatchObject({ code: 'permission-missing' });
  });

  it('may be missing: nothing was done, and it is tried again', async () => {
    const files = nodeFiles({ ...sshd, port: 1 }, { program: node.program });
    await expect(files.idRanges(NODE, call)).rejects.toMatchObject({
      code: 'cluster-unreachable',
      retry: 'later',
      facts: { reason: 'node-unreachable' },
    });
  });

  it('serves more callers than it lets sessions be open, over one connection', async () => {
    const files = nodeFiles(sshd, { program: node.program });
    const answers = await Promise.all(Array.from({ length: 12 }, () => files.idRanges(NODE, plainCall())));
    expect(answers).toHaveLength(12);
    files.close();
    expect((await sshd.log()).match(/Accepted publickey/g)).toHaveLength(1);
  });

  it('says what is wrong with a node before anybody needs it', async () => {
    const files = nodeFiles(sshd, { program: node.program });
    const [here, elsewhere] = await files.check([NODE, 'unwritten'], NO_NEEDS, call);
    expect(here).toMatchObject({ subject: `SSH to ${NODE}`, ok: process.getuid?.() === 0 });
    expect(elsewhere).toMatchObject({ ok: false, remedy: expect.stringContaining('hostKeys') });
    files.close();
  });

  it.each(['sleep 60', 'echo no JSON', 'exit 3'])(
    'that runs %j instead is not taken for done',
    async (script) => {
      const open = await SshConnection.open({
        node: NODE,
        address: { host: '127.0.0.1', port: sshd.port },
        user: sshd.user,
        privateKey: new Secret(sshd.privateKey),
        hostKey: sshd.hostKey,
        readyMs: 5_000,
      });
      const output = open.run(commandLine(['sh', '-c', script]), {
        input: () => Buffer.from('x'),
        signal: call.signal,
        limitMs: script.startsWith('sleep') ? 200 : 5_000,
      });
      if (script.startsWith('sleep')) await expect(output).rejects.toMatchObject({ wasSent: true });
      else expect((await output).exitCode).toBe(script.startsWith('exit') ? 3 : 0);
      open.close();
    },
  );
});

async function clientOf({ port, user, privateKey }: RealSshd): Promise<ssh2.Client> {
  const client = new ssh2.Client();
  client.connect({ host: '127.0.0.1', port, username: user, privateKey });
  await once(client, 'ready');
  return client;
}

/** What a command prints that is given no input. */
async function said(client: ssh2.Client, command: string): Promise<string> {
  const channel = await new Promise<ssh2.ClientChannel>((resolve, reject) =>
    client.exec(command, (error, opened) => (error ? reject(error) : resolve(opened))),
  );
  let text = '';
  channel.on('data', (chunk: Buffer) => (text += chunk.toString()));
  channel.end();
  await once(channel, 'close');
  return text;
}
