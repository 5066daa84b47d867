import { randomBytes } from 'node:crypto';
import type { ServiceDefinition } from '../../core/definitions.js';
import { HatcheryError } from '../../core/errors.js';
import type { Call } from '../../ports/call.js';
import type { Clock } from '../../ports/clock.js';
import type {
  ConnectionSpec,
  DesktopGateway,
  FoundConnection,
  GroupSpec,
  UserSpec,
} from '../../ports/desktop-gateway.js';
import type { Secret } from '../../ports/secrets.js';
import { checkAccount, type Finding } from './check-account.js';
import { grantsOf, holds, maySee, mayUse, onConnection, onGroup } from './grants.js';
import { fresh, GuacamoleLooks, read, ROOT, shared, type Look } from './looks.js';
import { GuacamoleSession, type CallMetrics, type DataRequest, type Reply } from './session.js';
import { created, type PermissionChange } from './wire.js';

const TIMEOUT_MS = 30_000;
const LEAST_TIMEOUT_MS = 2_000;
const SHARED_MS = 500;
/** The attribute of an account that holds our mark: the form of accounts calls it "Role", and nothing in Guacamole reads it. */
const MARK_ATTRIBUTE = 'guac-organizational-role';
/**
 * The parameter of a connection that holds our mark. Attributes that Guacamole does not declare are dropped, and of the declared ones none is free;
 * parameters are kept whatever their names, and guacd is given only those that it asks for.
 */
const MARK_PARAMETER = 'hatchery-mark';

export interface GuacamoleOptions {
  readonly definition: ServiceDefinition;
  readonly password: Secret;
  readonly clock: Clock;
  readonly remoteTimeScale: number;
  readonly metrics?: CallMetrics;
}

type Write = Omit<DataRequest, 'signal' | 'beforeSend'>;

/**
 * Apache Guacamole over its REST API, in the data source that the sign-in names.
 * Nothing is ever edited (PUT replaces all parameters). One list of groups and one tree per group serve all callers of the same moment;
 * a second look, and a look that decides a removal, is always new.
 * Source: guacamole-client 1.6.0; never compared with a running Guacamole.
 */
export class GuacamoleDriver implements DesktopGateway {
  readonly service: string;
  readonly #session: GuacamoleSession;
  readonly #looks: GuacamoleLooks;

  constructor({ definition, password, clock, remoteTimeScale, metrics }: GuacamoleOptions) {
    this.service = definition.name;
    const timeoutMs = Math.max(LEAST_TIMEOUT_MS, TIMEOUT_MS * remoteTimeScale);
    this.#session = new GuacamoleSession({ definition, password, clock, timeoutMs, metrics });
    this.#looks = new GuacamoleLooks(this.#session, this.service, clock, SHARED_MS * remoteTimeScale);
  }

  async findGroup(name: string, call: Call): Promise<{ id: string } | undefined> {
    return this.#looks.group(name, shared(call));
  }

  async ensureGroup({ name }: GroupSpec, call: Call): Promise<{ id: string }> {
    const there = await this.#looks.group(name, shared(call));
    if (there !== undefined) return there;
    const json = { parentIdentifier: ROOT, name, type: 'ORGANIZATIONAL', attributes: {} };
    const what = `make the connection group ${name} in ${this.service}`;
    const reply = await this.#write(
      { op: 'create-group', what, method: 'POST', path: 'connectionGroups', json },
      call,
    );
    this.#looks.groupsChanged();
    if (reply.is === 'ok') return { id: read(created, reply, what).identifier };
    return (await this.#looks.group(name, fresh(call))) ?? unseen(what);
  }

  async removeGroup(name: string, call: Call): Promise<{ existed: boolean }> {
    const there = await this.#looks.group(name, fresh(call));
    if (there === undefined) return { existed: false };
    const inside = await this.#looks.tree(there.id, fresh(call));
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
    this.#looks.groupsChanged();
    this.#looks.treeChanged(there.id);
    return { existed: reply.is === 'ok' };
  }

