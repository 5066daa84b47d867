import { Agent, request } from 'node:https';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createContext } from '../../src/simulators/create-context.js';
import {
  startGuacamoleSimulator,
  type GuacamoleSimulator,
} from '../../src/simulators/guacamole/guacamole-simulator.js';

const DATA = 'session/data/postgresql';

let context: ReturnType<typeof createContext>;
let simulator: GuacamoleSimulator;
let agent: Agent;
let token: string;

beforeEach(async () => {
  context = createContext({ timeScale: 0.001 });
  simulator = await startGuacamoleSimulator(context, {});
  agent = new Agent({ keepAlive: true, ca: simulator.caPem });
  token = await signIn(simulator.username, simulator.password);
});

afterEach(async () => {
  agent.destroy();
  await simulator.stop();
  context.close();
});

interface Answer {
  status: number;
  body: Body;
}

/** Whatever an answer may hold; a test looks only at what its answer has. */
interface Body {
  readonly identifier: string;
  readonly name: string;
  readonly authToken: string;
  readonly message: string;
  readonly attributes: Record<string, unknown>;
  readonly childConnections: readonly Body[];
  readonly childConnectionGroups: readonly Body[];
}

function send(
  method: string,
  path: string,
  body: string | undefined,
  headers: Record<string, string>,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request(`${simulator.endpoint}/api/${path}`, { method, agent, headers }, (incoming) => {
      const chunks: Buffer[] = [];
      incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
      incoming.on('end', () => {
        const text = Buffer.concat(chunks).toString('utf8');
        resolve({ status: incoming.statusCode ?? 0, body: (text === '' ? {} : JSON.parse(text)) as Body });
      });
    });
    sent.on('error', reject);
    sent.end(body);
  });
}

const call = (method: string, path: string, body?: unknown, as = token): Promise<Answer> =>
  send(method, path, body === undefined ? undefined : JSON.stringify(body), {
    'content-type': 'application/json',
    'guacamole-token': as,
  });

async function login(username: string, password: string): Promise<Answer> {
  const form = new URLSearchParams({ username, password }).toString();
  return send('POST', 'tokens', form, { 'content-type': 'application/x-www-form-urlencoded' });
}
const signIn = async (username: string, password: string): Promise<string> =>
  (await login(username, password)).body.authToken;

const group = async (name = 'class-l3', parentIdentifier = 'ROOT'): Promise<string> =>
  (
    await call('POST', `${DATA}/connectionGroups`, {
      name,
      parentIdentifier,
      type: 'ORGANIZATIONAL',
      attributes: {},
    })
  ).body.identifier;
const connection = (parentIdentifier: string, name = 'vm-alice'): Promise<Answer> =>
  call('POST', `${DATA}/connections`, {
    name,
    parentIdentifier,
    protocol: 'rdp',
    parameters: { hostname: '10.20.0.9', port: '3389' },
    attributes: {},
  });
const user = (username = 'alice', more: object = {}): Promise<Answer> =>
  call('POST', `${DATA}/users`, { username, attributes: {}, ...more });
const add = (path: string, value = 'READ'): object => ({ op: 'add', path, value });

describe('sessions', () => {
  it('gives a token for a form and refuses a wrong password with INVALID_CREDENTIALS', async () => {
    expect((await login(simulator.username, simulator.password)).body).toMatchObject({
      username: 'hatchery',
      dataSource: 'postgresql',
    });
    expect(await login(simulator.username, 'wrong')).toMatchObject({
      status: 403,
      body: { type: 'INVALID_CREDENTIALS', expected: [{ name: 'username' }, {}] },
    });
  });

  it('answers an unknown or expired token with 403 PERMISSION_DENIED', async () => {
    simulator.expireSessions();
    expect(await call('GET', `${DATA}/connections`)).toMatchObject({
      status: 403,
      body: { type: 'PERMISSION_DENIED' },
    });
  });

  it('ends a session that was idle for too long', async () => {
    const other = await startGuacamoleSimulator(context, { sessionTimeoutMs: -1 });
    simulator = other;
    expect(
      await call('GET', `${DATA}/self`, undefined, await signIn(other.username, other.password)),
    ).toMatchObject({ status: 403 });
    await other.stop();
    simulator = await startGuacamoleSimulator(context, {});
  });

  it('forgets a token at DELETE, and knows it no more', async () => {
    expect((await call('DELETE', `tokens/${token}`)).status).toBe(204);
    expect(await call('DELETE', `tokens/${token}`)).toMatchObject({
      status: 404,
      body: { type: 'NOT_FOUND' },
    });
  });
});

