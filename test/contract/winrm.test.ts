import { afterEach, describe, expect, it } from 'vitest';
import type { ServiceDefinition } from '../../src/core/definitions.js';
import { systemClock } from '../../src/drivers/system-clock.js';
import { WindowsDhcpDriver, type WindowsDhcpOptions } from '../../src/drivers/winrm/windows-dhcp.driver.js';
import { plainCall } from '../../src/ports/call.js';
import { Secret } from '../../src/ports/secrets.js';
import { createContext } from '../../src/simulators/create-context.js';
import type { FaultRule } from '../../src/simulators/faults.js';
import { startWinrmSimulator, type WinrmOptions } from '../../src/simulators/winrm/winrm-simulator.js';
import { dhcpContract, type DhcpSetup } from './dhcp.contract.js';

const TIME_SCALE = 0.01;

async function startServer(options: WinrmOptions = {}, faults: FaultRule[] = []) {
  const context = createContext({ timeScale: TIME_SCALE, faults });
  const server = await startWinrmSimulator(context, options);
  const driver = (
    definition: Partial<ServiceDefinition> = {},
    more: Partial<WindowsDhcpOptions> = {},
  ): WindowsDhcpDriver =>
    new WindowsDhcpDriver({
      definition: {
        name: 'dhcp',
        kind: 'windows-dhcp',
        endpoint: `${server.endpoint}/wsman`,
        trust: { caFile: context.caFile },
        username: server.username,
        password: { env: 'UNUSED' },
        maxShells: 5,
        ...definition,
      },
      password: new Secret(server.password),
      clock: systemClock,
      remoteTimeScale: TIME_SCALE,
      ...more,
    });
  return {
    ...context,
    server,
    driver,
    async stop() {
      await server.stop();
      context.close();
    },
  };
}
type Server = Awaited<ReturnType<typeof startServer>>;

async function contractSetup(definition: (server: Server) => Partial<ServiceDefinition>): Promise<DhcpSetup> {
  const running = await startServer();
  const { allow, deny } = running.world.dhcp;
  return {
    driver: running.driver(definition(running)),
    listed: (mac) => {
      const allowed = allow.get(mac);
      if (allowed !== undefined) return { list: 'Allow', ...allowed };
      const denied = deny.get(mac);
      return denied && { list: 'Deny', ...denied };
    },
    put: (mac, { list, description }) => void (list === 'Allow' ? allow : deny).set(mac, { description }),
    async stop() {
      expect(running.server.openShells()).toBe(0);
      await running.stop();
    },
  };
}

dhcpContract('Windows DHCP over WinRM', () => contractSetup(() => ({})));
dhcpContract('Windows DHCP behind a pinned certificate', () =>
  contractSetup(({ server }) => ({
    trust: { fingerprint: server.fingerprint },
    username: `SIM\\${server.username}`,
  })),
);

