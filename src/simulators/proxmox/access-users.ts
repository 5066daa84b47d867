import type { World, WorldUser } from '../world.js';
import {
  changeFile,
  changeUserConfig,
  holdsOnGroups,
  needOnGroups,
  needOnUser,
  needRealm,
  needSelfOr,
  removeEntriesOf,
  USER_ID,
  userExists,
} from './access-config.js';
import { tokenInfo, tokensOf } from './access-tokens.js';
import { sameText } from './tickets.js';
import { FORMATS } from './formats.js';
import { OPTIONAL_FLAG, type Params, type ParamSpec, type ParamSpecs } from './params.js';
import type { Handled, PveCall, Route } from './pve.js';
import { failure, forbidden, parameterErrors } from './wire.js';

const TEXTS = ['firstname', 'lastname', 'email', 'comment', 'keys'] as const;
const password = (minLength: number): ParamSpec => ({ type: 'string', minLength, maxLength: 64 });
const PROPERTIES: ParamSpecs = {
  enable: OPTIONAL_FLAG,
  expire: { type: 'integer', optional: true, minimum: 0 },
  firstname: { type: 'string', optional: true, maxLength: 1024 },
  lastname: { type: 'string', optional: true, maxLength: 1024 },
  email: { type: 'string', optional: true, format: FORMATS['email-opt'], maxLength: 254 },
  comment: { type: 'string', optional: true, maxLength: 2048 },
  keys: { type: 'string', optional: true, pattern: /^[0-9a-zA-Z!=]{0,4096}$/ },
  groups: { type: 'string', optional: true, format: FORMATS['pve-groupid'], list: true },
};

export const userRoutes: readonly Route[] = [
  {
    method: 'GET',
    path: '/access/users',
    op: 'access.users.list',
    kind: 'protected-read',
    params: { enabled: OPTIONAL_FLAG, full: OPTIONAL_FLAG },
    handle: listUsers,
  },
  {
    method: 'POST',
    path: '/access/users',
    op: 'access.users.create',
    kind: 'config-write',
    params: { userid: USER_ID, password: { ...password(8), optional: true }, ...PROPERTIES },
    permit(account, _, raw) {
      needRealm(account, raw('userid') ?? '');
      needOnGroups(account, raw('groups'), 'User.Modify');
    },
    handle: createUser,
  },
  {
    method: 'GET',
    path: '/access/users/{userid}',
    op: 'access.users.get',
    kind: 'read',
    params: {},
    permit: (account, path, _, world) =>
      needOnUser(account, world, path['userid'] ?? '', 'User.Modify', 'Sys.Audit'),
    handle({ pve: { world }, path }) {
      const id = path['userid'] ?? '';
      userExists(world, id);
      const tokens = tokensOf(world, id);
      const byName = tokens.map((token) => [token.id.slice(id.length + 1), tokenInfo(token)] as const);
      return {
        data: {
          ...userData(world.users.get(id)!),
          groups: [],
          ...(tokens.length > 0 ? { tokens: Object.fromEntries(byName) } : {}),
        },
      };
    },
  },
  {
    method: 'PUT',
    path: '/access/users/{userid}',
    op: 'access.users.put',
    kind: 'config-write',
    params: { ...PROPERTIES, append: { ...OPTIONAL_FLAG, requires: 'groups' } },
    permit(account, path, raw, world) {
      if (account.isRoot) return;
      userExists(world, path['userid'] ?? '');
      needOnGroups(account, raw('groups'), 'User.Modify');
    },
    handle: (call) =>
      changeUserConfig(call, 'update user failed', () => {
        const { pve, path, params } = call;
        const id = path['userid'] ?? '';
        userExists(pve.world, id);
        writeProperties(pve.world.users.get(id)!, params);
      }),
  },
  {
    method: 'DELETE',
    path: '/access/users/{userid}',
    op: 'access.users.delete',
    kind: 'config-write',
    params: {},
    permit(account, path, _, world) {
      needRealm(account, path['userid'] ?? '');
      needOnUser(account, world, path['userid'] ?? '', 'User.Modify');
    },
    handle: (call) => changeUserConfig(call, 'delete user failed', () => removeUser(call)),
  },
  {
    method: 'PUT',
    path: '/access/password',
    op: 'access.password',
    kind: 'config-write',
    params: {
      userid: USER_ID,
      password: password(8),
      'confirmation-password': { ...password(5), optional: true },
    },
    allowToken: false,
    permit(account, _, raw, world) {
      const userid = raw('userid') ?? '';
      needSelfOr(account, world, userid, () => {
        needRealm(account, userid);
        return holdsOnGroups(account, ['User.Modify']);
      });
    },
    handle: changePassword,
  },
];