describe('connections and groups', () => {
  it('numbers objects with decimal strings and shows them in the tree without parameters', async () => {
    const id = await group();
    const made = await connection(id);
    expect(made).toMatchObject({
      status: 200,
      body: { identifier: expect.stringMatching(/^\d+$/), parentIdentifier: id },
    });
    const tree = (await call('GET', `${DATA}/connectionGroups/ROOT/tree`)).body;
    const child = tree.childConnectionGroups.find((one: { name: string }) => one.name === 'class-l3');
    expect(child?.childConnections).toMatchObject([{ name: 'vm-alice', identifier: made.body.identifier }]);
    expect(child?.childConnections[0]).not.toHaveProperty('parameters');
    expect((await call('GET', `${DATA}/connections/${made.body.identifier}/parameters`)).body).toEqual({
      hostname: '10.20.0.9',
      port: '3389',
    });
  });

  it('refuses the same name under the same parent with 400 and its exact text', async () => {
    const id = await group();
    await connection(id);
    expect(await connection(id)).toMatchObject({
      status: 400,
      body: { type: 'BAD_REQUEST', message: 'The connection "vm-alice" already exists.' },
    });
    expect(
      (
        await call('POST', `${DATA}/connectionGroups`, {
          name: 'class-l3',
          parentIdentifier: 'ROOT',
          type: 'ORGANIZATIONAL',
        })
      ).body.message,
    ).toBe('The connection group "class-l3" already exists.');
    expect((await connection(await group('other'))).status).toBe(200);
  });

  it('replaces all parameters at PUT', async () => {
    const { identifier } = (await connection('ROOT')).body;
    await call('PUT', `${DATA}/connections/${identifier}`, {
      name: 'vm-alice',
      parentIdentifier: 'ROOT',
      protocol: 'rdp',
      parameters: { port: '3390' },
    });
    expect((await call('GET', `${DATA}/connections/${identifier}/parameters`)).body).toEqual({
      port: '3390',
    });
  });

  it('deletes everything inside a group together with it', async () => {
    const outer = await group();
    const inner = await group('inner', outer);
    const { identifier } = (await connection(inner)).body;
    expect((await call('DELETE', `${DATA}/connectionGroups/${outer}`)).status).toBe(204);
    expect(simulator.connections().has(identifier)).toBe(false);
    expect(simulator.groups().size).toBe(0);
    // The line of a request is written when its answer has left; one more round trip and it is there.
    await call('GET', `${DATA}/self`);
    const gone = context.journal.read().filter((line) => line.effect && line.op?.endsWith('.delete'));
    expect(gone.map((line) => `${line.op} ${line.resource}`).sort()).toEqual(
      [
        `guacamole.connection.delete ${identifier}`,
        `guacamole.group.delete ${inner}`,
        `guacamole.group.delete ${outer}`,
      ].sort(),
    );
  });

  it('answers 404 for what is not there, 500 for a parent that is not there', async () => {
    expect(await call('GET', `${DATA}/connections/999`)).toMatchObject({
      status: 404,
      body: { type: 'NOT_FOUND' },
    });
    expect(await call('DELETE', `${DATA}/users/nobody`)).toMatchObject({ status: 404 });
    expect(await connection('999')).toMatchObject({ status: 500, body: { type: 'INTERNAL_ERROR' } });
    expect(await call('GET', 'session/data/mysql/connections')).toMatchObject({ status: 404 });
    expect((await call('GET', 'nothing/here')).status).toBe(404);
  });

  it('refuses a parameter over 4096 characters', async () => {
    const body = {
      name: 'x',
      parentIdentifier: 'ROOT',
      protocol: 'ssh',
      parameters: { 'private-key': 'k'.repeat(4097) },
    };
    expect((await call('POST', `${DATA}/connections`, body)).status).toBe(413);
  });
});

