import { randomUUID } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { AddressInfo } from 'node:net';
import tls from 'node:tls';
import { inspect } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { clusterSchema } from '../../src/core/definitions.js';
import { describeWithMark, type Mark } from '../../src/core/mark.js';
import { ProxmoxDriver } from '../../src/drivers/proxmox/proxmox.driver.js';
import { systemClock } from '../../src/drivers/system-clock.js';
import { plainCall } from '../../src/ports/call.js';
import type { CloneRequest, GuestSettings } from '../../src/ports/hypervisor.js';
import { Secret } from '../../src/ports/secrets.js';
import { createContext } from '../../src/simulators/create-context.js';
import {
  startProxmoxSimulator,
  type ProxmoxSimulator,
} from '../../src/simulators/proxmox/proxmox-simulator.js';
import { certificateAuthority } from '../../src/simulators/tls.js';

const SCALE = 0.005;
const POOL = 'hatchery-demo';
const DEPLOYMENT = '0190aaaa-0000-7000-8000-000000000001';
const failureOf = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => undefined,
    (error: unknown) => error,
  );

const settings: GuestSettings = {
  cores: 4,
  memoryMiB: 4096,
  bridge: 'vmbr0',
  vlan: undefined,
  mac: '02:00:00:00:00:01',
  ciUser: 'ada',
  ciPassword: undefined,
  sshKeys: [],
};

