import type { Call } from './call.js';

export interface GroupSpec {
  /** Unique under the root; ends in the batch's short id, so a group of this name is ours. */
  readonly name: string;
}

export interface UserSpec {
  readonly login: string;
  readonly fullName: string;
  readonly email: string | undefined;
  /** `undefined` = an unknown random one. */
  readonly password: string | undefined;
  /** Written into an attribute of the account, which proves that we made it. */
  readonly mark: string;
}

export interface ConnectionSpec {
  readonly groupId: string;
  readonly name: string;
  readonly protocol: 'rdp' | 'ssh' | 'vnc';
  readonly hostname: string;
  readonly port: number;
  /** Further parameters, all strings; tokens such as `${GUAC_USERNAME}` are the gateway's. */
  readonly parameters: Readonly<Record<string, string>>;
  /** Kept with the connection, which proves that we made it. */
  readonly mark: string;
}

export interface FoundConnection {
  readonly id: string;
  /** `undefined` = made by somebody else, or before connections were marked. */
  readonly mark: string | undefined;
  /** All but the mark. */
  readonly parameters: Readonly<Record<string, string>>;
}

/**
 * A remote-desktop gateway (Apache Guacamole).
 * Every `ensure` finds before it makes and is safe to repeat; "already exists" is followed by a second look.
 * Errors: `service-unreachable`, `outcome-unknown`, `remote-refused`, `permission-missing`.
 */
export interface DesktopGateway {
  readonly service: string;
  findGroup(name: string, call: Call): Promise<{ id: string } | undefined>;
  ensureGroup(group: GroupSpec, call: Call): Promise<{ id: string }>;
  /** Only when a read shows it empty; not there = success; still in use: `not-applicable`. */
  removeGroup(name: string, call: Call): Promise<{ existed: boolean }>;
  /** `ours` tells whether the account carries `mark`: a foreign account is used as it is, never edited. */
  findUser(login: string, mark: string, call: Call): Promise<{ ours: boolean } | undefined>;
  ensureUser(user: UserSpec, call: Call): Promise<{ ours: boolean }>;
  /** Removes the account only if it carries `mark` and has no permission left; foreign = left alone, `existed: false`. */
  removeUser(login: string, mark: string, call: Call): Promise<{ existed: boolean }>;
  findConnection(groupId: string, name: string, call: Call): Promise<FoundConnection | undefined>;
  /** One of that name with another mark or none is not taken over: `foreign-guest`. */
  ensureConnection(connection: ConnectionSpec, call: Call): Promise<{ id: string }>;
  /** Only what `isOurs` says is ours; another one of that name: `foreign-guest`. */
  removeConnection(
    groupId: string,
    name: string,
    isOurs: (found: FoundConnection) => boolean,
    call: Call,
  ): Promise<{ existed: boolean }>;
  hasPermission(login: string, connectionId: string, groupId: string, call: Call): Promise<boolean>;
  /** READ on the connection and on its group (needed to see it in the tree). */
  grant(login: string, connectionId: string, groupId: string, call: Call): Promise<void>;
  /** Takes back READ on the connection, and on the group when no other connection of the group is left to this user; reads back that it is gone. No user = success. */
  revoke(login: string, connectionId: string, groupId: string, call: Call): Promise<{ existed: boolean }>;
  /** Deep link that opens the connection in a browser. */
  link(connectionId: string): string;
  check(call: Call): Promise<readonly { ok: boolean; subject: string; detail: string; remedy?: string }[]>;
}
