import type { World } from '../world.js';
import { need, type Account } from './auth.js';
import { drawMs } from './durations.js';
import type { ParamSpec } from './params.js';
import type { Handled, PveCall } from './pve.js';
import { failure, forbidden, PveError } from './wire.js';
import { FORMATS } from './formats.js';

/** How the calls on users, tokens, roles and entries name what they are about. */
export const USER_ID: ParamSpec = { type: 'string', format: FORMATS['pve-userid'], maxLength: 64 };

/** One change of user.cfg, under the lock that pools and clones need too. `what` stands before every error: "create user failed". */
export async function changeUserConfig(call: PveCall, what: string, change: () => unknown): Promise<Handled> {
  try {
    return await changeFile(call, 'file-user_cfg', change);
  } catch (error) {
    if (error instanceof PveError) throw failure(`${what}: ${asPerlText(error)}`);
    throw error;
  }
}

/** One change of a file of the cluster under its lock; `data` is what `change` gives. */
export function changeFile(
  { pve, account, node, op }: PveCall,
  lock: string,
  change: () => unknown,
): Promise<Handled> {
  return pve.locks.with({ actor: account.id, node }, lock, async (signal) => {
    await pve.context.clock.sleep(drawMs(pve.context, 'cluster-write', op), signal);
    return { data: change() ?? null, journal: { effect: true } };
  });
}

/** An error that was made for one reply and became part of another's text. */
function asPerlText({ status, message, more: { errors } }: PveError): string {
  const head = status === 500 ? message : `${status} ${message}`;
  return [head, ...Object.entries(errors ?? {}).map(([key, text]) => `${key}: ${text}`)].join('\n');
}

export function userExists(world: World, id: string): void {
  if (!world.users.has(id)) throw failure(`no such user ('${id}')`);
}

export function needRealm(account: Account, userid: string): void {
  need(account, `/access/realm/${userid.slice(userid.indexOf('@') + 1)}`, 'Realm.AllocateUser');
}

/** `User.Modify` (or one of `privileges`) on the groups of a user that exists. There are no groups but "all users". */
export function needOnUser(account: Account, world: World, userid: string, ...privileges: string[]): void {
  if (account.isRoot) return;
  userExists(world, userid);
  if (!holdsOnGroups(account, privileges)) throw forbidden();
}

/** For calls that put a user into `groups`. */
export function needOnGroups(account: Account, groups: string | undefined, privilege: string): void {
  if (holdsOnGroups(account, [privilege])) return;
  const [first] = (groups ?? '').split(/[,;\s]+/).filter((group) => group !== '');
  throw forbidden(`/access/groups${first === undefined ? '' : `/${first}`}, ${privilege}`);
}

/** The user itself (with a ticket), or who may modify it. */
export function needSelfOr(account: Account, world: World, userid: string, allowed: () => boolean): void {
  if (account.isRoot || (world.users.has(userid) && (account.id === userid || allowed()))) return;
  throw forbidden();
}

export function holdsOnGroups(account: Account, privileges: readonly string[]): boolean {
  const have = account.at('/access/groups');
  return privileges.some((privilege) => have.has(privilege));
}

/** Takes away what was given at any path to somebody who is gone. */
export function removeEntriesOf(world: World, isGone: (ugid: string) => boolean): void {
  world.acl = world.acl.filter(({ ugid }) => !isGone(ugid));
}
