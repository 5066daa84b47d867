import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { plainCall } from '../../src/ports/call.js';
import { ProxmoxBench, SETTINGS } from '../support/proxmox-bench.js';
import { ScriptedPve, type ScriptedReply, type ScriptedRequest } from '../support/scripted-pve.js';

describe('connections of the Proxmox driver', () => {
  let bench: ProxmoxBench;

  beforeEach(async () => {
    bench = await ProxmoxBench.start();
  });
  afterEach(() => bench.stop());

  it('serve a long row of reads and writes, each of which arrives once', async () => {
    const driver = bench.driver({ definition: { endpoints: [bench.simulator.endpoints[0]!] } });
    const mark = await bench.made(driver, 10_400);
    const before = bench.requests('qemu.config.put').length;
    bench.calls.length = 0;
    for (let round = 0; round < 50; round += 1) {
      await driver.inventory({ maxAgeMs: 0 });
      await driver.configure(mark, { ...SETTINGS, cores: 1 + (round % 4) }, plainCall());
    }
    expect(bench.calls.length).toBeGreaterThanOrEqual(150);
    expect(bench.calls.filter((call) => !call.endsWith(' ok'))).toEqual([]);
    const writes = bench.requests('qemu.config.put').slice(before);
    expect(writes).toHaveLength(50);
    expect(writes.every(({ status, effect }) => status === 200 && effect)).toBe(true);
  });

  it('that cut an answer leave a write unknown, and a read is made once more', async () => {
    const driver = bench.driver();
    const mark = await bench.made(driver, 10_401);
    const cut = (id: string, op: string, nth: number | number[]) =>
      bench.context.faults.add({ id, match: { op, nth }, when: 'after', effect: 'truncate', value: 7 });
    cut('write', 'qemu.config.put', 1);
    await expect(driver.configure(mark, SETTINGS, plainCall())).rejects.toMatchObject({
      code: 'outcome-unknown',
      retry: 'later',
    });
    expect(bench.requests('qemu.config.put').map(({ effect }) => effect)).toEqual([true]);
    cut('read', 'cluster.resources', 1);
    const reads = bench.requests('cluster.resources').length;
    expect((await driver.inventory({ maxAgeMs: 0 })).nodes).toHaveLength(3);
    expect(bench.requests('cluster.resources')).toHaveLength(reads + 2);
    cut('reads', 'cluster.resources', [1, 2]);
    await expect(driver.inventory({ maxAgeMs: 0 })).rejects.toMatchObject({
      code: 'cluster-unreachable',
      retry: 'later',
    });
  });

  it('that a node cuts to another one (597) leave a write unknown and a read for later', async () => {
    const driver = bench.driver();
    const mark = await bench.made(driver, 10_402);
    const value = { status: 597, message: '' };
    bench.context.faults.add({ id: 'w', match: { op: 'qemu.config.put', nth: 1 }, effect: 'status', value });
    await expect(driver.configure(mark, SETTINGS, plainCall())).rejects.toMatchObject({
      code: 'outcome-unknown',
    });
    bench.context.faults.add({
      id: 'r',
      match: { op: 'cluster.resources', nth: 1 },
      effect: 'status',
      value,
    });
    await expect(driver.inventory({ maxAgeMs: 0 })).rejects.toMatchObject({
      code: 'cluster-unreachable',
      retry: 'later',
    });
  });

  describe('trust by fingerprint', () => {
    const hostOf = (index: number): string => new URL(bench.simulator.endpoints[index]!).host;

    it.each([
      [
        'another node is pinned under its own name',
        () => ({ [hostOf(0)]: bench.simulator.fingerprints['pve2'] }),
      ],
      [
        'its certificate is pinned under the name of another node only',
        () => ({
          [hostOf(0)]: bench.simulator.fingerprints['pve2'],
          pve1: bench.simulator.fingerprints['pve1'],
        }),
      ],
      [
        'its certificate is not pinned at all',
        () => ({ pve2: bench.simulator.fingerprints['pve2'], pve3: bench.simulator.fingerprints['pve3'] }),
      ],
    ])('refuses an endpoint before a byte of HTTP when %s', async (_, fingerprints) => {
      const endpoints = [bench.simulator.endpoints[0]!];
      const driver = bench.driver({ definition: { endpoints, trust: { fingerprints: fingerprints() } } });
      await expect(driver.inventory()).rejects.toMatchObject({
        code: 'cluster-unreachable',
        message: expect.stringContaining('which is not the pinned one'),
      });
      expect(bench.requests('cluster.resources')).toEqual([]);
      expect(bench.calls.every((call) => call.endsWith(' not-sent'))).toBe(true);
    });
  });

  describe('with a server that the simulator is not', () => {
    let server: ScriptedPve | undefined;
    afterEach(() => server?.stop());

    async function aDriver(answer: (request: ScriptedRequest) => ScriptedReply) {
      server = await ScriptedPve.start(answer);
      const trust = { fingerprint: server.fingerprint };
      return bench.driver({ definition: { endpoints: [server.url], trust } });
    }

    it('take the text of a refusal from its reason phrase when there is no other (before 8.4)', async () => {
      const driver = await aDriver(() => ({
        status: 500,
        reason: "can't lock file '/var/lock/qemu-server/lock-9000.conf' - got timeout",
        body: { data: null },
      }));
      const mark = bench.aMark(10_403);
      const request = { ...(await bench.aClone(bench.driver(), mark)), node: 'pve1' };
      await expect(driver.startClone(request, plainCall())).rejects.toMatchObject({
        code: 'lock-timeout',
        retry: 'later',
        message: expect.stringContaining(
          "can't lock file '/var/lock/qemu-server/lock-9000.conf' - got timeout",
        ),
      });
    });

    it('are given up before the 100th request, so that no write can meet the one that the server closes', async () => {
      const requests = new Map<number, number>();
      const driver = await aDriver(({ port }) => {
        requests.set(port, (requests.get(port) ?? 0) + 1);
        return { body: { data: 'taken' } };
      });
      for (let n = 0; n < 200; n += 1) await driver.lookupVmid(10_404, plainCall());
      expect([...requests.values()].reduce((sum, count) => sum + count, 0)).toBe(200);
      expect(Math.max(...requests.values())).toBeLessThan(100);
    });

    it('read a long log of a running task from its end', async () => {
      const upid = 'UPID:pve1:0000FFFF:000F4240:6553F100:qmclone:9000:hatchery@pve!demo:';
      const log = Array.from({ length: 3_000 }, (_, n) => `transferred 1.0 GiB of 3.0 GiB (${n / 30}%)`);
      const reads: string[] = [];
      const driver = await aDriver(({ path, query }) => {
        if (path.endsWith('/log')) {
          const [start, limit] = [Number(query.get('start')), Number(query.get('limit'))];
          const lines = log.slice(start, start + limit).map((t, n) => ({ n: start + n + 1, t }));
          reads.push(`${start}, ${lines.length} lines`);
          // It grows while it is read.
          log.push('transferred 3.0 GiB of 3.0 GiB (100.00%)');
          return { body: { data: lines, total: log.length - 1 } };
        }
        const isDone = reads.length > 2;
        return {
          body: { data: [{ upid, status: isDone ? 'OK' : 'RUNNING', ...(isDone && { endtime: 1 }) }] },
        };
      });
      const told: (number | undefined)[] = [];
      const verdict = driver.followTask({ id: upid }, plainCall(), ({ percent }) => told.push(percent));
      expect(await verdict).toMatchObject({ verdict: 'ok' });
      expect(reads).toEqual(['0, 1 lines', '2990, 11 lines', '2991, 11 lines']);
      expect(told).toEqual([100]);
    });
  });
});
