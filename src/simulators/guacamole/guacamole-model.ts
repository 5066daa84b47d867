import { randomUUID } from 'node:crypto';
import type {
  WorldGuacamole,
  WorldGuacamoleConnection,
  WorldGuacamoleGroup,
  WorldGuacamoleUser,
} from '../world.js';
import { badRequest, internalError, notFound, tooLong } from './guacamole-error.js';
import { PermissionSet, type ObjectKind, type PermissionChange } from './permissions.js';

export const ROOT = 'ROOT';
const PARAMETER_LIMIT = 4096;
const PROTOCOLS = ['kubernetes', 'rdp', 'ssh', 'telnet', 'vnc'];

/** The REST layer drops attributes that the schema does not declare, silently. */
const DECLARED = {
  connection: [
    'max-connections',
    'max-connections-per-user',
    'weight',
    'failover-only',
    'guacd-hostname',
    'guacd-port',
    'guacd-encryption',
  ],
  connectionGroup: ['max-connections', 'max-connections-per-user', 'enable-session-affinity'],
  user: [
    'guac-full-name', 'guac-email-address', 'guac-organization', 'guac-organizational-role', 'disabled', 'expired', 'timezone',
    'access-window-start', 'access-window-end', 'valid-from', 'valid-until',
  ], // prettier-ignore
};

export type JsonObject = Readonly<Record<string, unknown>>;

/** What a delete took with it. */
export interface Removed {
  readonly kind: 'connection' | 'connectionGroup';
  readonly id: string;
  readonly name: string;
  readonly parent: string;
}

/** The objects of one JDBC data source, with the refusals and cascades of the real one. Rights are the caller's business. */
export class GuacamoleModel {
  constructor(readonly world: WorldGuacamole) {}

  addUser(body: JsonObject): string {
    const login = stringOf(body['username']);
    if (login.trim() === '') throw badRequest('The username must not be blank.');
    if (this.world.users.has(login)) throw badRequest(`User "${login}" already exists.`);
    // A user made without a password has a random one that nobody knows.
    const password = stringOf(body['password']) || randomUUID();
    this.world.users.set(login, {
      password,
      attributes: declared('user', body['attributes']),
      permissions: new Map(),
    });
    this.permissionsOf(login).grant('user', login, ['READ']);
    return login;
  }

  /** Gives the way back to how everything is now. Numbers that were given out meanwhile stay given out, as in the database. */
  savepoint(): () => void {
    const { users, groups, connections } = this.world;
    const tables = [users, groups, connections].map((table) => {
      const rows = [...structuredClone(table)];
      return (): void => {
        table.clear();
        for (const [key, row] of rows) (table as Map<string, unknown>).set(key, row);
      };
    });
    return () => {
      for (const restore of tables) restore();
    };
  }

  updateUser(login: string, body: JsonObject): void {
    const user = this.user(login);
    user.attributes = declared('user', body['attributes']);
    user.password = stringOf(body['password']) || user.password;
  }

  removeUser(login: string): void {
    this.user(login);
    this.world.users.delete(login);
    this.#forgetPermissions('user', login);
  }

  addConnection(body: JsonObject): string {
    const connection = this.#readConnection(body);
    const id = String(this.world.nextConnectionId++);
    this.world.connections.set(id, connection);
    return id;
  }

