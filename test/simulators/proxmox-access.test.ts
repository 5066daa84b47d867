import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { addToken, addUser } from '../../src/simulators/build-access.js';
import { SimClock } from '../../src/simulators/clock.js';
import { createContext } from '../../src/simulators/create-context.js';
import {
  startProxmoxSimulator,
  type ProxmoxSimulator,
} from '../../src/simulators/proxmox/proxmox-simulator.js';
import { WireClient, type WireReply } from './proxmox-client.js';

type Params = Record<string, string | number>;

interface SignedIn {
  readonly username: string;
  readonly ticket: string;
  readonly CSRFPreventionToken: string;
  readonly cap: Record<string, Record<string, number>>;
  readonly clustername?: string;
}

describe('signing in to Proxmox', () => {
  let context: ReturnType<typeof createContext>;
  let simulator: ProxmoxSimulator;
  let client: WireClient;

  beforeAll(async () => {
    context = createContext({ timeScale: 0.02 });
    simulator = await startProxmoxSimulator(context);
    client = new WireClient(simulator);
  });
  afterAll(async () => {
    client.close();
    await simulator.stop();
    context.close();
  });

  /** Without any token. */
  const anonymous = (
    method: string,
    path: string,
    params?: Params,
    headers: Record<string, string> = {},
  ): Promise<WireReply> => client.send(method, path, params, { authorization: '', ...headers });
  const signIn = (params: Params): Promise<WireReply> => anonymous('POST', '/access/ticket', params);
  const asRoot = async (): Promise<SignedIn> =>
    (await signIn({ username: 'root@pam', password: simulator.rootPassword })).json.data as SignedIn;
  const cookie = ({ ticket }: SignedIn): Record<string, string> => ({
    cookie: `PVEAuthCookie=${encodeURIComponent(ticket)}`,
  });

  describe('with a ticket', () => {
    it('gives one for a password', async () => {
      const data = await asRoot();
      expect(data.username).toBe('root@pam');
      expect(data.ticket).toMatch(/^PVE:root@pam:[0-9A-F]{8}::[A-Za-z0-9+/]{342}==$/);
      expect(data.CSRFPreventionToken).toMatch(/^[0-9A-F]{8}:[A-Za-z0-9+/]{43}$/);
      expect(data.clustername).toBe('simcluster');
      expect(data.cap['vms']).toMatchObject({ 'VM.Allocate': 1 });
      expect(Object.keys(data.cap).sort()).toEqual([
        ...['access', 'dc', 'mapping', 'nodes', 'sdn', 'storage', 'vms'],
      ]);
    });

    it('takes the realm apart, and the user of the deployment', async () => {
      const reply = await signIn({ username: 'hatchery', realm: 'pve', password: simulator.userPassword });
      expect(reply.json.data).toMatchObject({ username: 'hatchery@pve', clustername: 'simcluster' });
    });

    it('refuses a wrong password with JSON, and tells nobody whether there is such a user', async () => {
      for (const username of ['root@pam', 'nobody@pve', 'root'])
        expect(await signIn({ username, password: 'wrong' })).toMatchObject({
          status: 401,
          reason: 'authentication failure',
          json: { data: null, message: 'authentication failure\n' },
          connection: 'close',
        });
    });

    it('holds a refusal back for three seconds', async () => {
      const before = context.clock.elapsedMs();
      await signIn({ username: 'root@pam', password: 'wrong' });
      expect(context.clock.elapsedMs() - before).toBeGreaterThanOrEqual(3_000);
    });

    it('is read from the cookie, encoded or not, and from the Authorization header', async () => {
      const data = await asRoot();
      for (const headers of [
        cookie(data),
        { cookie: `other=1; PVEAuthCookie=${data.ticket}` },
        { authorization: `PVEAuthCookie=${data.ticket}` },
      ])
        expect((await anonymous('GET', '/version', undefined, headers)).status).toBe(200);
    });

    it('wins over a token', async () => {
      const { id, secret } = simulator.token;
      const headers = { ...cookie(await asRoot()), authorization: `PVEAPIToken=${id}=${secret}` };
      const reply = await client.send('PUT', '/nodes/pve1/qemu/100/config', { description: 'x' }, headers);
      expect(reply).toMatchObject({
        status: 401,
        reason: 'Permission denied - invalid csrf token',
        text: '',
      });
    });

    it('needs the CSRF token for everything but GET', async () => {
      const data = await asRoot();
      const write = (headers: Record<string, string>): Promise<WireReply> =>
        anonymous(
          'PUT',
          '/nodes/pve1/qemu/100/config',
          { description: 'x' },
          { ...cookie(data), ...headers },
        );
      const refusal = { status: 401, reason: 'Permission denied - invalid csrf token', text: '' };
      expect(await write({})).toMatchObject(refusal);
      const foreign = (await signIn({ username: 'hatchery@pve', password: simulator.userPassword })).json
        .data as SignedIn;
      expect(await write({ CSRFPreventionToken: foreign.CSRFPreventionToken })).toMatchObject(refusal);
      expect((await write({ CSRFPreventionToken: data.CSRFPreventionToken })).status).toBe(200);
    });

    it('is renewed with itself, and root gets those of others', async () => {
      const { ticket } = await asRoot();
      expect((await signIn({ username: 'root@pam', password: ticket })).status).toBe(200);
      expect((await signIn({ username: 'hatchery@pve', password: ticket })).status).toBe(200);
      const user = (await signIn({ username: 'hatchery@pve', password: simulator.userPassword })).json
        .data as SignedIn;
      expect((await signIn({ username: 'root@pam', password: user.ticket })).status).toBe(401);
    });

    it('verifies rights without giving a ticket', async () => {
      const verify = (privs: string): Promise<WireReply> =>
        signIn({ username: 'hatchery@pve', password: simulator.userPassword, path: '/vms/100', privs });
      const data = (await verify('VM.Audit')).json.data as Partial<SignedIn>;
      expect(data.username).toBe('hatchery@pve');
      expect(data.ticket).toBeUndefined();
      expect((await verify('VM.Allocate')).status).toBe(401);
      expect((await signIn({ username: 'a@pve', password: 'x', path: '/' })).json.errors).toEqual({
        privs: "missing property required by 'path'",
      });
    });

    it('ends after two hours, and with the key that signed it', async () => {
      const data = await asRoot();
      const ask = (): Promise<WireReply> => anonymous('GET', '/version', undefined, cookie(data));
      expect((await ask()).status).toBe(200);
      const tampered = cookie({ ...data, ticket: data.ticket.replace('root@pam', 'rooT@pam') });
      expect(await anonymous('GET', '/version', undefined, tampered)).toMatchObject({
        status: 401,
        reason: 'Authentication failed!',
        text: '',
      });
      const { authKey } = context.world;
      context.world.authKey = 'another';
      expect((await ask()).status).toBe(401);
      context.world.authKey = authKey;
      expect((await ask()).status).toBe(200);
      // The same world in a later life: what it took is remembered.
      const later = createContext({ timeScale: 0.02 });
      later.world.authKey = authKey;
      const clock = new SimClock(0.02, context.clock.elapsedMs() + 7_200_000);
      const aged = await startProxmoxSimulator({ ...later, clock });
      const old = new WireClient(aged);
      const reply = await old.send('GET', '/version', undefined, { authorization: '', ...cookie(data) });
      expect(reply).toMatchObject({ status: 401, reason: 'Authentication failed!' });
      old.close();
      await aged.stop();
      clock.stop();
      later.close();
    });
  });

  describe('with a token', () => {
    const as = (id: string, secret: string, path = '/version'): Promise<WireReply> =>
      client.send('GET', path, undefined, { authorization: `PVEAPIToken=${id}=${secret}` });

    it('takes a space for the first equals sign', async () => {
      const { id, secret } = simulator.token;
      const reply = await client.send('GET', '/version', undefined, {
        authorization: `PVEAPIToken ${id}=${secret}`,
      });
      expect(reply.status).toBe(200);
    });

    it('has no ticket if there is nothing it knows', async () => {
      for (const authorization of ['', 'Bearer x', 'Basic cm9vdA=='])
        expect(await client.send('GET', '/version', undefined, { authorization })).toMatchObject({
          status: 401,
          reason: 'No ticket',
          text: '',
          connection: 'close',
        });
    });

    it('is not told why it is refused', async () => {
      const { world, clock } = context;
      addUser(world, { id: 'gone@pve', enabled: false });
      addToken(world, { id: 'gone@pve!ci', secret: 's' });
      addToken(world, { id: 'old@pve!ci', secret: 's', expire: clock.unixSeconds() - 10 });
      for (const [id, secret] of [
        [simulator.token.id, 'no'],
        ['hatchery@pve!none', 's'],
        ['nobody@pve!ci', 's'],
        ['gone@pve!ci', 's'],
        ['old@pve!ci', 's'],
        ['nonsense', 's'],
      ])
        expect(await as(id!, secret!)).toMatchObject({
          status: 401,
          reason: 'Authentication failed!',
          text: '',
        });
    });

    it('has no more rights than its user, unless it has all of them', async () => {
      const { world } = context;
      addUser(world, {
        id: 'alice@pve',
        acl: [{ path: '/vms/100', privileges: ['VM.Audit', 'VM.PowerMgmt'] }],
      });
      const described = new Set(['alice@pve']);
      addToken(world, { id: 'alice@pve!all', secret: 's', privsep: false }, described);
      const acl = [{ path: '/vms', privileges: ['VM.Audit', 'VM.Clone'] }];
      addToken(world, { id: 'alice@pve!some', secret: 's', acl }, described);
      const rights = async (id: string): Promise<unknown> =>
        ((await as(id, 's', '/access/permissions?path=/vms/100')).json.data as Record<string, unknown>)[
          '/vms/100'
        ];
      expect(await rights('alice@pve!all')).toEqual({ 'VM.Audit': 1, 'VM.PowerMgmt': 1 });
      expect(await rights('alice@pve!some')).toEqual({ 'VM.Audit': 1 });
    });

    it('may not ask for a ticket', async () => {
      const reply = await client.post('/access/ticket', { username: 'root@pam', password: 'x' });
      expect(reply).toMatchObject({
        status: 403,
        reason:
          "Permission check failed (URI '/access/ticket' not available with API token, need proper ticket.)",
      });
    });
  });

  it('needs no sign-in for the list of realms', async () => {
    const reply = await anonymous('GET', '/access/domains');
    expect(reply.json.data).toEqual([
      expect.objectContaining({ realm: 'pam', type: 'pam' }),
      expect.objectContaining({ realm: 'pve', type: 'pve' }),
    ]);
    expect((await anonymous('GET', '/access/ticket')).json).toEqual({ data: null });
  });
});

