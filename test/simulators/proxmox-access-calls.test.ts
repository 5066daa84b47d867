import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { addToken, addUser } from '../../src/simulators/build-access.js';
import { createContext } from '../../src/simulators/create-context.js';
import {
  startProxmoxSimulator,
  type ProxmoxSimulator,
} from '../../src/simulators/proxmox/proxmox-simulator.js';
import { WireClient, type WireReply } from './proxmox-client.js';

describe('access to Proxmox', () => {
  let context: ReturnType<typeof createContext>;
  let simulator: ProxmoxSimulator;
  let client: WireClient;
  let root: WireClient;

  beforeAll(async () => {
    context = createContext({ timeScale: 0.02 });
    simulator = await startProxmoxSimulator(context);
    client = new WireClient(simulator);
    root = await WireClient.signedIn(simulator);
    addUser(context.world, { id: 'admin@pve', password: 'admin', acl: [{ path: '/', privileges: ['*'] }] });
    addUser(context.world, { id: 'plain@pve', password: 'plain' });
  });
  afterAll(async () => {
    client.close();
    root.close();
    await simulator.stop();
    context.close();
  });

  const rows = (reply: WireReply): Record<string, unknown>[] => reply.json.data as Record<string, unknown>[];
  const asUser = async <T>(name: string, work: (user: WireClient) => Promise<T>): Promise<T> => {
    const user = await WireClient.signedIn(simulator, `${name}@pve`, name);
    const result = await work(user);
    user.close();
    return result;
  };

  it('lists what is below /access', async () => {
    expect(rows(await client.get('/access')).map(({ subdir }) => subdir)).toContain('users');
  });

  describe('users', () => {
    it('are made, changed and removed with all that they had', async () => {
      const made = await root.post('/access/users', {
        userid: 'dora@pve',
        password: 'longenough',
        comment: 'tests',
        email: 'dora@example.org',
      });
      expect(made).toMatchObject({ status: 200, json: { data: null } });
      expect(await root.post('/access/users', { userid: 'dora@pve' })).toMatchObject({
        status: 500,
        reason: "create user failed: user 'dora@pve' already exists",
      });
      expect((await root.get('/access/users/dora@pve')).json.data).toEqual({
        enable: 1,
        expire: 0,
        comment: 'tests',
        email: 'dora@example.org',
        groups: [],
      });
      await root.put('/access/users/dora@pve', { enable: 0, email: '' });
      expect((await root.get('/access/users/dora@pve')).json.data).toMatchObject({ enable: 0 });
      await root.post('/access/users/dora@pve/token/ci', {});
      await root.put('/access/acl', {
        path: '/vms',
        users: 'dora@pve',
        tokens: 'dora@pve!ci',
        roles: 'PVEVMUser',
      });
      expect((await root.delete('/access/users/dora@pve')).status).toBe(200);
      expect(context.world.acl.filter(({ ugid }) => ugid.startsWith('dora'))).toEqual([]);
      expect(context.world.tokens.has('dora@pve!ci')).toBe(false);
      expect((await root.get('/access/users/dora@pve')).reason).toBe("no such user ('dora@pve')");
    });

    it('say what is wrong with them', async () => {
      const errors = async (params: Record<string, string>): Promise<unknown> =>
        (await root.post('/access/users', { userid: 'new@pve', ...params })).json.errors;
      expect(await errors({ userid: 'new' })).toEqual({
        userid: "invalid format - value 'new' does not look like a valid user name\n",
      });
      expect(await errors({ password: 'short' })).toEqual({
        password: 'value must be at least 8 characters long',
      });
      expect(await errors({ email: 'nobody' })).toEqual({
        email: 'invalid format - value does not look like a valid email address\n',
      });
      const reason = async (params: Record<string, string>): Promise<string> =>
        (await root.post('/access/users', { userid: 'new@pve', ...params })).reason;
      expect(await reason({ groups: 'staff' })).toBe("create user failed: no such group 'staff'");
      expect(await reason({ userid: 'new@ldap' })).toBe(
        "create user failed: auth domain 'ldap' does not exist",
      );
      expect((await root.put('/access/users/new@pve', {})).reason).toBe(
        "update user failed: no such user ('new@pve')",
      );
    });

    it('are seen and changed only by who may', async () => {
      await asUser('plain', async (plain) => {
        expect(rows(await plain.get('/access/users')).map(({ userid }) => userid)).toEqual(['plain@pve']);
        expect((await plain.post('/access/users', { userid: 'x1@pve' })).reason).toBe(
          'Permission check failed (/access/realm/pve, Realm.AllocateUser)',
        );
        expect((await plain.get('/access/users/admin@pve')).reason).toBe('Permission check failed');
        expect((await plain.put('/access/users/plain@pve', { comment: 'x' })).reason).toBe(
          'Permission check failed (/access/groups, User.Modify)',
        );
        expect((await plain.delete('/access/users/none@pve')).reason).toBe(
          'Permission check failed (/access/realm/pve, Realm.AllocateUser)',
        );
      });
      await asUser('admin', async (admin) => {
        const all = rows(await admin.get('/access/users?full=1'));
        expect(all.find(({ userid }) => userid === 'hatchery@pve')).toMatchObject({
          'realm-type': 'pve',
          groups: '',
          tokens: [{ tokenid: 'demo', privsep: 1, expire: 0 }],
        });
        expect((await admin.get('/access/users/none@pve')).reason).toBe("no such user ('none@pve')");
        const disabled = rows(await admin.get('/access/users?enabled=0'));
        expect(disabled).toEqual([]);
      });
    });
  });

  describe('passwords', () => {
    it('are changed by their owner, who confirms with the old one', async () => {
      addUser(context.world, { id: 'erik@pve', password: 'erik' });
      await asUser('erik', async (erik) => {
        const change = (more: Record<string, string>): Promise<WireReply> =>
          erik.put('/access/password', { userid: 'erik@pve', password: 'a-new-one', ...more });
        expect((await change({})).json.errors).toEqual({
          'confirmation-password': 'password is required to modify user',
        });
        expect((await change({ 'confirmation-password': 'wrong' })).reason).toBe('invalid credentials');
        expect((await change({ 'confirmation-password': 'erik1' })).status).toBe(500);
        context.world.users.get('erik@pve')!.password = 'erik-old';
        expect((await change({ 'confirmation-password': 'erik-old' })).status).toBe(200);
        expect((await change({ userid: 'admin@pve', 'confirmation-password': 'a-new-one' })).reason).toBe(
          'Permission check failed (/access/realm/pve, Realm.AllocateUser)',
        );
      });
      const renewed = await WireClient.signedIn(simulator, 'erik@pve', 'a-new-one');
      renewed.close();
    });

    it('of anybody are changed by root, but never with a token', async () => {
      const params = { userid: 'plain@pve', password: 'from-root' };
      expect((await root.put('/access/password', params)).status).toBe(200);
      context.world.users.get('plain@pve')!.password = 'plain';
      const token = new WireClient(simulator, simulator.rootToken);
      expect((await token.put('/access/password', params)).reason).toBe(
        "Permission check failed (URI '/access/password' not available with API token, need proper ticket.)",
      );
      token.close();
    });

    it('of root are not changed by an administrator', async () => {
      await asUser('admin', async (admin) => {
        const params = { userid: 'root@pam', password: 'taken-over', 'confirmation-password': 'admin' };
        expect((await admin.put('/access/password', params)).reason).toBe('Permission check failed');
      });
    });
  });

  describe('tokens', () => {
    it('show their value once', async () => {
      const made = await root.post('/access/users/plain@pve/token/ci', { comment: 'jobs', privsep: 0 });
      const data = made.json.data as { value: string };
      expect(data).toMatchObject({
        'full-tokenid': 'plain@pve!ci',
        info: { privsep: 0, comment: 'jobs' },
        value: expect.stringMatching(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/),
      });
      const token = new WireClient(simulator, { id: 'plain@pve!ci', secret: data.value });
      expect((await token.get('/version')).status).toBe(200);
      expect((await root.get('/access/users/plain@pve/token/ci')).json.data).toEqual({
        privsep: 0,
        expire: 0,
        comment: 'jobs',
      });
      expect(await root.post('/access/users/plain@pve/token/ci')).toMatchObject({
        status: 400,
        json: { errors: { tokenid: 'Token already exists.' } },
      });
      const changed = await root.put('/access/users/plain@pve/token/ci', { privsep: 1, delete: 'comment' });
      expect(changed.json.data).toEqual({ privsep: 1, expire: 0 });
      expect(rows(await root.get('/access/users/plain@pve/token'))).toEqual([
        { tokenid: 'ci', privsep: 1, expire: 0 },
      ]);
      expect((await root.delete('/access/users/plain@pve/token/ci')).status).toBe(200);
      expect((await token.get('/version')).status).toBe(401);
      token.close();
      expect((await root.get('/access/users/plain@pve/token/ci')).reason).toBe(
        "no such token 'ci' for user 'plain@pve'",
      );
      expect((await root.post('/access/users/plain@pve/token/9')).json.errors).toEqual({
        tokenid: 'value does not match the regex pattern',
      });
    });

    it('are made by their user with a ticket, not with a token', async () => {
      await asUser('plain', async (plain) => {
        expect((await plain.post('/access/users/plain@pve/token/own')).status).toBe(200);
        expect((await plain.post('/access/users/admin@pve/token/own')).reason).toBe(
          'Permission check failed',
        );
      });
      expect((await client.post('/access/users/hatchery@pve/token/more')).reason).toBe(
        'Permission check failed',
      );
    });
  });

  describe('entries', () => {
    it('give rights at once, and take them away', async () => {
      addToken(context.world, { id: 'plain@pve!eve', secret: 's' });
      const eve = new WireClient(simulator, { id: 'plain@pve!eve', secret: 's' });
      const read = (): Promise<WireReply> => eve.get('/nodes/pve1/qemu/100/config');
      expect((await read()).reason).toBe('Permission check failed (/vms/100, VM.Audit)');
      const entry = { path: 'vms//100/', users: 'plain@pve', tokens: 'plain@pve!eve', roles: 'PVEAuditor' };
      expect((await root.put('/access/acl', entry)).status).toBe(200);
      expect((await read()).status).toBe(200);
      expect(rows(await root.get('/access/acl'))).toContainEqual({
        path: '/vms/100',
        type: 'token',
        ugid: 'plain@pve!eve',
        roleid: 'PVEAuditor',
        propagate: 1,
      });
      expect((await root.put('/access/acl', { ...entry, delete: 1 })).status).toBe(200);
      expect((await read()).status).toBe(403);
      eve.close();
    });

    it('say what is wrong with them', async () => {
      const put = (params: Record<string, string>): Promise<WireReply> =>
        root.put('/access/acl', { path: '/vms', roles: 'PVEAuditor', ...params });
      const text = "either 'users', 'groups' or 'tokens' is required.";
      expect((await put({})).json.errors).toEqual({ users: text, groups: text, tokens: text });
      expect((await put({ users: 'plain@pve', path: '/moon' })).json.errors).toEqual({
        path: "invalid ACL path '/moon'",
      });
      const reason = async (params: Record<string, string>): Promise<string> => (await put(params)).reason;
      expect(await reason({ users: 'none@pve' })).toBe("ACL update failed: user 'none@pve' does not exist");
      expect(await reason({ groups: 'staff' })).toBe("ACL update failed: group 'staff' does not exist");
      expect(await reason({ tokens: 'plain@pve!none' })).toBe(
        "ACL update failed: no such token 'none' for user 'plain@pve'",
      );
      expect(await reason({ users: 'plain@pve', roles: 'None' })).toBe(
        "ACL update failed: role 'None' does not exist",
      );
    });

    it('are written only where somebody may, and give no more than they have', async () => {
      const acl = [{ path: '/vms/104', privileges: ['VM.Allocate', 'VM.Audit'] }];
      addUser(context.world, { id: 'owner@pve', password: 'owner', acl });
      await asUser('owner', async (owner) => {
        const give = (path: string, roles: string): Promise<WireReply> =>
          owner.put('/access/acl', { path, roles, users: 'plain@pve' });
        expect((await give('/vms/100', 'PVETemplateUser')).reason).toBe(
          'Permission check failed (/vms/100, Permissions.Modify|VM.Allocate)',
        );
        expect(await give('/vms/104', 'PVETemplateUser')).toMatchObject({
          status: 500,
          reason: 'ACL update failed: 400 Parameter verification failed.',
          json: {
            message: expect.stringContaining(
              "role: Cannot add role 'PVETemplateUser' - requires 'Permissions.Modify' or superset of privileges.",
            ),
          },
        });
        expect(rows(await owner.get('/access/acl')).map(({ path }) => path)).toEqual(['/vms/104']);
      });
    });

    it('without propagation hold at their path only', async () => {
      addUser(context.world, { id: 'near@pve', password: 'near' });
      await root.put('/access/acl', { path: '/vms', users: 'near@pve', roles: 'PVEAuditor', propagate: 0 });
      await asUser('near', async (near) => {
        const rights = (await near.get('/access/permissions')).json.data as Record<string, unknown>;
        expect(rights['/vms']).toMatchObject({ 'VM.Audit': 0 });
        expect((await near.get('/nodes/pve1/qemu/100/config')).status).toBe(403);
      });
    });

    it('are replaced by nearer ones, and NoAccess beats what a pool gives', async () => {
      addUser(context.world, {
        id: 'mixed@pve',
        password: 'mixed',
        acl: [
          { path: '/', privileges: ['VM.Audit', 'VM.PowerMgmt'] },
          { path: '/vms/104', privileges: ['VM.Clone'] },
          { path: '/pool/prod', privileges: ['VM.Backup'] },
        ],
      });
      await asUser('mixed', async (mixed) => {
        const at = async (path: string): Promise<unknown> =>
          ((await mixed.get(`/access/permissions?path=${path}`)).json.data as Record<string, unknown>)[path];
        expect(await at('/vms/104')).toEqual({ 'VM.Clone': 1 });
        expect(await at('/vms/100')).toEqual({ 'VM.Audit': 1, 'VM.PowerMgmt': 1, 'VM.Backup': 0 });
        await root.put('/access/acl', { path: '/vms/100', users: 'mixed@pve', roles: 'NoAccess' });
        expect(await at('/vms/100')).toEqual({});
      });
    });
  });

  describe('roles', () => {
    it('of Proxmox are there and stay as they are', async () => {
      const all = rows(await client.get('/access/roles'));
      expect(all).toContainEqual({ roleid: 'PVETemplateUser', privs: 'VM.Audit,VM.Clone', special: 1 });
      expect((await client.get('/access/roles/PVETemplateUser')).json.data).toEqual({
        'VM.Audit': 1,
        'VM.Clone': 1,
      });
      expect((await root.delete('/access/roles/PVEAdmin')).reason).toBe(
        "auto-generated role 'PVEAdmin' cannot be deleted",
      );
      expect((await root.put('/access/roles/PVEAdmin', { privs: '' })).reason).toBe(
        "auto-generated role 'PVEAdmin' cannot be modified",
      );
      expect((await root.post('/access/roles', { roleid: 'PVEmine' })).json.errors).toEqual({
        roleid: "cannot use role ID starting with the (case-insensitive) 'PVE' namespace",
      });
    });

    it('are made from privileges that this version has', async () => {
      const params = { roleid: 'Agent', privs: 'VM.GuestAgent.Audit VM.Audit' };
      expect((await root.post('/access/roles', params)).status).toBe(200);
      expect((await root.post('/access/roles', params)).reason).toBe(
        "create role failed: role 'Agent' already exists",
      );
      await root.put('/access/roles/Agent', { privs: 'VM.Clone', append: 1 });
      expect(Object.keys((await root.get('/access/roles/Agent')).json.data as object)).toEqual([
        ...['VM.Audit', 'VM.Clone', 'VM.GuestAgent.Audit'],
      ]);
      expect((await root.post('/access/roles', { roleid: 'Old', privs: 'VM.Monitor' })).json.errors).toEqual({
        privs: "invalid format - invalid privilege 'VM.Monitor'\n",
      });
      expect((await root.delete('/access/roles/Agent')).status).toBe(200);
      expect((await root.get('/access/roles/Agent')).reason).toBe("role 'Agent' does not exist");
      expect((await client.post('/access/roles', params)).reason).toBe(
        'Permission check failed (/access, Sys.Modify)',
      );
    });
  });

  it('shows the rights of others to who may see them', async () => {
    const path = '/access/permissions?userid=hatchery@pve!demo&path=/vms/9000';
    expect((await root.get(path)).json.data).toEqual({ '/vms/9000': { 'VM.Audit': 1, 'VM.Clone': 1 } });
    await asUser('plain', async (plain) => {
      expect((await plain.get('/access/permissions?userid=root@pam')).reason).toBe(
        'Permission check failed (/access, Sys.Audit)',
      );
      expect((await plain.get('/access/permissions?userid=plain@pve!own')).status).toBe(200);
    });
    expect((await root.get('/access/permissions?userid=none@pve')).reason).toBe("no such user ('none@pve')");
  });

  it('is not written without quorum, though everybody may still sign in and read', async () => {
    simulator.conditions.loseQuorum();
    const write = await root.put('/access/users/plain@pve', { comment: 'lost' });
    const password = await root.put('/access/password', { userid: 'plain@pve', password: 'not-written' });
    await asUser('plain', async (plain) => {
      expect((await plain.get('/access/permissions')).status).toBe(200);
    });
    simulator.conditions.regainQuorum();
    expect(write).toMatchObject({
      status: 500,
      reason: expect.stringMatching(/^update user failed: .*no quorum/),
    });
    expect(password.status).toBe(500);
    expect(context.world.users.get('plain@pve')!.comment).not.toBe('lost');
  });

  it('is written under one lock of the cluster', async () => {
    await root.put('/access/users/plain@pve', { comment: 'locked' });
    const line = context.journal.read().findLast(({ event }) => event === 'hold');
    expect(line).toMatchObject({ resource: 'file-user_cfg', actor: 'root@pam', effect: true });
  });
});

describe('roles of Proxmox 8.4', () => {
  it('know VM.Monitor and nothing of the guest agent', async () => {
    const context = createContext({ timeScale: 0.02, world: { version: '8.4' } });
    const simulator = await startProxmoxSimulator(context);
    const root = await WireClient.signedIn(simulator);
    expect((await root.post('/access/roles', { roleid: 'Old', privs: 'VM.Monitor' })).status).toBe(200);
    expect(
      (await root.post('/access/roles', { roleid: 'New', privs: 'VM.GuestAgent.Audit' })).json.errors,
    ).toEqual({ privs: "invalid format - invalid privilege 'VM.GuestAgent.Audit'\n" });
    root.close();
    await simulator.stop();
    context.close();
  });
});