  /** All parameters are replaced, also by none. */
  updateConnection(id: string, body: JsonObject): void {
    Object.assign(this.connection(id), this.#readConnection(body, id));
  }

  removeConnection(id: string): Removed {
    const { name, parent } = this.connection(id);
    this.world.connections.delete(id);
    this.#forgetPermissions('connection', id);
    return { kind: 'connection', id, name, parent };
  }

  addGroup(body: JsonObject): string {
    const group = this.#readGroup(body);
    const id = String(this.world.nextGroupId++);
    this.world.groups.set(id, group);
    return id;
  }

  updateGroup(id: string, body: JsonObject): void {
    Object.assign(this.group(id), this.#readGroup(body, id));
  }

  /** The database deletes in cascade: everything inside goes with the group, without a question. */
  removeGroup(id: string): Removed[] {
    const { name, parent } = this.group(id);
    const inside = [...this.world.groups]
      .filter(([, group]) => group.parent === id)
      .flatMap(([child]) => this.removeGroup(child));
    for (const [child, connection] of this.world.connections)
      if (connection.parent === id) inside.push(this.removeConnection(child));
    this.world.groups.delete(id);
    this.#forgetPermissions('connectionGroup', id);
    return [...inside, { kind: 'connectionGroup', id, name, parent }];
  }

  /** Gives the changes that changed something. A permission on an object that is not there breaks a foreign key: 500, and nothing is kept. */
  changePermissions(login: string, changes: readonly PermissionChange[]): PermissionChange[] {
    const permissions = this.permissionsOf(login);
    for (const change of changes) if (change.op === 'add' && !this.#exists(change)) throw internalError();
    return changes.filter((change) => permissions.apply(change));
  }

  permissionsOf(login: string): PermissionSet {
    return new PermissionSet(this.user(login).permissions);
  }

  connection(id: string): WorldGuacamoleConnection {
    const connection = this.world.connections.get(id);
    if (connection === undefined) throw notFound(id);
    return connection;
  }

  group(id: string): WorldGuacamoleGroup {
    const group = this.world.groups.get(id);
    if (group === undefined) throw notFound(id);
    return group;
  }

  user(login: string): WorldGuacamoleUser {
    const user = this.world.users.get(login);
    if (user === undefined) throw notFound(login);
    return user;
  }

  #exists(change: PermissionChange): boolean {
    if (change.kind === 'connection') return this.world.connections.has(change.id);
    if (change.kind === 'connectionGroup') return this.world.groups.has(change.id);
    if (change.kind === 'user') return this.world.users.has(change.id);
    return change.kind === 'system';
  }

  #forgetPermissions(kind: ObjectKind, id: string): void {
    for (const login of this.world.users.keys()) this.permissionsOf(login).forget(kind, id);
  }

  #readConnection(body: JsonObject, self?: string): WorldGuacamoleConnection {
    const name = stringOf(body['name']);
    const parent = this.#readParent(body);
    const protocol = stringOf(body['protocol']);
    if (name.trim() === '') throw badRequest('Connection names must not be blank.');
    if (!PROTOCOLS.includes(protocol)) throw internalError();
    for (const [id, one] of this.world.connections)
      if (one.name === name && one.parent === parent && id !== self)
        throw badRequest(`The connection "${name}" already exists.`);
    const parameters = strings(body['parameters']);
    for (const value of Object.values(parameters))
      if (value.length > PARAMETER_LIMIT)
        throw tooLong(`Parameter values must not exceed ${PARAMETER_LIMIT} characters.`);
    return { name, parent, protocol, parameters, attributes: declared('connection', body['attributes']) };
  }

  #readGroup(body: JsonObject, self?: string): WorldGuacamoleGroup {
    const name = stringOf(body['name']);
    const parent = this.#readParent(body);
    const type = stringOf(body['type']);
    if (name.trim() === '') throw badRequest('Connection group names must not be blank.');
    if (type !== 'ORGANIZATIONAL' && type !== 'BALANCING') throw internalError();
    for (const [id, one] of this.world.groups)
      if (one.name === name && one.parent === parent && id !== self)
        throw badRequest(`The connection group "${name}" already exists.`);
    for (let at = parent; self !== undefined && at !== ROOT; at = this.group(at).parent)
      if (at === self) throw badRequest('A connection group may not contain itself.');
    return { name, parent, type, attributes: declared('connectionGroup', body['attributes']) };
  }

  #readParent(body: JsonObject): string {
    const parent = stringOf(body['parentIdentifier']) || ROOT;
    // A parent that is not there breaks a foreign key in the database.
    if (parent !== ROOT && !this.world.groups.has(parent)) throw internalError();
    return parent;
  }
}

function stringOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function strings(value: unknown): Record<string, string> {
  const entries = Object.entries((value ?? {}) as JsonObject);
  return Object.fromEntries(
    entries.filter((entry): entry is [string, string] => typeof entry[1] === 'string' && entry[1] !== ''),
  );
}

function declared(kind: keyof typeof DECLARED, value: unknown): Record<string, string | null> {
  const given = strings(value);
  return Object.fromEntries(DECLARED[kind].map((name) => [name, given[name] ?? null]));
}