describe('users and permissions', () => {
  it('keeps declared attributes only and never shows a password', async () => {
    await user('alice', {
      password: 'secret',
      attributes: { 'guac-full-name': 'Alice', 'guac-organization': 'hatchery d-1', mark: 'x' },
    });
    const shown = (await call('GET', `${DATA}/users/alice`)).body;
    expect(shown.attributes).toMatchObject({
      'guac-full-name': 'Alice',
      'guac-organization': 'hatchery d-1',
      disabled: null,
    });
    expect(shown.attributes).not.toHaveProperty('mark');
    expect(JSON.stringify(shown)).not.toContain('secret');
    expect(JSON.stringify(context.journal.read())).not.toContain('"secret"');
    expect((await user('alice')).body.message).toBe('User "alice" already exists.');
  });

  it('adds and removes permissions one by one; repeating one changes nothing', async () => {
    await user();
    const id = await group();
    const { identifier } = (await connection(id)).body;
    const patch = [add(`/connectionPermissions/${identifier}`), add(`/connectionGroupPermissions/${id}`)];
    for (const _ of [1, 2])
      expect((await call('PATCH', `${DATA}/users/alice/permissions`, patch)).status).toBe(204);
    expect((await call('GET', `${DATA}/users/alice/permissions`)).body).toMatchObject({
      connectionPermissions: { [identifier]: ['READ'] },
      connectionGroupPermissions: { [id]: ['READ'] },
      userPermissions: { alice: ['READ'] },
      systemPermissions: [],
    });
    expect(context.journal.read().filter((line) => line.op === 'guacamole.permission.add')).toHaveLength(2);
    await call('PATCH', `${DATA}/users/alice/permissions`, [
      { op: 'remove', path: `/connectionPermissions/${identifier}`, value: 'READ' },
    ]);
    expect(simulator.permissions('alice')).toMatchObject({ connectionPermissions: {} });
  });

  it('refuses other patches with 400 and permissions on nothing with 500', async () => {
    await user();
    const patch = (entry: object): Promise<Answer> =>
      call('PATCH', `${DATA}/users/alice/permissions`, [entry]);
    expect(await patch(add('/nonsense/1'))).toMatchObject({
      status: 400,
      body: { message: 'Unsupported patch path: "/nonsense/1"' },
    });
    expect((await patch({ op: 'replace', path: '/systemPermissions', value: 'ADMINISTER' })).status).toBe(
      400,
    );
    expect((await patch(add('/connectionPermissions/999'))).status).toBe(500);
  });

  it('shows a student only what the student may read', async () => {
    await user('alice', { password: 'pw' });
    const id = await group();
    const mine = (await connection(id, 'vm-alice')).body.identifier;
    await connection(id, 'vm-bob');
    await call('PATCH', `${DATA}/users/alice/permissions`, [
      add(`/connectionPermissions/${mine}`),
      add(`/connectionGroupPermissions/${id}`),
    ]);
    const alice = await signIn('alice', 'pw');
    const tree = (await call('GET', `${DATA}/connectionGroups/ROOT/tree`, undefined, alice)).body;
    expect(tree.childConnectionGroups[0]?.childConnections.map((one: { name: string }) => one.name)).toEqual([
      'vm-alice',
    ]);
    expect(await call('DELETE', `${DATA}/connections/${mine}`, undefined, alice)).toMatchObject({
      status: 403,
      body: { type: 'PERMISSION_DENIED' },
    });
    expect(await user('mallory', {})).toMatchObject({ status: 200 });
    expect((await call('POST', `${DATA}/users`, { username: 'eve' }, alice)).status).toBe(403);
  });

  it('removes the permissions of a connection together with it', async () => {
    await user();
    const { identifier } = (await connection('ROOT')).body;
    await call('PATCH', `${DATA}/users/alice/permissions`, [add(`/connectionPermissions/${identifier}`)]);
    await call('DELETE', `${DATA}/connections/${identifier}`);
    expect(simulator.permissions('alice')).toMatchObject({ connectionPermissions: {} });
  });
});

