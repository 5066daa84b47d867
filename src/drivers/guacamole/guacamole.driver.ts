import { randomBytes } from 'node:crypto';
import type { z } from 'zod';
import type { ServiceDefinition } from '../../core/definitions.js';
import { HatcheryError } from '../../core/errors.js';
import type { Call } from '../../ports/call.js';
import type { Clock } from '../../ports/clock.js';
import type { ConnectionSpec, DesktopGateway, GroupSpec, UserSpec } from '../../ports/desktop-gateway.js';
import type { Secret } from '../../ports/secrets.js';
import { checkAccount, type Finding } from './check-account.js';
import { GuacamoleSession, notGuacamole, type CallMetrics, type Reply } from './session.js';
import { SharedRead } from './shared-read.js';
import {
  created,
  groupMap,
  permissions,
  tree,
  user,
  type GroupMap,
  type PermissionChange,
  type Permissions,
  type Tree,
} from './wire.js';

const TIMEOUT_MS = 30_000;
const LEAST_TIMEOUT_MS = 2_000;
const SHARED_MS = 500;
const ROOT = 'ROOT';
/** The attribute of an account that holds our mark: the form of accounts calls it "Role", and nothing in Guacamole reads it. */
const MARK_ATTRIBUTE = 'guac-organizational-role';
const GROUPS_KEY = 'groups';

export interface GuacamoleOptions {
  readonly definition: ServiceDefinition;
  readonly password: Secret;
  readonly clock: Clock;
  readonly remoteTimeScale: number;
  readonly metrics?: CallMetrics;
}

interface Write {
  readonly op: string;
  readonly what: string;
  readonly method: 'POST' | 'PATCH' | 'DELETE';
  readonly path: string;
  readonly json?: unknown;
}

/**
 * Apache Guacamole over its REST API, in the data source that the sign-in names.
 * Nothing is ever edited (PUT replaces all parameters). One list of groups and one tree per group serve all callers of the same moment;
 * a second look, and a look that decides a removal, is always new.
 * Source: guacamole-client 1.6.0; never compared with a running Guacamole.
 */
export class GuacamoleDriver implements DesktopGateway {
  readonly service: string;
  readonly #session: GuacamoleSession;
  readonly #groups: SharedRead<GroupMap>;
  readonly #trees: SharedRead<Tree | undefined>;

  constructor({ definition, password, clock, remoteTimeScale, metrics }: GuacamoleOptions) {
    this.service = definition.name;
    const timeoutMs = Math.max(LEAST_TIMEOUT_MS, TIMEOUT_MS * remoteTimeScale);
    this.#session = new GuacamoleSession({ definition, password, clock, timeoutMs, metrics });
    this.#groups = new SharedRead(clock, SHARED_MS * remoteTimeScale);
    this.#trees = new SharedRead(clock, SHARED_MS * remoteTimeScale);
  }

  async findGroup(name: string, call: Call): Promise<{ id: string } | undefined> {
    return this.#groupNamed(name, call, false);
  }

  async ensureGroup({ name }: GroupSpec, call: Call): Promise<{ id: string }> {
    const there = await this.#groupNamed(name, call, false);
    if (there !== undefined) return there;
    const json = { parentIdentifier: ROOT, name, type: 'ORGANIZATIONAL', attributes: {} };
    const what = `make the connection group ${name} in ${this.service}`;
    const reply = await this.#write(
      { op: 'create-group', what, method: 'POST', path: 'connectionGroups', json },
      call,
    );
    this.#groups.forget(GROUPS_KEY);
    if (reply.is === 'ok') return { id: read(created, reply, what).identifier };
    return (await this.#groupNamed(name, call, true)) ?? unseen(what);
  }