  async findUser(login: string, mark: string, call: Call): Promise<{ ours: boolean } | undefined> {
    const account = await this.#looks.account(login, call);
    return account && { ours: account.attributes?.[MARK_ATTRIBUTE] === mark };
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
    const granted = await this.#looks.permissions(login, call);
    const left = granted === undefined ? [] : grantsOf(granted, login);
    if (left.length > 0)
      throw new HatcheryError(
        'not-applicable',
        `Unable to remove the account ${login} from ${this.service}: it still has ${left.length} permissions`,
        {
          retry: 'after-fix',
          hint: 'look at them in Guacamole: take back what is not wanted there and retry, or keep the account',
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

  async findConnection(groupId: string, name: string, call: Call): Promise<FoundConnection | undefined> {
    return this.#connection(groupId, name, shared(call));
  }

  async ensureConnection(spec: ConnectionSpec, call: Call): Promise<{ id: string }> {
    const { groupId, name, protocol, hostname, port, parameters, mark } = spec;
    const what = `make the connection ${name} in ${this.service}`;
    const ours = (found: FoundConnection): { id: string } =>
      found.mark === mark ? { id: found.id } : foreign(what, found);
    const there = await this.#connection(groupId, name, shared(call));
    if (there !== undefined) return ours(there);
    const json = {
      parentIdentifier: groupId,
      name,
      protocol,
      parameters: { ...parameters, hostname, port: String(port), [MARK_PARAMETER]: mark },
      attributes: {},
    };
    const reply = await this.#write(
      { op: 'create-connection', what, method: 'POST', path: 'connections', json },
      call,
    );
    this.#looks.treeChanged(groupId);
    if (reply.is === 'ok') return { id: read(created, reply, what).identifier };
    return ours((await this.#connection(groupId, name, fresh(call))) ?? unseen(what));
  }

  async removeConnection(
    groupId: string,
    name: string,
    isOurs: (found: FoundConnection) => boolean,
    call: Call,
  ): Promise<{ existed: boolean }> {
    const there =
      (await this.#connection(groupId, name, shared(call))) ??
      (await this.#connection(groupId, name, fresh(call)));
    if (there === undefined) return { existed: false };
    const what = `remove the connection ${name} from ${this.service}`;
    if (!isOurs(there)) foreign(what, there);
    const reply = await this.#write(
      { op: 'delete-connection', what, method: 'DELETE', path: `connections/${segment(there.id)}` },
      call,
    );
    this.#looks.treeChanged(groupId);
    return { existed: reply.is === 'ok' };
  }

  async hasPermission(login: string, connectionId: string, groupId: string, call: Call): Promise<boolean> {
    const granted = await this.#looks.permissions(login, call);
    return granted !== undefined && mayUse(granted, connectionId) && maySee(granted, groupId);
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
    const granted = await this.#looks.permissions(login, call);
    if (granted === undefined) return { existed: false };
    const existed = mayUse(granted, connectionId);
    const changes = existed ? [onConnection('remove', connectionId)] : [];
    if (maySee(granted, groupId)) {
      const inGroup = (await this.#looks.tree(groupId, shared(call)))?.childConnections ?? [];
      const others = inGroup.filter(
        ({ identifier }) => identifier !== connectionId && mayUse(granted, identifier),
      );
      if (others.length === 0) changes.push(onGroup('remove', groupId));
    }
    if (changes.length === 0) return { existed: false };
    const what = `take connection ${connectionId} of ${this.service} back from ${login}`;
    const reply = await this.#change(login, changes, what, call);
    const after = await this.#looks.permissions(login, call);
    if (after && changes.some((change) => holds(after, change)))
      throw new HatcheryError(
        'remote-refused',
        `Unable to ${what}: it said yes, but reading back shows the permission still there`,
        { retry: 'later' },
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

  async #connection(groupId: string, name: string, look: Look): Promise<FoundConnection | undefined> {
    const there = await this.#looks.connection(groupId, name, look);
    const all = there && (await this.#looks.parameters(there.id, look));
    if (there === undefined || all === undefined) return undefined;
    const { [MARK_PARAMETER]: mark, ...parameters } = all;
    return { id: there.id, mark, parameters };
  }

  #change(login: string, json: readonly PermissionChange[], what: string, call: Call): Promise<Reply> {
    const path = `users/${segment(login)}/permissions`;
    return this.#write({ op: 'change-permissions', what, method: 'PATCH', path, json }, call);
  }

  #write(write: Write, { signal, beforeSend }: Call): Promise<Reply> {
    return this.#session.ask({ ...write, signal, beforeSend });
  }
}

const segment = encodeURIComponent;

function foreign(what: string, { id, mark }: FoundConnection): never {
  throw new HatcheryError(
    'foreign-guest',
    `Unable to ${what}: connection ${id} has that name, and ${mark === undefined ? 'it does not carry our mark' : `its mark is "${mark}"`}`,
    {
      retry: 'after-fix',
      hint: 'it is not ours, so it stays as it is; rename it or move it to another group in Guacamole, then retry the run',
      facts: { connection: id },
    },
  );
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