describe('signing in to Proxmox 8.4', () => {
  it('tells why it refuses', async () => {
    const context = createContext({ timeScale: 0.02, world: { version: '8.4' } });
    const simulator = await startProxmoxSimulator(context);
    const client = new WireClient(simulator);
    const { world, clock } = context;
    addUser(world, { id: 'gone@pve', enabled: false });
    addUser(world, { id: 'left@pve', expire: clock.unixSeconds() - 10 });
    addToken(world, { id: 'old@pve!ci', secret: 's', expire: clock.unixSeconds() - 10 });
    const reasonOf = async (headers: Record<string, string>): Promise<string> =>
      (await client.send('GET', '/version', undefined, { authorization: '', ...headers })).reason;
    const token = (text: string): Promise<string> => reasonOf({ authorization: `PVEAPIToken=${text}` });
    expect(await token(`${simulator.token.id}=no`)).toBe('invalid token value!');
    expect(await token('hatchery@pve!none=s')).toBe("no such token 'none' for user 'hatchery@pve'");
    expect(await token('nobody@pve!ci=s')).toBe("no such user ('nobody@pve')");
    expect(await token('gone@pve!ci=s')).toBe("user 'gone@pve' is disabled");
    expect(await token('left@pve!ci=s')).toBe("user 'left@pve' access expired");
    expect(await token('old@pve!ci=s')).toBe("token 'ci' access expired");
    expect(await reasonOf({ cookie: 'PVEAuthCookie=PVE:root@pam:00000000::abcd' })).toBe(
      'permission denied - invalid PVE ticket',
    );
    expect(await reasonOf({})).toBe('No ticket');
    client.close();
    await simulator.stop();
    context.close();
  });
});
