import type { World } from '../world.js';
import { changeUserConfig, userExists } from './access-config.js';
import { needAny, type Account } from './auth.js';
import { FORMATS } from './formats.js';
import { OPTIONAL_FLAG, TEXT, type ParamSpec } from './params.js';
import type { Handled, PveCall, Route } from './pve.js';
import { isAclPath, normalAclPath, type Rights } from './rights.js';
import { failure, parameterErrors } from './wire.js';

const names = (format: ParamSpec['format']): ParamSpec => ({
  type: 'string',
  optional: true,
  list: true,
  ...(format && { format }),
});

export const aclRoutes: readonly Route[] = [
  {
    method: 'GET',
    path: '/access/acl',
    op: 'access.acl.get',
    kind: 'read',
    params: {},
    handle: listEntries,
  },
  {
    method: 'PUT',
    path: '/access/acl',
    op: 'access.acl.put',
    kind: 'config-write',
    params: {
      path: TEXT,
      roles: { type: 'string', list: true, format: FORMATS['pve-roleid'] },
      users: names(FORMATS['pve-userid']),
      groups: names(FORMATS['pve-groupid']),
      tokens: names(FORMATS['pve-tokenid']),
      propagate: OPTIONAL_FLAG,
      delete: OPTIONAL_FLAG,
    },
    permit(account, _, raw) {
      const path = normalAclPath(raw('path') ?? '');
      if (path !== undefined) needAny(account, path, ...privilegesToModify(path));
    },
    handle: changeEntries,
  },
];

/** Any of them lets somebody write entries at a path. */
function privilegesToModify(path: string): string[] {
  const own = { storage: 'Datastore.Allocate', vms: 'VM.Allocate', pool: 'Pool.Allocate' };
  const [, top] = /^\/(storage|vms|pool)\/./.exec(path) ?? [];
  return ['Permissions.Modify', ...(top === undefined ? [] : [own[top as keyof typeof own]])];
}

function listEntries({ pve: { world }, account }: PveCall): Handled {
  const seesAll = account.at('/access').has('Sys.Audit');
  const maySee = (path: string): boolean =>
    seesAll || privilegesToModify(path).some((privilege) => account.at(path).has(privilege));
  return {
    data: world.acl
      .filter(({ path }) => maySee(path))
      .map(({ path, ugid, role, propagate }) => ({
        path,
        type: ugid.includes('!') ? 'token' : 'user',
        ugid,
        roleid: role,
        propagate: propagate ? 1 : 0,
      })),
  };
}

function changeEntries(call: PveCall): Promise<Handled> {
  const { pve, account, params } = call;
  const { world } = pve;
  const ugids = [...params.list('users'), ...params.list('tokens')];
  const [group] = params.list('groups');
  if (ugids.length === 0 && group === undefined) {
    const text = "either 'users', 'groups' or 'tokens' is required.";
    throw parameterErrors({ users: text, groups: text, tokens: text });
  }
  const isRemoval = params.flag('delete') ?? false;
  const given = params.need('path');
  const path = normalAclPath(given);
  if (path === undefined || (!isRemoval && !isAclPath(path)))
    throw parameterErrors({ path: `invalid ACL path '${given}'` });
  const propagate = params.flag('propagate') ?? true;
  return changeUserConfig(call, 'ACL update failed', () => {
    const kept = new Map(world.acl.map((entry) => [`${entry.path} ${entry.ugid} ${entry.role}`, entry]));
    for (const role of params.list('roles')) {
      if (!world.roles.has(role)) throw failure(`role '${role}' does not exist`);
      checkMayGive(world, account, { path, role, isRemoval, propagate });
      if (group !== undefined) throw failure(`group '${group}' does not exist`);
      for (const ugid of ugids) {
        checkIsThere(world, ugid);
        const key = `${path} ${ugid} ${role}`;
        if (isRemoval) kept.delete(key);
        else kept.set(key, { path, ugid, role, propagate });
      }
    }
    world.acl = [...kept.values()];
  });
}

function checkIsThere(world: World, ugid: string): void {
  const [user = '', token] = ugid.split('!');
  if (token === undefined) {
    if (!world.users.has(user)) throw failure(`user '${user}' does not exist`);
    return;
  }
  userExists(world, user);
  if (!world.tokens.has(ugid)) throw failure(`no such token '${token}' for user '${user}'`);
}

interface Gift {
  readonly path: string;
  readonly role: string;
  readonly isRemoval: boolean;
  readonly propagate: boolean;
}

/** Without Permissions.Modify nobody gives more than they have. */
function checkMayGive(world: World, account: Account, gift: Gift): void {
  const own: Rights = account.at(gift.path);
  if (own.has('Permissions.Modify')) return;
  const refuse = (rest: string): never => {
    throw parameterErrors({
      role: `Cannot ${gift.isRemoval ? 'remove' : 'add'} role '${gift.role}' ${rest}`,
    });
  };
  for (const privilege of world.roles.get(gift.role) ?? []) {
    if (!own.has(privilege)) refuse("- requires 'Permissions.Modify' or superset of privileges.");
    if (gift.propagate && !gift.isRemoval && !own.get(privilege))
      refuse("with propagation - requires 'Permissions.Modify' or propagated superset of privileges.");
  }
  if (gift.role === 'NoAccess') refuse("- requires 'Permissions.Modify'");
}
