import { afterEach, describe, expect, it } from 'vitest';
import type { ServiceDefinition } from '../../src/core/definitions.js';
import { GuacamoleDriver, type GuacamoleOptions } from '../../src/drivers/guacamole/guacamole.driver.js';
import { systemClock } from '../../src/drivers/system-clock.js';
import { plainCall } from '../../src/ports/call.js';
import type { ConnectionSpec } from '../../src/ports/desktop-gateway.js';
import { Secret } from '../../src/ports/secrets.js';
import { createContext } from '../../src/simulators/create-context.js';
import type { FaultRule } from '../../src/simulators/faults.js';
import { GuacamoleModel } from '../../src/simulators/guacamole/guacamole-model.js';
import {
  startGuacamoleSimulator,
  type GuacamoleOptions as ServerOptions,
} from '../../src/simulators/guacamole/guacamole-simulator.js';
import { desktopGatewayContract, type DesktopGatewaySetup } from './desktop-gateway.contract.js';

const TIME_SCALE = 0.01;

async function startServer(faults: FaultRule[] = [], options: ServerOptions = {}) {
  const context = createContext({ timeScale: TIME_SCALE, faults });
  const server = await startGuacamoleSimulator(context, options);
  const drivers: GuacamoleDriver[] = [];
  const driver = (
    definition: Partial<ServiceDefinition> = {},
    more: Partial<GuacamoleOptions> = {},
  ): GuacamoleDriver => {
    const made = new GuacamoleDriver({
      definition: {
        name: 'desktops',
        kind: 'guacamole',
        endpoint: server.endpoint,
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
    drivers.push(made);
    return made;
  };
  return {
    ...context,
    server,
    driver,
    model: new GuacamoleModel(context.world.guacamole),
    async stop() {
      await Promise.all(drivers.map((one) => one.close()));
      await server.stop();
      context.close();
    },
  };
}
type Server = Awaited<ReturnType<typeof startServer>>;

async function contractSetup(
  definition: (server: Server) => Partial<ServiceDefinition>,
): Promise<DesktopGatewaySetup> {
  const running = await startServer();
  const { model } = running;
  const { groups, connections, users } = running.world.guacamole;
  return {
    driver: running.driver(definition(running)),
    groups: () => [...groups.values()].map(({ name }) => name),
    connectionsIn: (groupId) =>
      [...connections.values()]
        .filter(({ parent }) => parent === groupId)
        .map(({ name, protocol, parameters }) => ({ name, protocol, parameters })),
    user: (login) => {
      const user = users.get(login);
      return (
        user && {
          fullName: user.attributes['guac-full-name'] ?? '',
          email: user.attributes['guac-email-address'] ?? '',
          password: user.password,
        }
      );
    },
    mayRead: (login, kind, id) =>
      model.permissionsOf(login).has(kind === 'group' ? 'connectionGroup' : 'connection', id, 'READ'),
    putUser: (login, fullName) =>
      void model.addUser({ username: login, attributes: { 'guac-full-name': fullName } }),
    putConnection: (parentIdentifier, name) =>
      model.addConnection({ name, parentIdentifier, protocol: 'ssh' }),
    grant: (login, id) => model.permissionsOf(login).grant('connection', id, ['READ']),
    stop: () => running.stop(),
  };
}

desktopGatewayContract('Guacamole', () => contractSetup(() => ({})));
desktopGatewayContract('Guacamole behind a pinned certificate', () =>
  contractSetup(({ server }) => ({
    trust: { fingerprint: server.fingerprint },
    endpoint: `${server.endpoint}/`,
  })),
);

describe('Guacamole', () => {
  let running: Server;
  afterEach(() => running.stop());
  const call = plainCall();
  const vm = (groupId: string): ConnectionSpec => ({
    groupId,
    name: 'vm-1',
    protocol: 'ssh',
    hostname: 'h',
    port: 22,
    parameters: {},
    mark: 'm',
  });
  const groupNames = (): string[] => [...running.world.guacamole.groups.values()].map(({ name }) => name);

  it('signs in again once when the session died, for all callers together', async () => {
    running = await startServer();
    const signIns: string[] = [];
    const metrics = { observe: (op: string) => void (op === 'sign-in' && signIns.push(op)) };
    const driver = running.driver({}, { metrics });
    await driver.findUser('c.martin', 'x', call);
    running.server.expireSessions();
    await Promise.all(['a', 'b', 'c', 'd'].map((name) => driver.ensureGroup({ name }, call)));
    expect(groupNames().sort()).toEqual(['a', 'b', 'c', 'd']);
    expect(signIns).toHaveLength(2);
  });

  it('waits for a person when the password is wrong', async () => {
    running = await startServer();
    const driver = running.driver({}, { password: new Secret('wrong') });
    await expect(driver.ensureGroup({ name: 'a' }, call)).rejects.toMatchObject({
      code: 'permission-missing',
      retry: 'after-fix',
    });
    expect(await driver.check(call)).toMatchObject([{ ok: false }]);
  });

  it('waits for a person when a right is missing, and says which', async () => {
    running = await startServer();
    const username = running.model.addUser({ username: 'weak', password: 'weak' });
    const driver = running.driver({ username }, { password: new Secret('weak') });
    await expect(driver.ensureGroup({ name: 'a' }, call)).rejects.toMatchObject({
      code: 'permission-missing',
      retry: 'after-fix',
    });
    const findings = await driver.check(call);
    expect(findings.filter(({ ok }) => !ok)).toMatchObject([{ subject: 'rights' }]);
  });

  it('does not take an account for its own that it may not see', async () => {
    running = await startServer();
    const username = running.model.addUser({ username: 'weak', password: 'weak' });
    running.model.permissionsOf(username).apply({ op: 'add', kind: 'system', id: '', value: 'CREATE_USER' });
    const driver = running.driver({ username }, { password: new Secret('weak') });
    const spec = { login: 'c.martin', fullName: 'C', email: undefined, password: undefined, mark: 'm' };
    await expect(driver.ensureUser(spec, call)).rejects.toMatchObject({ code: 'permission-missing' });
  });

  it('says that the outcome is unknown when the answer to a write is lost, and finds it the next time', async () => {
    running = await startServer([
      { id: 'cut', match: { op: 'guacamole.connection.create', nth: 1 }, when: 'after', effect: 'reset' },
    ]);
    const driver = running.driver();
    const { id: groupId } = await driver.ensureGroup({ name: 'class' }, call);
    const spec = vm(groupId);
    await expect(driver.ensureConnection(spec, call)).rejects.toMatchObject({
      code: 'outcome-unknown',
      retry: 'later',
    });
    const { id } = await driver.ensureConnection(spec, call);
    const inGroup = [...running.server.connections()].filter(([, { parent }]) => parent === groupId);
    expect(inGroup.map(([one]) => one)).toEqual([id]);
  });

  it('says that the outcome is unknown when a write meets an internal error', async () => {
    running = await startServer([
      {
        id: 'e',
        match: { op: 'guacamole.group.create' },
        when: 'after',
        effect: 'status',
        value: { status: 504, message: '' },
      },
    ]);
    await expect(running.driver().ensureGroup({ name: 'class' }, call)).rejects.toMatchObject({
      code: 'outcome-unknown',
      retry: 'later',
    });
  });

  it('looks again when a name appeared between its look and its write', async () => {
    running = await startServer();
    const earlier = running.driver();
    const driver = running.driver();
    running.holds.hold('guacamole.connection.create');
    const { id: groupId } = await driver.ensureGroup({ name: 'class' }, call);
    const spec = vm(groupId);
    const ensured = driver.ensureConnection(spec, call);
    await running.holds.reached('guacamole.connection.create');
    const late = earlier.ensureConnection(spec, call);
    running.holds.release('guacamole.connection.create');
    expect(await ensured).toEqual(await late);
  });

  it('does not take over what somebody else made under the name between its look and its write', async () => {
    running = await startServer();
    running.holds.hold('guacamole.connection.create');
    const driver = running.driver();
    const { id: groupId } = await driver.ensureGroup({ name: 'class' }, call);
    const ensured = driver.ensureConnection(vm(groupId), call);
    await running.holds.reached('guacamole.connection.create');
    running.model.addConnection({ name: 'vm-1', parentIdentifier: groupId, protocol: 'ssh' });
    running.holds.release('guacamole.connection.create');
    await expect(ensured).rejects.toMatchObject({ code: 'foreign-guest' });
  });

  it('tries again when a permission is still there after its taking back was answered with yes', async () => {
    running = await startServer();
    const driver = running.driver();
    const { id: groupId } = await driver.ensureGroup({ name: 'class' }, call);
    const user = { login: 'p', fullName: 'P', email: undefined, password: undefined, mark: 'm' };
    await driver.ensureUser(user, call);
    const { id } = await driver.ensureConnection(vm(groupId), call);
    await driver.grant('p', id, groupId, call);
    running.holds.hold('guacamole.permission.patch', 'after');
    const revoked = driver.revoke('p', id, groupId, call);
    await running.holds.reached('guacamole.permission.patch', 'after');
    running.model.permissionsOf('p').grant('connectionGroup', groupId, ['READ']);
    running.holds.release('guacamole.permission.patch', 'after');
    await expect(revoked).rejects.toMatchObject({
      code: 'remote-refused',
      retry: 'later',
      message: expect.stringContaining('still there'),
    });
    await driver.revoke('p', id, groupId, call);
    expect(running.model.permissionsOf('p').has('connectionGroup', groupId, 'READ')).toBe(false);
  });

  it('reads a group once for all who ask at the same time', async () => {
    running = await startServer();
    const seen: string[] = [];
    const metrics = { observe: (op: string) => void (op === 'get-tree' && seen.push(op)) };
    const driver = running.driver({}, { metrics });
    const { id } = await driver.ensureGroup({ name: 'class' }, call);
    running.holds.hold('guacamole.group.tree');
    const all = Promise.all(
      Array.from({ length: 10 }, (_, n) => driver.findConnection(id, `vm-${n}`, plainCall())),
    );
    await running.holds.reached('guacamole.group.tree');
    running.holds.release('guacamole.group.tree');
    expect((await all).every((found) => found === undefined)).toBe(true);
    expect(seen).toHaveLength(1);
  });

  it('says that the service is unreachable when nobody listens', async () => {
    running = await startServer();
    const driver = running.driver({ endpoint: 'https://127.0.0.1:1/guacamole' });
    await expect(driver.ensureGroup({ name: 'a' }, call)).rejects.toMatchObject({
      code: 'service-unreachable',
      retry: 'later',
    });
  });

  it('sends neither name nor password to a server whose certificate is another one', async () => {
    running = await startServer();
    const driver = running.driver({
      trust: { fingerprint: Array.from({ length: 32 }, () => '00').join(':') },
    });
    await expect(driver.findGroup('a', call)).rejects.toMatchObject({
      code: 'service-unreachable',
      retry: 'after-fix',
    });
  });

  it('links to a connection as the web client writes it', async () => {
    running = await startServer();
    const driver = running.driver();
    expect(() => driver.link('7')).toThrow('nobody has signed in');
    await driver.findGroup('any', call);
    const [, encoded] = driver.link('7').split('/#/client/');
    expect(Buffer.from(encoded!, 'base64url').toString('utf8')).toBe('7\0c\0postgresql');
    expect(driver.link('7').startsWith(running.server.endpoint)).toBe(true);
  });
});