function listUsers({ pve: { world }, account, params }: PveCall): Handled {
  const [enabled, isFull] = [params.flag('enabled'), params.flag('full') ?? false];
  const seesAll = holdsOnGroups(account, ['User.Modify', 'Sys.Audit']);
  const seen = [...world.users.values()]
    .filter((user) => seesAll || user.id === account.id)
    .filter((user) => enabled === undefined || user.enabled === enabled)
    .sort((a, b) => (a.id < b.id ? -1 : 1));
  return {
    data: seen.map((user) => ({
      userid: user.id,
      'realm-type': user.id.slice(user.id.indexOf('@') + 1),
      ...userData(user),
      ...(isFull ? { groups: '', tokens: tokenRows(world, user.id) } : {}),
    })),
  };
}

function tokenRows(world: World, userid: string): unknown[] {
  return tokensOf(world, userid).map((token) => ({
    tokenid: token.id.slice(userid.length + 1),
    ...tokenInfo(token),
  }));
}

function userData(user: WorldUser): Record<string, unknown> {
  const texts = TEXTS.map((key) => [key, user[key]] as const).filter(([, value]) => value !== undefined);
  return { enable: user.enabled ? 1 : 0, expire: user.expire, ...Object.fromEntries(texts) };
}

function createUser(call: PveCall): Promise<Handled> {
  const { pve, params } = call;
  return changeUserConfig(call, 'create user failed', () => {
    const id = params.need('userid');
    if (pve.world.users.has(id)) throw failure(`user '${id}' already exists`);
    realmOf(id);
    const user: WorldUser = { id, password: params.text('password'), enabled: true, expire: 0 };
    writeProperties(user, params);
    pve.world.users.set(id, user);
  });
}

/** Only these two realms are set up. */
function realmOf(userid: string): 'pam' | 'pve' {
  const realm = userid.slice(userid.indexOf('@') + 1);
  if (realm !== 'pam' && realm !== 'pve') throw failure(`auth domain '${realm}' does not exist`);
  return realm;
}

function writeProperties(user: WorldUser, params: Params): void {
  const [group] = params.list('groups');
  if (group !== undefined) throw failure(`no such group '${group}'`);
  user.enabled = params.flag('enable') ?? user.enabled;
  user.expire = params.number('expire') ?? user.expire;
  for (const key of TEXTS) {
    const value = params.text(key);
    if (value === '') delete user[key];
    else if (value !== undefined) user[key] = value;
  }
}

/** root@pam is made again whenever the file is read. */
function removeUser({ pve: { world }, path }: PveCall): void {
  const id = path['userid'] ?? '';
  if (id !== 'root@pam') world.users.delete(id);
  for (const token of tokensOf(world, id)) world.tokens.delete(token.id);
  removeEntriesOf(world, (ugid) => ugid === id || ugid.startsWith(`${id}!`));
}

/** Who is not root confirms with the own password, and changes neither root's nor that of another system user. */
function changePassword(call: PveCall): Handled | Promise<Handled> {
  const { pve, account, params } = call;
  const id = params.need('userid');
  userExists(pve.world, id);
  if (!account.isRoot) {
    if (id === 'root@pam') throw forbidden();
    const confirmation = params.text('confirmation-password');
    if (confirmation === undefined)
      throw parameterErrors({ 'confirmation-password': 'password is required to modify user' });
    const own = pve.world.users.get(account.id)?.password;
    if (own === undefined || !sameText(own, confirmation)) throw failure('invalid credentials');
    if (account.id !== id && realmOf(id) === 'pam') throw forbidden();
  }
  const store = (): void => {
    pve.world.users.get(id)!.password = params.need('password');
  };
  if (realmOf(id) === 'pve') return changeFile(call, 'file-priv_shadow_cfg', store);
  // Of the operating system: no file of the cluster.
  store();
  return { data: null, journal: { effect: true } };
}
