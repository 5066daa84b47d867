import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/drivers/system-clock.js';
import { plainCall } from '../../src/ports/call.js';
import { ProxmoxBench, SETTINGS } from '../support/proxmox-bench.js';
import { ScriptedPve } from '../support/scripted-pve.js';

describe('a ticket of Proxmox', () => {
  let bench: ProxmoxBench;

  beforeEach(async () => {
    bench = await ProxmoxBench.start();
  });
  afterEach(() => bench.stop());

  it('that dies between the read and the write costs one more sign-in, and the write is done once', async () => {
    const driver = bench.accountDriver();
    const mark = await bench.made(driver, 10_300);
    const signIns = bench.requests('access.ticket').length;
    bench.simulator.hold('qemu.config.get', 'after');
    let sends = 0;
    const call = { ...plainCall(), beforeSend: () => void (sends += 1) };
    const written = driver.configure(mark, SETTINGS, call);
    await bench.simulator.reached('qemu.config.get', 'after');
    bench.simulator.conditions.expireTickets();
    bench.simulator.release('qemu.config.get', 'after');
    expect(await written).toMatchObject({ node: 'pve1' });
    expect(bench.requests('qemu.config.put').map(({ status, effect }) => [status, effect])).toEqual([
      [401, false],
      [200, true],
    ]);
    expect(sends).toBe(2);
    expect(bench.requests('access.ticket')).toHaveLength(signIns + 1);
  });

  it('that is refused again right after a sign-in is not tried a third time', async () => {
    const driver = bench.accountDriver();
    const mark = await bench.made(driver, 10_301);
    const value = { status: 401, message: 'permission denied - invalid PVE ticket' };
    bench.context.faults.add({ id: 'no', match: { op: 'qemu.config.put' }, effect: 'status', value });
    await expect(driver.configure(mark, SETTINGS, plainCall())).rejects.toMatchObject({
      code: 'permission-missing',
      retry: 'after-fix',
      message: expect.stringContaining('permission denied - invalid PVE ticket'),
    });
    expect(bench.requests('qemu.config.put').map(({ status }) => status)).toEqual([401, 401]);
  });

  it('is renewed with itself when it is old, while calls go on with it', async () => {
    let hours = 0;
    const clock = {
      ...systemClock,
      monotonicMs: () => systemClock.monotonicMs() + hours * 3_600_000 * 0.005,
    };
    const driver = bench.accountDriver({ clock });
    await driver.inventory({ maxAgeMs: 0 });
    bench.simulator.hold('access.ticket');
    hours = 1.2;
    await driver.inventory({ maxAgeMs: 0 });
    await bench.simulator.reached('access.ticket');
    // From here on the password opens nothing: the renewal goes with the ticket.
    const user = bench.context.world.users.get(bench.simulator.token.id.split('!')[0]!)!;
    user.password = 'another one';
    bench.simulator.release('access.ticket');
    await expect.poll(() => bench.count('sign-in')).toBe(2);
    hours = 2.4;
    await driver.inventory({ maxAgeMs: 0 });
    await expect.poll(() => bench.count('sign-in')).toBe(3);
    expect(bench.requests('access.ticket').map(({ status }) => status)).toEqual([200, 200, 200]);
  });

  it('that waits for a second factor is none, and the password is not tried again at once', async () => {
    const paths: string[] = [];
    const server = await ScriptedPve.start(({ method, path }) => {
      paths.push(`${method} ${path}`);
      const ticket = 'PVE:!tfa!%7B%22totp%22%3Atrue%7D:6553F100::c2VhbA==';
      return { body: { data: { username: 'hatchery@pve', ticket, NeedTFA: 1 } } };
    });
    const driver = bench.accountDriver({
      definition: { endpoints: [server.url], trust: { fingerprint: server.fingerprint } },
    });
    const needs = {
      code: 'permission-missing',
      retry: 'after-fix',
      message: expect.stringContaining('needs a second factor'),
      hint: expect.stringContaining('use an API token'),
    };
    await expect(driver.inventory()).rejects.toMatchObject(needs);
    await expect(driver.inventory()).rejects.toMatchObject(needs);
    expect(paths).toEqual(['POST /access/ticket']);
    await server.stop();
  });
});