describe('the Proxmox driver on a wire that breaks', () => {
  let context: ReturnType<typeof createContext>;
  let simulator: ProxmoxSimulator;
  let drivers: ProxmoxDriver[];
  let calls: string[];
  let template: CloneRequest['template'];

  beforeEach(async () => {
    context = createContext({ timeScale: SCALE });
    simulator = await startProxmoxSimulator(context);
    drivers = [];
    calls = [];
    template = (await aDriver().templates('qemu', ['debian-12-xfce'], plainCall()))[0]!;
    calls.length = 0;
  });
  afterEach(async () => {
    for (const driver of drivers) driver.close();
    await simulator.stop();
    context.close();
  });

  function aDriver(over: Record<string, unknown> = {}, token = simulator.token): ProxmoxDriver {
    const driver = new ProxmoxDriver({
      definition: clusterSchema.parse({
        name: 'main',
        kind: 'proxmox',
        endpoints: simulator.endpoints,
        trust: { caFile: context.caFile },
        token: { id: token.id, secret: { env: 'NOT_READ' } },
        pool: POOL,
        vmids: { from: 10_000, to: 19_999 },
        ...over,
      }),
      secret: new Secret(token.secret),
      deployment: DEPLOYMENT,
      clock: systemClock,
      remoteTimeScale: SCALE,
      timeoutsMs: { connect: 500, read: 700, write: 700 },
      metrics: { observe: (op, _, outcome) => void calls.push(`${op} ${outcome}`) },
      log: { warn: () => undefined },
    });
    drivers.push(driver);
    return driver;
  }
  const aMark = (vmid: number): Mark => ({
    deployment: DEPLOYMENT,
    machine: randomUUID(),
    run: randomUUID(),
    step: 'clone-template',
    vmid,
    attempt: 1,
  });
  const aClone = (mark: Mark, over: Partial<CloneRequest> = {}): CloneRequest => ({
    kind: 'qemu',
    template,
    vmid: mark.vmid,
    name: `vm-${mark.vmid}`,
    node: 'pve1',
    mode: 'linked',
    storage: undefined,
    description: describeWithMark('text', mark),
    ...over,
  });
  async function made(driver: ProxmoxDriver, vmid: number): Promise<Mark> {
    const mark = aMark(vmid);
    await driver.followTask(await driver.startClone(aClone(mark), plainCall()), plainCall());
    return mark;
  }
  const count = (op: string): number => calls.filter((call) => call.startsWith(`${op} `)).length;

  describe('when the answer of a clone is lost', () => {
    it.each(['reset', 'drop', 'silence'] as const)(
      'by %s after it was done, finds the clone and starts no second one',
      async (effect) => {
        const driver = aDriver();
        const mark = aMark(10_100);
        const since = Date.now();
        context.faults.add({ id: 'lost', match: { op: 'qemu.clone', nth: 1 }, when: 'after', effect });
        await expect(driver.startClone(aClone(mark), plainCall())).rejects.toMatchObject({
          code: 'outcome-unknown',
          retry: 'later',
        });
        const trace = await driver.traceClone(aClone(mark), mark, since, plainCall());
        expect(['running', 'done']).toContain(trace.found);
        if (trace.found !== 'running' && trace.found !== 'done') return;
        expect(await driver.followTask(trace.value, plainCall())).toMatchObject({ verdict: 'ok' });
        expect(await driver.readOwn(mark, plainCall(), { withPool: true })).toMatchObject({
          answer: 'ours',
          guest: { pool: POOL },
        });
        expect(count('clone')).toBe(1);
      },
    );

    it('before it was done, finds nothing, and the same request works', async () => {
      const driver = aDriver();
      const mark = aMark(10_101);
      context.faults.add({
        id: 'lost',
        match: { op: 'qemu.clone', nth: 1 },
        when: 'before',
        effect: 'reset',
      });
      await expect(driver.startClone(aClone(mark), plainCall())).rejects.toMatchObject({
        code: 'outcome-unknown',
      });
      expect(await driver.traceClone(aClone(mark), mark, Date.now(), plainCall())).toEqual({
        found: 'nothing',
      });
      expect(
        await driver.followTask(await driver.startClone(aClone(mark), plainCall()), plainCall()),
      ).toMatchObject({ verdict: 'ok' });
    });

    it('proves the clone by what it made when no task tells of it any more', async () => {
      const driver = aDriver();
      const mark = await made(driver, 10_102);
      const longAfter = Date.now() + 3_600_000;
      const trace = await driver.traceClone(aClone(mark), mark, longAfter, plainCall());
      expect(trace.found).toBe('done');
      if (trace.found === 'done')
        expect(await driver.followTask(trace.value, plainCall())).toMatchObject({ verdict: 'ok' });
      context.world.pools.get(POOL)?.members.delete(10_102);
      await driver.inventory({ maxAgeMs: 0 });
      expect((await driver.traceClone(aClone(mark), mark, longAfter, plainCall())).found).toBe('unknown');
    });

    it('gives the failed task of a guest that is not whole, so that nobody adopts it', async () => {
      const driver = aDriver();
      const mark = aMark(10_103);
      const text = "clone failed: can't add VM 10103 to pool";
      context.faults.add({
        id: 'f',
        match: { op: 'qemu.clone' },
        when: 'after',
        effect: 'task-error',
        value: text,
      });
      const task = await driver.startClone(aClone(mark), plainCall());
      expect(await driver.followTask(task, plainCall())).toMatchObject({ verdict: 'error', text });
      expect(await driver.traceClone(aClone(mark), mark, Date.now(), plainCall())).toEqual({
        found: 'done',
        value: task,
      });
    });
  });

  describe('statuses', () => {
    const answerTo = (op: string, status: number, message = '') =>
      context.faults.add({
        id: 's',
        match: { op, nth: 1 },
        when: 'before',
        effect: 'status',
        value: { status, message },
      });

    it.each([
      [595, 'No route to host', 'cluster-unreachable', 'later'],
      [596, 'Connection timed out', 'outcome-unknown', 'later'],
      [599, 'Too many redirections', 'outcome-unknown', 'later'],
      [500, 'cluster not ready - no quorum?', 'cluster-no-quorum', 'later'],
      [500, "can't lock file '/var/lock/qemu-server/lock-9000.conf' - got timeout", 'lock-timeout', 'later'],
      [403, 'Permission check failed (/vms/9000, VM.Clone)', 'permission-missing', 'after-fix'],
      [501, 'for data too large', 'remote-refused', 'never'],
    ])('%i "%s" of a clone is %s', async (status, message, code, retry) => {
      answerTo('qemu.clone', status, message);
      await expect(aDriver().startClone(aClone(aMark(10_110)), plainCall())).rejects.toMatchObject({
        code,
        retry,
      });
      expect(simulator.guest(10_110)).toBeUndefined();
    });

    const READS = ['cluster.resources', 'access.permissions', 'cluster.status'];
    it.each([595, 403, 500].flatMap((status) => READS.map((op) => [status, op] as const)))(
      '%i of a lookup (%s) is neither free nor used',
      async (status, op) => {
        const value = { status, message: 'x' };
        context.faults.add({ id: 'all', match: { op }, effect: 'status', value });
        expect((await aDriver().lookupVmid(10_111, plainCall())).answer).toBe('unknown');
      },
    );

    it('595 of a config read is neither gone nor foreign', async () => {
      const driver = aDriver();
      const mark = await made(driver, 10_112);
      answerTo('qemu.config.get', 595, 'No route to host');
      expect((await driver.readOwn(mark, plainCall())).answer).toBe('unknown');
      answerTo('qemu.config.get', 595, 'No route to host');
      await expect(
        driver.destroyOwn(mark, { incarnations: [], deletingRun: randomUUID() }, plainCall()),
      ).rejects.toMatchObject({ code: 'cluster-unreachable', retry: 'later' });
      expect(simulator.guest(10_112)).toBeDefined();
    });

    it('a wrong secret is named by its token, never by the secret', async () => {
      const driver = aDriver({}, { id: simulator.token.id, secret: randomUUID() });
      await expect(driver.inventory()).rejects.toMatchObject({
        code: 'permission-missing',
        retry: 'after-fix',
        message: expect.stringContaining(simulator.token.id),
      });
    });
  });

  describe('an account instead of a token', () => {
    const anAccount = (over: Record<string, unknown> = {}, password = simulator.userPassword) => {
      const username = simulator.token.id.split('!')[0]!;
      const account = { username, password: { env: 'NOT_READ' } };
      return aDriver({ token: undefined, account, ...over }, { id: username, secret: password });
    };
    const everyTicketDies = () => (context.world.authKey = randomUUID());

    it('signs in once for all calls, and works with its ticket', async () => {
      const driver = anAccount();
      const mark = aMark(10_160);
      await Promise.all([driver.inventory(), driver.lookupVmid(10_160, plainCall())]);
      const task = await driver.startClone(aClone(mark), plainCall());
      expect(await driver.followTask(task, plainCall())).toMatchObject({ verdict: 'ok' });
      expect(count('sign-in')).toBe(1);
      expect(task.id).toMatch(/:hatchery@pve:$/);
    });

    it('signs in again after a 401 and repeats the call once, a write too', async () => {
      const driver = anAccount();
      await driver.inventory();
      everyTicketDies();
      const mark = aMark(10_161);
      const task = await driver.startClone(aClone(mark), plainCall());
      expect(await driver.followTask(task, plainCall())).toMatchObject({ verdict: 'ok' });
      expect(count('sign-in')).toBe(2);
      expect(calls.filter((call) => call === 'clone 401')).toHaveLength(0);
      everyTicketDies();
      await driver.configure(mark, settings, plainCall());
      expect(count('sign-in')).toBe(3);
    });

    it('says that the account is not accepted when its password is wrong, and tries it once only', async () => {
      const password = `wrong-${randomUUID()}`;
      const driver = anAccount({}, password);
      const failed = await failureOf(driver.inventory());
      expect(failed).toMatchObject({
        code: 'permission-missing',
        retry: 'after-fix',
        message: expect.stringContaining('does not accept the account hatchery@pve (authentication failure)'),
      });
      expect(inspect(failed, { depth: 20 })).not.toContain(password);
      await expect(driver.inventory()).rejects.toMatchObject({ code: 'permission-missing' });
      expect(count('sign-in')).toBe(1);
    });

    it('has no standing as root@pam', async () => {
      const account = { username: 'root@pam', password: { env: 'NOT_READ' } };
      const root = { id: 'root@pam', secret: simulator.rootPassword };
      expect(await aDriver({ token: undefined, account }, root).standing(plainCall())).toMatchObject({
        ok: false,
        sentence: expect.stringContaining('the account root@pam may write outside the pool'),
        hint: expect.stringContaining('mayWriteOutsidePool: true under account'),
      });
    });
  });

  describe('connections', () => {
    it('repeats a read that was cut once, and only once', async () => {
      const driver = aDriver();
      context.faults.add({ id: 'cut', match: { op: 'cluster.resources', nth: 1 }, effect: 'reset' });
      expect((await driver.inventory({ maxAgeMs: 0 })).guests.length).toBeGreaterThan(0);
      context.faults.add({ id: 'cut2', match: { op: 'cluster.resources', nth: [1, 2] }, effect: 'reset' });
      await expect(driver.inventory({ maxAgeMs: 0 })).rejects.toMatchObject({ code: 'cluster-unreachable' });
    });

    it('goes to the next endpoint when one is down, for reads and for writes', async () => {
      const driver = aDriver({ endpoints: ['https://127.0.0.1:1', ...simulator.endpoints] });
      const mark = await made(driver, 10_120);
      expect(await driver.readOwn(mark, plainCall())).toMatchObject({ answer: 'ours' });
      expect(calls.filter((call) => call.endsWith('not-sent')).length).toBeLessThanOrEqual(1);
    });

    it('says that nothing was sent when no endpoint answers', async () => {
      const driver = aDriver({ endpoints: ['https://127.0.0.1:1', 'https://127.0.0.1:2'] });
      await expect(driver.inventory()).rejects.toMatchObject({ code: 'cluster-unreachable', retry: 'later' });
    });

    it('calls beforeSend once for each write, after the connection stands', async () => {
      const driver = aDriver({ endpoints: ['https://127.0.0.1:1', ...simulator.endpoints] });
      let sends = 0;
      const call = { ...plainCall(), beforeSend: () => void (sends += 1) };
      await driver.startClone(aClone(aMark(10_121)), call);
      expect(sends).toBe(1);
    });

    it('holds at most three writes of one node at once', async () => {
      const driver = aDriver();
      simulator.hold('qemu.clone');
      const starts = Array.from({ length: 8 }, (_, n) =>
        driver.startClone(aClone(aMark(10_130 + n)), plainCall()),
      );
      let sent = 0;
      const counted = starts.length;
      await simulator.reached('qemu.clone', 'before', 3);
      const call = { ...plainCall(), beforeSend: () => void (sent += 1) };
      const late = driver.startClone(aClone(aMark(10_140)), call);
      await driver.inventory({ maxAgeMs: 0 });
      expect(sent).toBe(0);
      simulator.release('qemu.clone');
      await Promise.all([...starts, late]);
      expect(sent).toBe(1);
      expect(count('clone')).toBe(counted + 1);
    });
  });

  describe('trust', () => {
    it('takes the pin of the endpoint, and of any node of the cluster', async () => {
      for (const trust of [{ fingerprints: simulator.fingerprints }, { fingerprint: simulator.fingerprint }])
        expect(
          (await aDriver({ trust, endpoints: [simulator.endpoints[0]!] }).inventory()).nodes.length,
        ).toBe(3);
    });

    it.each(['a pin', 'a certificate authority'])(
      'tells a server that is not the one of %s nothing at all',
      async (kind) => {
        const stranger = certificateAuthority(new Map());
        const { keyPem, certPem } = stranger.issue('pve1');
        let bytes = 0;
        let connections = 0;
        const server = tls.createServer({ key: keyPem, cert: certPem }, (socket) => {
          socket.on('data', (chunk) => (bytes += chunk.length));
          socket.on('error', () => undefined);
        });
        server.on('connection', () => (connections += 1));
        await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
        const endpoint = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
        const trust =
          kind === 'a pin' ? { fingerprints: simulator.fingerprints } : { caFile: context.caFile };
        const driver = aDriver({ trust, endpoints: [endpoint] });
        let sends = 0;
        const call = { ...plainCall(), beforeSend: () => void (sends += 1) };
        await expect(driver.inventory()).rejects.toMatchObject({ code: 'cluster-unreachable' });
        await expect(driver.configure(aMark(10_150), settings, call)).rejects.toMatchObject({
          code: 'cluster-unreachable',
        });
        await new Promise<void>((resolve) => server.close(() => resolve()));
        expect({ bytes, sends }).toEqual({ bytes: 0, sends: 0 });
        expect(connections).toBeGreaterThan(0);
      },
    );

    it('refuses a CA file that cannot be read at once', () => {
      expect(() => aDriver({ trust: { caFile: '/nonexistent/ca.pem' } })).toThrow(
        /Unable to read the CA file/,
      );
    });

    it('trusts another authority when its file says so', async () => {
      const file = join(context.dir, 'other.pem');
      writeFileSync(file, simulator.caPem);
      expect((await aDriver({ trust: { caFile: file } }).inventory()).nodes).toHaveLength(3);
    });
  });

  describe('sharing', () => {
    it('makes one inventory read, one quorum read and one template read for many at once', async () => {
      const driver = aDriver();
      const marks = Array.from({ length: 12 }, (_, n) => aMark(10_200 + n));
      const lookups = await Promise.all(marks.map(({ vmid }) => driver.lookupVmid(vmid, plainCall())));
      expect(lookups.every(({ answer }) => answer === 'free')).toBe(true);
      expect([count('inventory'), count('cluster-status')]).toEqual([1, 1]);
      await Promise.all(marks.map((mark) => driver.startClone(aClone(mark), plainCall())));
      expect([count('inventory'), count('template-read'), count('clone')]).toEqual([1, 1, 12]);
    });

    it('follows many tasks with one list per tick', async () => {
      const driver = aDriver();
      simulator.hold('qemu.clone', 'task-start');
      const tasks = await Promise.all(
        Array.from({ length: 9 }, (_, n) => driver.startClone(aClone(aMark(10_220 + n)), plainCall())),
      );
      calls.length = 0;
      const verdicts = Promise.all(tasks.map((task) => driver.followTask(task, plainCall())));
      await expect.poll(() => count('task-list')).toBe(2);
      expect(calls.every((call) => call === 'task-list ok')).toBe(true);
      simulator.release('qemu.clone', 'task-start');
      expect((await verdicts).every(({ verdict }) => verdict !== 'unknown')).toBe(true);
    });
  });

  describe('verdicts', () => {
    it.each([
      ['unexpected status', { verdict: 'unknown' }],
      [
        "clone failed: cfs-lock 'storage-ceph' error: got lock request timeout",
        { verdict: 'error', code: 'lock-timeout' },
      ],
    ])('"%s"', async (value, verdict) => {
      const driver = aDriver();
      context.faults.add({
        id: 't',
        match: { op: 'qemu.clone' },
        when: 'during',
        effect: 'task-error',
        value,
      });
      const task = await driver.startClone(aClone(aMark(10_230)), plainCall());
      expect(await driver.followTask(task, plainCall())).toMatchObject(verdict);
    });

    it('of a task that nobody knows any more', async () => {
      const id = 'UPID:pve2:0000FFFF:000F4240:6553F100:qmstart:105:hatchery@pve!demo:';
      expect(await aDriver().followTask({ id }, plainCall())).toEqual({
        verdict: 'unknown',
        text: 'no such task',
      });
    });
  });

  describe('other hands on our guest', () => {
    it('a config that changed between read and write is not overwritten', async () => {
      const driver = aDriver();
      const mark = await made(driver, 10_240);
      simulator.hold('qemu.config.put');
      const write = failureOf(driver.configure(mark, settings, plainCall()));
      await simulator.reached('qemu.config.put');
      simulator.foreign.edit(10_240, { cores: '7' });
      simulator.release('qemu.config.put');
      expect(await write).toMatchObject({ retry: 'later', facts: { reason: 'digest-mismatch' } });
      expect(simulator.guest(10_240)!.config['cores']).toBe('7');
      await driver.configure(mark, settings, plainCall());
      expect(simulator.guest(10_240)!.config['cores']).toBe('4');
    });

    it('a config that was read a moment ago is written to without another read, once', async () => {
      const driver = aDriver();
      const mark = await made(driver, 10_242);
      await driver.readOwn(mark, plainCall());
      calls.length = 0;
      await driver.configure(mark, settings, plainCall());
      expect(calls).toEqual(['config-write ok']);
      expect(simulator.guest(10_242)!.config['cores']).toBe('4');
      await driver.configure(mark, settings, plainCall());
      expect(count('config-read')).toBe(1);
    });

    it('a config that changed since it was read a moment ago is read again before anything is written', async () => {
      const driver = aDriver();
      const mark = await made(driver, 10_243);
      await driver.readOwn(mark, plainCall());
      simulator.foreign.edit(10_243, { cores: '7', onboot: '1' });
      calls.length = 0;
      await driver.configure(mark, settings, plainCall());
      expect(calls).toEqual(['config-write 500', 'config-read ok', 'config-write ok']);
      expect(simulator.guest(10_243)!.config).toMatchObject({ cores: '4', onboot: '1' });
      await driver.readOwn(mark, plainCall());
      simulator.foreign.edit(10_243, { cores: '6', description: 'mine now' });
      await expect(driver.configure(mark, settings, plainCall())).rejects.toMatchObject({
        code: 'foreign-guest',
      });
      expect(simulator.guest(10_243)!.config['cores']).toBe('6');
    });

    it('a guest whose mark was taken away before the deleting mark was written stays', async () => {
      const driver = aDriver();
      const mark = await made(driver, 10_241);
      simulator.hold('qemu.config.put');
      const options = { incarnations: [], deletingRun: randomUUID() };
      const refused = failureOf(driver.destroyOwn(mark, options, plainCall()));
      await simulator.reached('qemu.config.put');
      simulator.foreign.edit(10_241, { description: 'mine now' });
      simulator.release('qemu.config.put');
      expect(await refused).toMatchObject({ retry: 'later' });
      await expect(driver.destroyOwn(mark, options, plainCall())).rejects.toMatchObject({
        code: 'foreign-guest',
      });
      expect(simulator.guest(10_241)).toBeDefined();
    });

    it('a protected guest stays, with the command that an admin would need', async () => {
      const driver = aDriver();
      const mark = await made(driver, 10_242);
      simulator.foreign.edit(10_242, { protection: '1' });
      await expect(
        driver.destroyOwn(mark, { incarnations: [], deletingRun: randomUUID() }, plainCall()),
      ).rejects.toMatchObject({
        retry: 'after-fix',
        hint: expect.stringContaining('qm set 10242 --protection 0'),
      });
      expect(simulator.guest(10_242)!.config['description']).not.toContain('deleting=');
    });

    it('a guest that left our pool cannot be written', async () => {
      const driver = aDriver();
      const mark = await made(driver, 10_243);
      context.world.pools.get(POOL)?.members.delete(10_243);
      await expect(driver.configure(mark, settings, plainCall())).rejects.toMatchObject({
        code: 'permission-missing',
        retry: 'after-fix',
      });
    });

    it('a locked guest waits', async () => {
      const driver = aDriver();
      const mark = await made(driver, 10_244);
      simulator.foreign.edit(10_244, { lock: 'backup' });
      await expect(driver.configure(mark, settings, plainCall())).rejects.toMatchObject({
        code: 'lock-timeout',
        retry: 'later',
      });
    });
  });

  it('a delete that was left while its task ran is followed, not sent again', async () => {
    const driver = aDriver();
    const mark = await made(driver, 10_250);
    const options = { incarnations: [], deletingRun: randomUUID() };
    simulator.hold('qemu.destroy', 'task');
    const leaver = new AbortController();
    const left = failureOf(driver.destroyOwn(mark, options, plainCall(leaver.signal)));
    await simulator.reached('qemu.destroy', 'task');
    await expect.poll(() => count('destroy')).toBe(1);
    calls.length = 0;
    leaver.abort(new Error('worker is gone'));
    expect(await left).toMatchObject({ message: 'worker is gone' });
    const again = driver.destroyOwn(mark, options, plainCall());
    await expect.poll(() => count('task-list')).toBeGreaterThan(1);
    simulator.release('qemu.destroy', 'task');
    expect(await again).toEqual({ existed: true });
    expect(count('destroy')).toBe(0);
    expect([...context.world.volumes.values()].filter(({ vmid }) => vmid === 10_250)).toEqual([]);
  });

  it('a token that may write outside its pool has no standing here, unless the site accepts that in so many words', async () => {
    expect(await aDriver().standing(plainCall())).toEqual({ ok: true });
    const { id } = simulator.rootToken;
    expect(await aDriver({}, simulator.rootToken).standing(plainCall())).toMatchObject({
      ok: false,
      code: 'permission-missing',
      sentence: expect.stringMatching(/root@pam!\S+ may write outside the pool hatchery-demo: .* on \//),
      hint: expect.stringContaining('mayWriteOutsidePool: true under token in clusters/main.yaml'),
    });
    const token = { id, secret: { env: 'NOT_READ' }, mayWriteOutsidePool: true };
    expect(await aDriver({ token }, simulator.rootToken).standing(plainCall())).toEqual({ ok: true });
  });

  it('guests of our own pool are no reason to refuse a token', async () => {
    const driver = aDriver();
    await made(driver, 10_260);
    expect(await driver.standing(plainCall())).toEqual({ ok: true });
  });
});