describe('Windows DHCP over WinRM', () => {
  let running: Server;
  afterEach(() => running.stop());
  const entry = { mac: '02:00:00:00:00:01', description: 'ours' };
  const isAllowed = (): boolean => running.world.dhcp.allow.has(entry.mac);

  it('signs in with NTLM and says as whom', async () => {
    running = await startServer();
    const findings = await running.driver().check(plainCall());
    expect(findings[0]?.detail).toContain('(ntlm)');
    expect(findings[0]?.detail).toContain(`\\${running.server.username}`);
  });

  it('tells that allowing changes nothing while the allow filter is off', async () => {
    running = await startServer();
    running.world.dhcp.allowEnabled = false;
    const findings = await running.driver().check(plainCall());
    expect(findings.filter(({ ok }) => !ok)).toMatchObject([{ subject: 'allow filter' }]);
  });

  it('waits for a person when the password is wrong', async () => {
    running = await startServer();
    const driver = running.driver({}, { password: new Secret('wrong') });
    await expect(driver.allow([entry], plainCall())).rejects.toMatchObject({
      code: 'permission-missing',
      retry: 'after-fix',
    });
    expect(await driver.check(plainCall())).toMatchObject([{ ok: false }]);
  });

  it('sends no byte of HTTP to a server whose certificate is another one', async () => {
    running = await startServer();
    const driver = running.driver({
      trust: { fingerprint: Array.from({ length: 32 }, () => '00').join(':') },
    });
    await expect(driver.findAllowed([entry.mac], plainCall())).rejects.toMatchObject({
      code: 'service-unreachable',
      retry: 'after-fix',
    });
    const unknownCa = running.driver({ trust: { system: true } });
    await expect(unknownCa.findAllowed([entry.mac], plainCall())).rejects.toMatchObject({
      retry: 'after-fix',
    });
  });

  it('opens no more shells than it may, and leaves none', async () => {
    running = await startServer({ maxShellsPerUser: 2 });
    running.holds.hold('winrm.script.dhcp-filter-find');
    const driver = running.driver({ maxShells: 2 });
    const all = Promise.all(
      Array.from({ length: 6 }, (_, index) => driver.findAllowed([`02:00:00:00:00:1${index}`], plainCall())),
    );
    await running.holds.reached('winrm.script.dhcp-filter-find', 'before', 2);
    expect(running.server.openShells()).toBe(2);
    running.holds.release('winrm.script.dhcp-filter-find');
    await all;
    expect(running.server.openShells()).toBe(0);
  });

  it('retries later when the quota of shells is used up by others', async () => {
    running = await startServer({ maxShellsPerUser: 0 });
    await expect(running.driver().allow([entry], plainCall())).rejects.toMatchObject({
      code: 'service-unreachable',
      retry: 'later',
      message: expect.stringContaining('concurrent shells') as string,
    });
  });

  it('asks again when a command takes longer than one answer may', async () => {
    running = await startServer();
    running.world.dhcp.allow.set(entry.mac, { description: 'ours' });
    running.holds.hold('winrm.script.dhcp-filter-find');
    running.holds.hold('winrm.receive');
    const found = running.driver().findAllowed([entry.mac], plainCall());
    await running.holds.reached('winrm.receive');
    running.holds.release('winrm.receive');
    running.holds.hold('winrm.receive');
    // The first Receive went on and ends by the operation time-out: only then can there be a second one.
    await running.holds.reached('winrm.receive');
    running.holds.release('winrm.receive');
    running.holds.release('winrm.script.dhcp-filter-find');
    expect(await found).toEqual([entry]);
  });

  it('does not believe a command that ended well and did nothing', async () => {
    const op = 'winrm.script.dhcp-filter-allow';
    running = await startServer({}, [{ id: 'e02', match: { op, nth: 1 }, when: 'during', effect: 'drop' }]);
    const driver = running.driver();
    await expect(driver.allow([entry], plainCall())).rejects.toMatchObject({
      code: 'outcome-unknown',
      retry: 'later',
    });
    expect(isAllowed()).toBe(false);
    await driver.allow([entry], plainCall());
    expect(isAllowed()).toBe(true);
  });

  it('takes text on the error stream for an error although the exit code is 0', async () => {
    const op = 'winrm.script.dhcp-filter-allow';
    const value = 'Failed to get version of DHCP server dhcp1 & friends <none>.';
    running = await startServer({}, [
      { id: 'e03', match: { op, nth: 1 }, when: 'during', effect: 'task-error', value },
    ]);
    await expect(running.driver().allow([entry], plainCall())).rejects.toMatchObject({
      code: 'remote-refused',
      retry: 'later',
      message: expect.stringContaining(value) as string,
    });
  });

  it('says that the outcome is unknown when the answer to a write is lost, and repeats it harmlessly', async () => {
    running = await startServer({}, [
      { id: 'cut', match: { op: 'winrm.receive', nth: 1 }, when: 'after', effect: 'reset' },
    ]);
    const driver = running.driver();
    await expect(driver.allow([entry], plainCall())).rejects.toMatchObject({
      code: 'outcome-unknown',
      retry: 'later',
    });
    expect(isAllowed()).toBe(true);
    await driver.allow([entry], plainCall());
    expect(running.world.dhcp.allow.get(entry.mac)).toEqual({ description: 'ours' });
    expect(running.server.openShells()).toBe(0);
  });

  it('says that the service is unreachable when the connection breaks before anything was written', async () => {
    running = await startServer({}, [{ id: 'cut', match: { op: 'winrm.command' }, effect: 'reset' }]);
    await expect(running.driver().allow([entry], plainCall())).rejects.toMatchObject({
      code: 'service-unreachable',
      retry: 'later',
    });
    expect(isAllowed()).toBe(false);
    expect(running.server.openShells()).toBe(0);
  });

  it('ends the command on the server when its caller gives up', async () => {
    running = await startServer();
    running.holds.hold('winrm.script.dhcp-filter-allow');
    const cancel = new AbortController();
    const allowing = running.driver().allow([entry], plainCall(cancel.signal));
    await running.holds.reached('winrm.script.dhcp-filter-allow');
    cancel.abort(new Error('cancelled'));
    await expect(allowing).rejects.toMatchObject({ code: 'outcome-unknown' });
    expect(running.server.openShells()).toBe(0);
  });

  it('reports each remote operation with how it ended', async () => {
    running = await startServer();
    const seen: string[] = [];
    const metrics = {
      observe: (op: string, _seconds: number, outcome: string) => void seen.push(`${op} ${outcome}`),
    };
    await running.driver({}, { metrics }).allow([entry], plainCall());
    const wrong = running.driver({}, { metrics, password: new Secret('wrong') });
    await expect(wrong.allow([entry], plainCall())).rejects.toThrow();
    expect(seen).toEqual(['dhcp-filter-allow ok', 'dhcp-filter-allow permission-missing']);
  });
});