describe('an account that may only create', () => {
  beforeEach(() => {
    const own = context.world.guacamole.users.get('hatchery');
    own?.permissions.set('system', new Set(['CREATE_CONNECTION', 'CREATE_CONNECTION_GROUP', 'CREATE_USER']));
  });

  it('may do everything with what it made', async () => {
    const id = await group();
    const { identifier } = (await connection(id)).body;
    await user();
    const patch = [add(`/connectionPermissions/${identifier}`), add(`/connectionGroupPermissions/${id}`)];
    expect((await call('PATCH', `${DATA}/users/alice/permissions`, patch)).status).toBe(204);
    for (const path of [`connections/${identifier}`, `connectionGroups/${id}`, 'users/alice'])
      expect((await call('DELETE', `${DATA}/${path}`)).status).toBe(204);
  });

  it('does not see what is not its own, and meets it only as a taken name', async () => {
    expect((await call('GET', `${DATA}/connections`)).body).toEqual({});
    expect((await call('GET', `${DATA}/users/c.martin`)).status).toBe(404);
    expect((await user('c.martin')).body.message).toBe('User "c.martin" already exists.');
    expect((await connection('ROOT', 'Salle 204')).status).toBe(400);
  });

  it('may not give a permission to a foreign account', async () => {
    const { identifier } = (await connection('ROOT')).body;
    context.world.guacamole.users.get('hatchery')?.permissions.set('user/c.martin', new Set(['READ']));
    const patch = [add(`/connectionPermissions/${identifier}`)];
    expect((await call('PATCH', `${DATA}/users/c.martin/permissions`, patch)).status).toBe(403);
    context.world.guacamole.users
      .get('hatchery')
      ?.permissions.set('user/c.martin', new Set(['READ', 'UPDATE']));
    expect((await call('PATCH', `${DATA}/users/c.martin/permissions`, patch)).status).toBe(204);
  });
});

describe('the world around us', () => {
  it('holds a user and a connection of somebody else', () => {
    expect(simulator.users()).toContain('c.martin');
    expect([...simulator.connections().values()].map(({ name }) => name)).toEqual(['Salle 204']);
  });

  it('keeps what a request did whose answer was cut', async () => {
    context.faults.add({ id: 'cut', match: { op: 'guacamole.user.create' }, when: 'after', effect: 'reset' });
    await expect(user()).rejects.toThrow();
    expect(simulator.users()).toContain('alice');
    const line = context.journal
      .read()
      .find(({ event, op }) => event === 'request' && op === 'guacamole.user.create');
    expect(line).toMatchObject({
      effect: true,
      answered: false,
      fault: 'cut',
      actor: 'hatchery',
      resource: 'alice',
    });
  });

  it('stops a request where a test holds it', async () => {
    context.holds.hold('guacamole.user.create', 'before');
    const made = user();
    await context.holds.reached('guacamole.user.create', 'before');
    expect(simulator.users()).not.toContain('alice');
    context.holds.release('guacamole.user.create', 'before');
    expect((await made).status).toBe(200);
  });
});
