import type { z } from 'zod';
import type { Call } from '../../ports/call.js';
import type { Clock } from '../../ports/clock.js';
import { notGuacamole, type GuacamoleSession, type Reply } from './session.js';
import { SharedRead } from './shared-read.js';
import {
  groupMap,
  parameters,
  permissions,
  tree,
  user,
  type Account,
  type GroupMap,
  type Parameters,
  type Permissions,
  type Tree,
} from './wire.js';

export const ROOT = 'ROOT';
const GROUPS_KEY = 'groups';

/** `fresh` = a new read in any case, else one that others began at about the same time will do. */
export interface Look {
  readonly signal: AbortSignal;
  readonly fresh: boolean;
}

export const shared = ({ signal }: Call): Look => ({ signal, fresh: false });
export const fresh = ({ signal }: Call): Look => ({ signal, fresh: true });

/** What is there: one list of groups and one tree per group serve all callers of the same moment; accounts are read one by one. */
export class GuacamoleLooks {
  readonly #groups: SharedRead<GroupMap>;
  readonly #trees: SharedRead<Tree | undefined>;

  constructor(
    private readonly session: GuacamoleSession,
    private readonly service: string,
    clock: Clock,
    sharedMs: number,
  ) {
    this.#groups = new SharedRead(clock, sharedMs);
    this.#trees = new SharedRead(clock, sharedMs);
  }

  async group(name: string, look: Look): Promise<{ id: string } | undefined> {
    const what = `list the connection groups of ${this.service}`;
    const list = async (): Promise<GroupMap> =>
      read(groupMap, await this.#get('list-groups', what, 'connectionGroups'), what);
    const groups = await this.#groups.get(GROUPS_KEY, list, look);
    const found = Object.values(groups).find(
      (group) => group.name === name && (group.parentIdentifier ?? ROOT) === ROOT,
    );
    return found && { id: found.identifier };
  }

  async connection(groupId: string, name: string, look: Look): Promise<{ id: string } | undefined> {
    const inside = await this.tree(groupId, look);
    const found = inside?.childConnections?.find((connection) => connection.name === name);
    return found && { id: found.identifier };
  }

  /** `undefined` = there is no such connection. Needs the right to change it, which its maker has. */
  async parameters(id: string, { signal }: Pick<Call, 'signal'>): Promise<Parameters | undefined> {
    const what = `read whose connection ${id} of ${this.service} is`;
    const path = `connections/${encodeURIComponent(id)}/parameters`;
    const reply = await this.#get('get-parameters', what, path, signal);
    return reply.is === 'ok' ? read(parameters, reply, what) : undefined;
  }

  /** `undefined` = there is no such group. */
  async tree(groupId: string, look: Look): Promise<Tree | undefined> {
    const what = `list the connection group ${groupId} of ${this.service}`;
    const path = `connectionGroups/${encodeURIComponent(groupId)}/tree`;
    const list = async (): Promise<Tree | undefined> => {
      const reply = await this.#get('get-tree', what, path);
      return reply.is === 'ok' ? read(tree, reply, what) : undefined;
    };
    return this.#trees.get(groupId, list, look);
  }

  /** `undefined` = there is no such account, or none that ours may see. */
  async account(login: string, { signal }: Pick<Call, 'signal'>): Promise<Account | undefined> {
    const what = `look for the account ${login} in ${this.service}`;
    const reply = await this.#get('get-user', what, `users/${encodeURIComponent(login)}`, signal);
    return reply.is === 'ok' ? read(user, reply, what) : undefined;
  }

  /** `undefined` = there is no such account, or none that ours may see. */
  async permissions(login: string, { signal }: Pick<Call, 'signal'>): Promise<Permissions | undefined> {
    const what = `read what ${login} may do in ${this.service}`;
    const path = `users/${encodeURIComponent(login)}/permissions`;
    const reply = await this.#get('get-permissions', what, path, signal);
    return reply.is === 'ok' ? read(permissions, reply, what) : undefined;
  }

  /** After a write: whoever looks from now on sees it. */
  groupsChanged(): void {
    this.#groups.forget(GROUPS_KEY);
  }

  treeChanged(groupId: string): void {
    this.#trees.forget(groupId);
  }

  /** A shared read belongs to no caller: without a signal it ends by its own time-out. */
  #get(op: string, what: string, path: string, signal = new AbortController().signal): Promise<Reply> {
    return this.session.ask({ op, what, method: 'GET', path, signal });
  }
}

/** Errors: `remote-refused` when the answer has another form than Guacamole's. */
export function read<T>(schema: z.ZodType<T>, reply: Reply, what: string): T {
  const parsed = schema.safeParse(reply.is === 'ok' ? reply.body : undefined);
  if (parsed.success) return parsed.data;
  throw notGuacamole({ what });
}
