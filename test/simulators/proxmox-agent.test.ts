import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { GUEST, QemuBench } from './qemu-bench.js';

const AGENT = `${GUEST}/agent`;
const NAMES = [
  ...[
    'exec',
    'exec-status',
    'file-read',
    'file-write',
    'fsfreeze-freeze',
    'fsfreeze-status',
    'fsfreeze-thaw',
  ],
  ...['fstrim', 'get-fsinfo', 'get-host-name', 'get-memory-block-info', 'get-memory-blocks', 'get-osinfo'],
  ...['get-time', 'get-timezone', 'get-users', 'get-vcpus', 'info', 'network-get-interfaces', 'ping'],
  ...['set-user-password', 'shutdown', 'suspend-disk', 'suspend-hybrid', 'suspend-ram'],
];

describe("a guest's agent", () => {
  let bench: QemuBench;
  const begin = async (version: '9.1' | '8.4' = '9.1'): Promise<void> => {
    bench = await QemuBench.start({ version });
    bench.simulator.foreign.edit(100, { agent: '1' });
  };
  beforeEach(() => begin());
  afterEach(() => bench.stop());

  const status = (): Promise<Record<string, unknown>> => bench.read(`GET ${GUEST}/status/current`);
  const write = (file: string, content: string, more = {}): Promise<unknown> =>
    bench.read(`POST ${AGENT}/file-write`, { file, content, ...more });
  const file = (query: string): Promise<unknown> => bench.read(`GET ${AGENT}/file-read?file=${query}`);
  const nobody = (query: string): Promise<string> => bench.refusal(`GET ${AGENT}/file-read?file=${query}`);

  it('names all that it can be asked', async () => {
    expect(await bench.read(`GET ${AGENT}`)).toEqual(NAMES.map((name) => ({ name })));
  });

  it('answers calls of its own and the generic one', async () => {
    expect(await bench.read(`POST ${AGENT}/ping`)).toEqual({ result: {} });
    expect(await bench.read(`GET ${AGENT}/get-host-name`)).toEqual({ result: { 'host-name': 'gitlab' } });
    expect(await bench.read(`POST ${AGENT}`, { command: 'get-osinfo' })).toMatchObject({
      result: { id: 'debian' },
    });
    expect(await bench.read(`GET ${AGENT}/get-vcpus`)).toMatchObject({ result: [{ 'logical-id': 0 }, {}] });
    expect(await bench.refusal(`POST ${AGENT}`, { command: 'file-read' })).toContain('enumeration');
  });

  it('tells its disk and its memory as the guest has them', async () => {
    const disk = { mountpoint: '/', 'total-bytes': 32 * 2 ** 30 };
    expect(await bench.read(`GET ${AGENT}/get-fsinfo`)).toMatchObject({ result: [disk] });
    expect(await bench.read(`POST ${AGENT}/fstrim`)).toMatchObject({
      result: { paths: [{ path: '/', minimum: 0, trimmed: expect.any(Number) }] },
    });
    const { result: block } = await bench.read<{ result: { size: number } }>(
      `GET ${AGENT}/get-memory-block-info`,
    );
    const { result: blocks } = await bench.read<{ result: unknown[] }>(`GET ${AGENT}/get-memory-blocks`);
    const memoryMiB = Number((await bench.config())['memory']);
    expect(blocks).toHaveLength((memoryMiB * 2 ** 20) / block.size);
    expect(await bench.read(`GET ${AGENT}/info`)).toMatchObject({
      result: {
        supported_commands: expect.arrayContaining([
          { name: 'guest-shutdown', enabled: true, 'success-response': false },
        ]),
      },
    });
  });

  describe('reads and writes files', () => {
    it('byte for byte', async () => {
      expect(await nobody('/etc/motd')).toBe(
        "Agent error: failed to open file '/etc/motd' (mode: 'r'): No such file or directory",
      );
      expect(await write('/etc/motd', 'bonjour à tous\n')).toBeNull();
      expect(await file('/etc/motd')).toEqual({ content: 'bonjour à tous\n', 'bytes-read': 15 });
      expect(await file('/etc/motd&decode=0')).toEqual({
        content: Buffer.from('bonjour à tous\n', 'latin1').toString('base64'),
        'bytes-read': 15,
      });
      expect(await file('/etc/motd&offset=3&count=4')).toEqual({
        content: 'jour',
        'bytes-read': 4,
        truncated: 1,
      });
      await write('/etc/motd', Buffer.from('short').toString('base64'), { encode: 0 });
      expect(await file('/etc/motd')).toEqual({ content: 'short', 'bytes-read': 5 });
    });

    it('and takes neither characters that are no bytes nor what is no base64', async () => {
      const call = `POST ${AGENT}/file-write`;
      expect(await bench.refusal(call, { file: '/a', content: '€' })).toBe(
        'Wide character in subroutine entry',
      );
      expect(await bench.refusal(call, { file: '/a', content: 'a b', encode: 0 })).toBe(
        "Agent error: Base64 data 'a b' contains invalid characters",
      );
    });

    it('that go back with a rollback and along with a clone', async () => {
      await write('/etc/motd', 'before');
      expect(await bench.exit(`POST ${GUEST}/snapshot`, { snapname: 'first' })).toBe('OK');
      await write('/etc/motd', 'after');
      expect(await bench.exit(`POST ${GUEST}/clone`, { newid: 105, full: 1 })).toBe('OK');
      expect(bench.simulator.guest(105)?.files.get('/etc/motd')).toBe(
        Buffer.from('after').toString('base64'),
      );
      expect(await bench.exit(`POST ${GUEST}/snapshot/first/rollback`)).toBe('OK');
      expect(bench.simulator.guest(100)?.files.get('/etc/motd')).toBe(
        Buffer.from('before').toString('base64'),
      );
    });
  });

  it('freezes its file systems and then does hardly anything else', async () => {
    const call = (name: string): Promise<unknown> => bench.read(`POST ${AGENT}/${name}`);
    const refused = 'has been disabled: the agent is in frozen state';
    expect(await call('fsfreeze-status')).toEqual({ result: 'thawed' });
    expect(await call('fsfreeze-freeze')).toEqual({ result: 1 });
    expect(await call('fsfreeze-status')).toEqual({ result: 'frozen' });
    expect(await call('ping')).toEqual({ result: {} });
    expect(await call('fstrim')).toEqual({
      result: { error: { class: 'CommandNotFound', desc: `Command guest-fstrim ${refused}` } },
    });
    expect(await nobody('/etc/motd')).toBe(`Agent error: Command guest-file-open ${refused}`);
    expect(await call('fsfreeze-thaw')).toEqual({ result: 1 });
    expect(await call('fsfreeze-thaw')).toEqual({ result: 0 });
    expect(await call('fstrim')).toMatchObject({ result: { paths: [{}] } });
  });

  it('sets a password that nobody gets to see', async () => {
    const form = { username: 'root', password: 'swordfish' };
    expect(await bench.read(`POST ${AGENT}/set-user-password`, form)).toEqual({ result: {} });
    expect(await bench.refusal(`POST ${AGENT}/set-user-password`, { ...form, password: 'abc' })).toContain(
      '"password"',
    );
    const lines = bench.bench.context.journal.read();
    expect(lines.find(({ op }) => op === 'qemu.agent.set-user-password')?.params).toMatchObject({
      username: 'root',
      password: '***',
    });
    expect(JSON.stringify(lines)).not.toContain('swordfish');
  });

  it.each(['shutdown', 'suspend-disk'])('%s lasts until the guest is off', async (name) => {
    expect(await bench.read(`POST ${AGENT}/${name}`)).toEqual({ result: null });
    expect(await status()).toMatchObject({ status: 'stopped' });
    expect(bench.bench.context.journal.read().find(({ op }) => op === `qemu.agent.${name}`)).toMatchObject({
      effect: true,
      vmid: 100,
    });
    expect(await bench.exit(`POST ${GUEST}/status/start`)).toBe('OK');
  });

  it('falls asleep with the guest in the middle of an answer, until somebody wakes it', async () => {
    expect(await bench.refusal(`POST ${AGENT}/suspend-ram`)).toBe(
      "VM 100 qmp command 'guest-suspend-ram' failed - got timeout",
    );
    expect(await bench.refusal(`POST ${AGENT}/ping`)).toBe('QEMU guest agent is not running');
    expect(await bench.exit(`POST ${GUEST}/status/resume`)).toBe('OK');
    expect(await bench.refusal(`POST ${AGENT}/suspend-hybrid`)).toBe(
      "VM 100 qmp command 'guest-suspend-hybrid' failed - got timeout",
    );
  });

  it('runs programs and tells their end once', async () => {
    const run = (...command: string[]): Promise<{ pid: number }> =>
      bench.read(`POST ${AGENT}/exec`, { command });
    const { pid } = await run('echo', 'hello', 'you');
    const [second, third] = [await run('true'), await run('hostname')];
    expect(await bench.read(`GET ${AGENT}/exec-status?pid=${pid}`)).toEqual({
      exited: 1,
      exitcode: 0,
      'out-data': 'hello you\n',
    });
    expect(await bench.refusal(`GET ${AGENT}/exec-status?pid=${pid}`)).toBe(
      "Agent error: Invalid parameter 'pid'",
    );
    const pids = [second.pid, third.pid, (await run('true')).pid];
    expect(new Set(pids).size).toBe(3);
    expect(await bench.refusal(`POST ${AGENT}/exec`, { command: 'rm' })).toMatch(
      /^Agent error: Guest agent command failed, error was 'Failed to execute child process/,
    );
  });

  it('is silent while the guest is paused, and is not there when it is off or not configured', async () => {
    await bench.exit(`POST ${GUEST}/status/suspend`);
    for (const call of [`POST ${AGENT}/ping`, `GET ${AGENT}/file-read?file=/a`])
      expect(await bench.refusal(call)).toBe('QEMU guest agent is not running');
    bench.simulator.foreign.setRunning(100, false);
    expect(await bench.refusal(`POST ${AGENT}/ping`)).toBe('VM 100 is not running');
    bench.simulator.foreign.edit(100, { agent: null });
    expect(await bench.refusal(`POST ${AGENT}/ping`)).toBe('No QEMU guest agent configured');
  });

  describe('is asked by whoever has', () => {
    const form = { file: '/a', content: 'b' };

    /** Calls as a user of a token that has just these privileges. */
    const holder = async (privs: string): Promise<{ token: string }> => {
      await bench.read('POST /access/roles', { roleid: 'Some', privs });
      await bench.read('POST /access/users', { userid: 'some@pve' });
      await bench.read('POST /access/users/some@pve/token/tk', { privsep: 0 });
      await bench.send('PUT /access/acl', { path: '/vms/100', roles: 'Some', users: 'some@pve' }, 'ticket');
      return { token: 'some@pve!tk' };
    };

    it('the privilege of that one thing, in 9', async () => {
      const some = await holder('VM.GuestAgent.FileWrite,VM.PowerMgmt');
      await bench.read(`POST ${AGENT}/file-write`, form, some);
      const denied = (call: string): Promise<string> => bench.refusal(call, undefined, some);
      expect(await denied(`GET ${AGENT}/file-read?file=/a`)).toBe(
        'Permission check failed (/vms/100, VM.GuestAgent.FileRead|VM.GuestAgent.Unrestricted)',
      );
      expect(await denied(`POST ${AGENT}/fsfreeze-status`)).toBe(
        'Permission check failed (/vms/100, VM.GuestAgent.Audit|VM.GuestAgent.FileSystemMgmt|VM.GuestAgent.Unrestricted)',
      );
      expect(await denied(`POST ${AGENT}/set-user-password`)).toBe(
        'Permission check failed (/vms/100, VM.GuestAgent.Unrestricted)',
      );
      expect(await bench.read(`POST ${AGENT}/shutdown`, undefined, some)).toEqual({ result: null });
    });

    it('VM.Monitor, in 8, where a file is read as a whole', async () => {
      await bench.stop();
      await begin('8.4');
      const some = await holder('VM.Monitor');
      await bench.read(`POST ${AGENT}/file-write`, form, some);
      expect(await bench.read(`GET ${AGENT}/file-read?file=/a`, undefined, some)).toEqual({
        content: 'b',
        'bytes-read': 1,
      });
      expect(await nobody('/a&offset=1')).toContain('offset');
      expect(await bench.refusal(`POST ${AGENT}/ping`, undefined, 'deployment')).toBe(
        'Permission check failed (/vms/100, VM.Monitor)',
      );
    });
  });
});
