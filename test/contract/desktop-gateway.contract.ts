import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { plainCall, type Call } from '../../src/ports/call.js';
import type {
  ConnectionSpec,
  DesktopGateway,
  FoundConnection,
  UserSpec,
} from '../../src/ports/desktop-gateway.js';

export interface SeenConnection {
  readonly name: string;
  readonly protocol: string;
  readonly parameters: Readonly<Record<string, string>>;
}

/** A gateway seen from the driver's side and from its own. */
export interface DesktopGatewaySetup {
  readonly driver: DesktopGateway;
  groups(): readonly string[];
  connectionsIn(groupId: string): readonly SeenConnection[];
  user(login: string): { fullName: string; email: string; password: string } | undefined;
  mayRead(login: string, kind: 'connection' | 'group', id: string): boolean;
  /** What somebody else does on the gateway. */
  putUser(login: string, fullName: string): void;
  putConnection(groupId: string, name: string): string;
  grant(login: string, connectionId: string): void;
  stop(): Promise<void>;
}

/** What every driver of a desktop gateway must do, judged by what the gateway holds. */
export function desktopGatewayContract(name: string, start: () => Promise<DesktopGatewaySetup>): void {
  describe(`${name}: contract of a desktop gateway`, () => {
    let setup: DesktopGatewaySetup;
    let driver: DesktopGateway;
    let next = 0;
    const unique = (what: string): string => `${what}-${next++}`;
    const mark = 'hatchery deployment-a';
    const isOurs = (found: FoundConnection): boolean => found.mark === mark;
    const call = plainCall();
    const aUser = (more: Partial<UserSpec> = {}): UserSpec => ({
      login: unique('user'),
      fullName: 'Éloïse Martin',
      email: 'eloise@example.test',
      password: 'secret',
      mark,
      ...more,
    });
    const aConnection = (groupId: string, more: Partial<ConnectionSpec> = {}): ConnectionSpec => ({
      groupId,
      name: unique('vm'),
      protocol: 'rdp',
      hostname: '10.20.0.1',
      port: 3389,
      parameters: { 'ignore-cert': 'true', username: '${GUAC_USERNAME}' },
      mark,
      ...more,
    });
    const aGroup = async (): Promise<string> =>
      (await driver.ensureGroup({ name: unique('class') }, call)).id;

    beforeAll(async () => {
      setup = await start();
      driver = setup.driver;
    });
    afterAll(() => setup.stop());

    describe('groups', () => {
      it('makes a group once, however often and however many ask', async () => {
        const group = { name: unique('class') };
        const made = await Promise.all([1, 2, 3, 4].map(() => driver.ensureGroup(group, call)));
        expect(new Set(made.map(({ id }) => id)).size).toBe(1);
        expect(await driver.ensureGroup(group, call)).toEqual(made[0]);
        expect(await driver.findGroup(group.name, call)).toEqual(made[0]);
        expect(setup.groups().filter((name) => name === group.name)).toHaveLength(1);
      });

      it('finds nothing where nothing is', async () => {
        expect(await driver.findGroup(unique('class'), call)).toBeUndefined();
      });

      it('removes an empty group, and says that it was there', async () => {
        const name = unique('class');
        await driver.ensureGroup({ name }, call);
        expect(await driver.removeGroup(name, call)).toEqual({ existed: true });
        expect(setup.groups()).not.toContain(name);
        expect(await driver.removeGroup(name, call)).toEqual({ existed: false });
      });

      it('does not remove a group that somebody put something into', async () => {
        const name = unique('class');
        const { id } = await driver.ensureGroup({ name }, call);
        await driver.findConnection(id, 'any', call);
        setup.putConnection(id, 'theirs');
        await expect(driver.removeGroup(name, call)).rejects.toMatchObject({ code: 'not-applicable' });
        expect(setup.connectionsIn(id)).toMatchObject([{ name: 'theirs' }]);
      });
    });

    describe('accounts', () => {
      it('makes an account with its name, address and password', async () => {
        const user = aUser();
        expect(await driver.ensureUser(user, call)).toEqual({ ours: true });
        expect(setup.user(user.login)).toEqual({
          fullName: user.fullName,
          email: user.email,
          password: user.password,
        });
        expect(await driver.findUser(user.login, mark, call)).toEqual({ ours: true });
      });

      it('gives different unknown passwords to accounts without one', async () => {
        const users = [aUser({ password: undefined, email: undefined }), aUser({ password: undefined })];
        for (const user of users) await driver.ensureUser(user, call);
        const [first, second] = users.map(({ login }) => setup.user(login)?.password ?? '');
        expect(first!.length).toBeGreaterThanOrEqual(24);
        expect(first).not.toBe(second);
      });

      it('makes an account once, and does not change its password', async () => {
        const user = aUser();
        const all = await Promise.all(
          [1, 2, 3].map((n) => driver.ensureUser({ ...user, password: `p${n}` }, call)),
        );
        expect(all).toEqual([{ ours: true }, { ours: true }, { ours: true }]);
        const { password } = setup.user(user.login)!;
        await driver.ensureUser({ ...user, password: 'another' }, call);
        expect(setup.user(user.login)?.password).toBe(password);
      });

      it('uses a foreign account as it is, and never removes it', async () => {
        const user = aUser();
        setup.putUser(user.login, 'Somebody Else');
        expect(await driver.ensureUser(user, call)).toEqual({ ours: false });
        expect(await driver.findUser(user.login, mark, call)).toEqual({ ours: false });
        expect(await driver.removeUser(user.login, mark, call)).toEqual({ existed: false });
        expect(setup.user(user.login)?.fullName).toBe('Somebody Else');
      });

      it('does not remove the account of another deployment', async () => {
        const user = aUser({ mark: 'hatchery deployment-b' });
        await driver.ensureUser(user, call);
        expect(await driver.removeUser(user.login, mark, call)).toEqual({ existed: false });
        expect(setup.user(user.login)).toBeDefined();
      });

      it('removes its own account, and says that it was there', async () => {
        const user = aUser();
        await driver.ensureUser(user, call);
        expect(await driver.removeUser(user.login, mark, call)).toEqual({ existed: true });
        expect(setup.user(user.login)).toBeUndefined();
        expect(await driver.removeUser(user.login, mark, call)).toEqual({ existed: false });
      });

      it('keeps its own account while somebody else gave it more', async () => {
        const user = aUser();
        const group = await aGroup();
        await driver.ensureUser(user, call);
        setup.grant(user.login, setup.putConnection(group, 'shared'));
        await expect(driver.removeUser(user.login, mark, call)).rejects.toMatchObject({
          code: 'not-applicable',
        });
        expect(setup.user(user.login)).toBeDefined();
      });
    });

    describe('connections', () => {
      it('makes a connection with its parameters', async () => {
        const connection = aConnection(await aGroup());
        const { id } = await driver.ensureConnection(connection, call);
        const parameters = { ...connection.parameters, hostname: '10.20.0.1', port: '3389' };
        expect(setup.connectionsIn(connection.groupId)).toMatchObject([
          { name: connection.name, protocol: 'rdp', parameters },
        ]);
        expect(await driver.findConnection(connection.groupId, connection.name, call)).toEqual({
          id,
          mark,
          parameters,
        });
        expect(driver.link(id)).toMatch(/^https?:\/\/.+\/#\/client\/[A-Za-z0-9_-]+$/);
      });

      it('makes a connection once, however often and however many ask', async () => {
        const connection = aConnection(await aGroup());
        const made = await Promise.all([1, 2, 3, 4].map(() => driver.ensureConnection(connection, call)));
        expect(new Set(made.map(({ id }) => id)).size).toBe(1);
        expect(await driver.ensureConnection(connection, call)).toEqual(made[0]);
        expect(setup.connectionsIn(connection.groupId)).toHaveLength(1);
      });

      it('makes many connections of one group at once', async () => {
        const groupId = await aGroup();
        const all = Array.from({ length: 12 }, () => aConnection(groupId));
        const made = await Promise.all(
          all.map((connection) => driver.ensureConnection(connection, plainCall())),
        );
        expect(new Set(made.map(({ id }) => id)).size).toBe(12);
        expect(setup.connectionsIn(groupId)).toHaveLength(12);
      });

      it('removes a connection, and says that it was there', async () => {
        const connection = aConnection(await aGroup());
        await driver.ensureConnection(connection, call);
        const { groupId, name } = connection;
        expect(await driver.removeConnection(groupId, name, isOurs, call)).toEqual({ existed: true });
        expect(setup.connectionsIn(groupId)).toEqual([]);
        expect(await driver.removeConnection(groupId, name, isOurs, call)).toEqual({ existed: false });
        expect(await driver.findConnection(groupId, name, call)).toBeUndefined();
      });

      it('sees what somebody else made when it must be removed', async () => {
        const groupId = await aGroup();
        await driver.findConnection(groupId, 'late', call);
        setup.putConnection(groupId, 'late');
        expect(await driver.removeConnection(groupId, 'late', () => true, call)).toEqual({ existed: true });
      });

      it('neither takes over nor removes a connection of the same name that it did not make', async () => {
        const connection = aConnection(await aGroup());
        const { groupId, name } = connection;
        const id = setup.putConnection(groupId, name);
        const foreign = { code: 'foreign-guest', retry: 'after-fix', hint: expect.any(String) };
        await expect(driver.ensureConnection(connection, call)).rejects.toMatchObject(foreign);
        await expect(driver.removeConnection(groupId, name, isOurs, call)).rejects.toMatchObject(foreign);
        expect(await driver.findConnection(groupId, name, call)).toMatchObject({ id, mark: undefined });
        expect(setup.connectionsIn(groupId)).toHaveLength(1);
      });

      it('does not take the connection of another machine for its own', async () => {
        const connection = aConnection(await aGroup(), { mark: 'hatchery deployment-b' });
        const { groupId, name } = connection;
        await driver.ensureConnection(connection, call);
        await expect(driver.ensureConnection({ ...connection, mark }, call)).rejects.toMatchObject({
          code: 'foreign-guest',
        });
        await expect(driver.removeConnection(groupId, name, isOurs, call)).rejects.toMatchObject({
          code: 'foreign-guest',
        });
        expect(setup.connectionsIn(groupId)).toHaveLength(1);
      });
    });

    describe('permissions', () => {
      async function granted() {
        const user = aUser();
        const groupId = await aGroup();
        await driver.ensureUser(user, call);
        const { id } = await driver.ensureConnection(aConnection(groupId), call);
        await driver.grant(user.login, id, groupId, call);
        return { login: user.login, groupId, id };
      }

      it('lets somebody use a connection and see its group', async () => {
        const { login, groupId, id } = await granted();
        await driver.grant(login, id, groupId, call);
        expect(setup.mayRead(login, 'connection', id)).toBe(true);
        expect(setup.mayRead(login, 'group', groupId)).toBe(true);
        expect(await driver.hasPermission(login, id, groupId, call)).toBe(true);
      });

      it('takes both back', async () => {
        const { login, groupId, id } = await granted();
        expect(await driver.revoke(login, id, groupId, call)).toEqual({ existed: true });
        expect(setup.mayRead(login, 'connection', id)).toBe(false);
        expect(setup.mayRead(login, 'group', groupId)).toBe(false);
        expect(await driver.hasPermission(login, id, groupId, call)).toBe(false);
        expect(await driver.revoke(login, id, groupId, call)).toEqual({ existed: false });
      });

      it('leaves the group visible while another connection of it is left', async () => {
        const { login, groupId, id } = await granted();
        const second = await driver.ensureConnection(aConnection(groupId), call);
        await driver.grant(login, second.id, groupId, call);
        await driver.revoke(login, id, groupId, call);
        expect(setup.mayRead(login, 'connection', id)).toBe(false);
        expect(setup.mayRead(login, 'connection', second.id)).toBe(true);
        expect(setup.mayRead(login, 'group', groupId)).toBe(true);
      });

      it('takes nothing from a foreign account but what it gave', async () => {
        const { login, groupId, id } = await granted();
        const other = setup.putConnection(await aGroup(), 'of the teacher');
        setup.grant(login, other);
        await driver.revoke(login, id, groupId, call);
        expect(setup.mayRead(login, 'connection', other)).toBe(true);
      });

      it('has nothing to take back from an account that is gone', async () => {
        const { login, groupId, id } = await granted();
        expect(await driver.revoke(`${login}-gone`, id, groupId, call)).toEqual({ existed: false });
        expect(await driver.hasPermission(`${login}-gone`, id, groupId, call)).toBe(false);
      });
    });

    describe('the lease', () => {
      const over: Call = {
        signal: new AbortController().signal,
        beforeSend: () => {
          throw new Error('the lease is over');
        },
      };

      it('stops every write at the last moment', async () => {
        const groupId = await aGroup();
        const user = aUser();
        const name = unique('class');
        await expect(driver.ensureGroup({ name }, over)).rejects.toThrow('the lease is over');
        await expect(driver.ensureUser(user, over)).rejects.toThrow('the lease is over');
        await expect(driver.ensureConnection(aConnection(groupId), over)).rejects.toThrow(
          'the lease is over',
        );
        expect(setup.groups()).not.toContain(name);
        expect(setup.user(user.login)).toBeUndefined();
        expect(setup.connectionsIn(groupId)).toEqual([]);
      });

      it('is asked for once per write and never for a read', async () => {
        let asked = 0;
        const counting: Call = {
          signal: new AbortController().signal,
          beforeSend: () => {
            asked += 1;
          },
        };
        const name = unique('class');
        await driver.findGroup(name, counting);
        await driver.check(counting);
        expect(asked).toBe(0);
        await driver.ensureGroup({ name }, counting);
        expect(asked).toBe(1);
        await driver.removeGroup(name, counting);
        expect(asked).toBe(2);
      });

      it('is not needed by a caller that gave up before', async () => {
        const gone = plainCall(AbortSignal.abort(new Error('cancelled')));
        await expect(driver.ensureGroup({ name: unique('class') }, gone)).rejects.toThrow('cancelled');
      });
    });

    it('finds nothing to complain about on a good gateway', async () => {
      const findings = await driver.check(call);
      expect(findings.length).toBeGreaterThan(0);
      expect(findings.filter(({ ok }) => !ok)).toEqual([]);
    });
  });
}