  async removeGroup(name: string, call: Call): Promise<{ existed: boolean }> {
    const there = await this.#groupNamed(name, call, true);
    if (there === undefined) return { existed: false };
    const inside = await this.#tree(there.id, call, true);
    const rest = [...(inside?.childConnections ?? []), ...(inside?.childConnectionGroups ?? [])];
    if (rest.length > 0)
      throw new HatcheryError(
        'not-applicable',
        `Unable to remove the connection group ${name} from ${this.service}: ${rest.length} other connections or groups are in it`,
        {
          retry: 'after-fix',
          hint: 'Guacamole would delete them with the group; move them elsewhere, then retry',
          facts: { inside: rest.slice(0, 20).map((one) => one.name) },
        },
      );
    const what = `remove the connection group ${name} from ${this.service}`;
    const reply = await this.#write(
      { op: 'delete-group', what, method: 'DELETE', path: `connectionGroups/${segment(there.id)}` },
      call,
    );
    this.#groups.forget(GROUPS_KEY);
    this.#trees.forget(there.id);
    return { existed: reply.is === 'ok' };
  }

  async findUser(login: string, mark: string, call: Call): Promise<{ ours: boolean } | undefined> {
    const what = `look for the account ${login} in ${this.service}`;
    const reply = await this.#read('get-user', what, `users/${segment(login)}`, call);
    if (reply.is !== 'ok') return undefined;
    return { ours: read(user, reply, what).attributes?.[MARK_ATTRIBUTE] === mark };
  }

  async ensureUser(spec: UserSpec, call: Call): Promise<{ ours: boolean }> {
    const { login, fullName, email, password, mark } = spec;
    const there = await this.findUser(login, mark, call);
    if (there !== undefined) return there;
    const what = `make the account ${login} in ${this.service}`;
    const json = {
      username: login,
      password: password ?? randomBytes(24).toString('base64url'),
      attributes: { 'guac-full-name': fullName, 'guac-email-address': email ?? '', [MARK_ATTRIBUTE]: mark },
    };
    const reply = await this.#write({ op: 'create-user', what, method: 'POST', path: 'users', json }, call);
    if (reply.is === 'ok') return { ours: true };
    return (await this.findUser(login, mark, call)) ?? unseen(what);
  }

  async removeUser(login: string, mark: string, call: Call): Promise<{ existed: boolean }> {
    const there = await this.findUser(login, mark, call);
    if (there?.ours !== true) return { existed: false };
    const granted = await this.#permissionsOf(login, call);
    const left = granted === undefined ? [] : grantsBesidesItself(granted, login);
    if (left.length > 0)
      throw new HatcheryError(
        'not-applicable',
        `Unable to remove the account ${login} from ${this.service}: it still has ${left.length} other permissions`,
        {
          retry: 'after-fix',
          hint: 'somebody else gave it more; take that back in Guacamole and retry, or keep the account',
          facts: { left: left.slice(0, 20) },
        },
      );
    const what = `remove the account ${login} from ${this.service}`;
    const reply = await this.#write(
      { op: 'delete-user', what, method: 'DELETE', path: `users/${segment(login)}` },
      call,
    );
    return { existed: reply.is === 'ok' };
  }

  async findConnection(groupId: string, name: string, call: Call): Promise<{ id: string } | undefined> {
    return this.#connectionNamed(groupId, name, call, false);
  }

  async ensureConnection(spec: ConnectionSpec, call: Call): Promise<{ id: string }> {
    const { groupId, name, protocol, hostname, port, parameters } = spec;
    const there = await this.#connectionNamed(groupId, name, call, false);
    if (there !== undefined) return there;
    const what = `make the connection ${name} in ${this.service}`;
    const json = {
      parentIdentifier: groupId,
      name,
      protocol,
      parameters: { ...parameters, hostname, port: String(port) },
      attributes: {},
    };
    const reply = await this.#write(
      { op: 'create-connection', what, method: 'POST', path: 'connections', json },
      call,
    );
    this.#trees.forget(groupId);
    if (reply.is === 'ok') return { id: read(created, reply, what).identifier };
    return (await this.#connectionNamed(groupId, name, call, true)) ?? unseen(what);
  }

  async removeConnection(groupId: string, name: string, call: Call): Promise<{ existed: boolean }> {
    const there =
      (await this.#connectionNamed(groupId, name, call, false)) ??
      (await this.#connectionNamed(groupId, name, call, true));
    if (there === undefined) return { existed: false };
    const what = `remove the connection ${name} from ${this.service}`;
    const reply = await this.#write(
      { op: 'delete-connection', what, method: 'DELETE', path: `connections/${segment(there.id)}` },
      call,
    );
    this.#trees.forget(groupId);
    return { existed: reply.is === 'ok' };
  }

  async hasPermission(login: string, connectionId: string, groupId: string, call: Call): Promise<boolean> {
    const granted = await this.#permissionsOf(login, call);
    return (
      granted !== undefined &&
      mayRead(granted.connectionPermissions, connectionId) &&
      mayRead(granted.connectionGroupPermissions, groupId)
    );
  }

  async grant(login: string, connectionId: string, groupId: string, call: Call): Promise<void> {
    const what = `let ${login} use connection ${connectionId} of ${this.service}`;
    const reply = await this.#change(
      login,
      [onConnection('add', connectionId), onGroup('add', groupId)],
      what,
      call,
    );
    if (reply.is !== 'ok')
      throw new HatcheryError('remote-refused', `Unable to ${what}: there is no such account`, {
        retry: 'later',
      });
  }

  async revoke(
    login: string,
    connectionId: string,
    groupId: string,
    call: Call,
  ): Promise<{ existed: boolean }> {
    const granted = await this.#permissionsOf(login, call);
    if (granted === undefined) return { existed: false };
    const existed = mayRead(granted.connectionPermissions, connectionId);
    const changes = existed ? [onConnection('remove', connectionId)] : [];
    if (mayRead(granted.connectionGroupPermissions, groupId)) {
      const inGroup = (await this.#tree(groupId, call, false))?.childConnections ?? [];
      const others = inGroup.filter(
        ({ identifier }) => identifier !== connectionId && mayRead(granted.connectionPermissions, identifier),
      );
      if (others.length === 0) changes.push(onGroup('remove', groupId));
    }
    if (changes.length === 0) return { existed: false };
    const reply = await this.#change(
      login,
      changes,
      `take connection ${connectionId} of ${this.service} back from ${login}`,
      call,
    );
    return { existed: existed && reply.is === 'ok' };
  }

  link(connectionId: string): string {
    const source = this.#session.dataSource;
    if (source === undefined)
      throw new HatcheryError(
        'service-unreachable',
        `Unable to make the link to connection ${connectionId}: nobody has signed in to ${this.service} yet`,
        {
          retry: 'later',
        },
      );
    return `${this.#session.base}/#/client/${Buffer.from(`${connectionId}\0c\0${source}`, 'utf8').toString('base64url')}`;
  }

  async check(call: Call): Promise<readonly Finding[]> {
    return checkAccount(this.#session, this.service, call.signal);
  }

  /** Gives the session back. Calls under way fail. */
  async close(): Promise<void> {
    await this.#session.close();
  }

  async #groupNamed(name: string, call: Call, fresh: boolean): Promise<{ id: string } | undefined> {
    const what = `list the connection groups of ${this.service}`;
    const list = async (): Promise<GroupMap> =>
      read(groupMap, await this.#read('list-groups', what, 'connectionGroups', unhurried()), what);
    const groups = await this.#groups.get(GROUPS_KEY, list, { fresh, signal: call.signal });
    const found = Object.values(groups).find(
      (group) => group.name === name && (group.parentIdentifier ?? ROOT) === ROOT,
    );
    return found && { id: found.identifier };
  }

  async #connectionNamed(
    groupId: string,
    name: string,
    call: Call,
    fresh: boolean,
  ): Promise<{ id: string } | undefined> {
    const inside = await this.#tree(groupId, call, fresh);
    const found = inside?.childConnections?.find((connection) => connection.name === name);
    return found && { id: found.identifier };
  }

  /** `undefined` = there is no such group. */
  async #tree(groupId: string, call: Call, fresh: boolean): Promise<Tree | undefined> {
    const what = `list the connection group ${groupId} of ${this.service}`;
    const list = async (): Promise<Tree | undefined> => {
      const reply = await this.#read(
        'get-tree',
        what,
        `connectionGroups/${segment(groupId)}/tree`,
        unhurried(),
      );
      return reply.is === 'ok' ? read(tree, reply, what) : undefined;
    };
    return this.#trees.get(groupId, list, { fresh, signal: call.signal });
  }

  /** `undefined` = there is no such account. */
  async #permissionsOf(login: string, call: Call): Promise<Permissions | undefined> {
    const what = `read what ${login} may do in ${this.service}`;
    const reply = await this.#read('get-permissions', what, `users/${segment(login)}/permissions`, call);
    return reply.is === 'ok' ? read(permissions, reply, what) : undefined;
  }

  #change(login: string, json: readonly PermissionChange[], what: string, call: Call): Promise<Reply> {
    const path = `users/${segment(login)}/permissions`;
    return this.#write({ op: 'change-permissions', what, method: 'PATCH', path, json }, call);
  }

  #read(op: string, what: string, path: string, { signal }: Pick<Call, 'signal'>): Promise<Reply> {
    return this.#session.ask({ op, what, method: 'GET', path, signal });
  }

  #write(write: Write, { signal, beforeSend }: Call): Promise<Reply> {
    return this.#session.ask({ ...write, signal, beforeSend });
  }
}

/** A shared read belongs to no caller; it ends by its own time-out. */
const unhurried = (): Pick<Call, 'signal'> => ({ signal: new AbortController().signal });

const segment = encodeURIComponent;
const onConnection = (op: 'add' | 'remove', id: string): PermissionChange => ({
  op,
  path: `/connectionPermissions/${id}`,
  value: 'READ',
});
const onGroup = (op: 'add' | 'remove', id: string): PermissionChange => ({
  op,
  path: `/connectionGroupPermissions/${id}`,
  value: 'READ',
});

function read<T>(schema: z.ZodType<T>, reply: Reply, what: string): T {
  const parsed = schema.safeParse(reply.is === 'ok' ? reply.body : undefined);
  if (parsed.success) return parsed.data;
  throw notGuacamole({ what });
}

function mayRead(granted: Readonly<Record<string, string[]>> | null | undefined, id: string): boolean {
  return granted?.[id]?.includes('READ') ?? false;
}

/** Every account may read itself: that is no reason to keep it. */
function grantsBesidesItself(granted: Permissions, login: string): string[] {
  const { systemPermissions, ...byKind } = granted;
  const objects = Object.entries(byKind).flatMap(([kind, byId]) =>
    Object.entries(byId ?? {})
      .filter(([id, values]) => values.length > 0 && !(kind === 'userPermissions' && id === login))
      .map(([id]) => `${kind}/${id}`),
  );
  return [...objects, ...(systemPermissions ?? [])];
}

function unseen(what: string): never {
  throw new HatcheryError(
    'permission-missing',
    `Unable to ${what}: the name is taken by something that our account cannot see`,
    {
      retry: 'after-fix',
      hint: 'give our account the right to read it, or rename it',
    },
  );
}
