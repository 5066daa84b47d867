import { poolOf, type World, type WorldAclEntry } from '../world.js';
import { privilegesOf } from './roles.js';

/** Privilege -> does it hold below the path too. */
export type Rights = ReadonlyMap<string, boolean>;

const NO_ACCESS = 'NoAccess';

const allRights = (version: World['version']): Rights =>
  new Map(privilegesOf(version).map((privilege) => [privilege, true]));
const ALL_RIGHTS = { '8.4': allRights('8.4'), '9.1': allRights('9.1') };

/** What a user (`user@realm`) or a token (`user@realm!name`) may do at a path; root may do everything. */
export function rightsAt(world: World, id: string, path: string): Rights {
  if (id === 'root@pam') return ALL_RIGHTS[world.version];
  const mark = id.indexOf('!');
  if (mark < 0) return ownRights(world, id, path);
  const token = world.tokens.get(id);
  if (!token) return new Map();
  const owner = id.slice(0, mark);
  const ofOwner = rightsAt(world, owner, path);
  if (!token.privsep) return ofOwner;
  const own = ownRights(world, id, path);
  if (owner === 'root@pam') return own;
  return new Map(
    [...own].flatMap(([privilege, propagates]): [string, boolean][] => {
      const ofUser = ofOwner.get(privilege);
      return ofUser === undefined ? [] : [[privilege, ofUser && propagates]];
    }),
  );
}

function ownRights(world: World, id: string, path: string): Rights {
  const rights = new Map<string, boolean>();
  for (const [role, propagates] of withPool(world, id, path, rolesAt(world, id, path)))
    for (const privilege of world.roles.get(role) ?? [])
      rights.set(privilege, (rights.get(privilege) ?? false) || propagates);
  return rights;
}

/** Role -> does it propagate: the entries nearest to the path replace all above them, and `NoAccess` beats what stands beside it. */
function rolesAt(world: World, id: string, path: string): Map<string, boolean> {
  let roles = new Map<string, boolean>();
  let nearest = '';
  for (const entry of world.acl) {
    if (entry.ugid !== id || entry.path.length < nearest.length || !covers(entry, path)) continue;
    if (entry.path !== nearest) roles = new Map();
    nearest = entry.path;
    roles.set(entry.role, entry.propagate);
  }
  const denied = roles.get(NO_ACCESS);
  return denied === undefined ? roles : new Map([[NO_ACCESS, denied]]);
}

function covers(entry: WorldAclEntry, path: string): boolean {
  if (entry.path === path) return true;
  return (
    entry.propagate &&
    (entry.path === '/' || (path.startsWith(entry.path) && path[entry.path.length] === '/'))
  );
}

/** Roles on a pool count for its guests and storages besides. */
function withPool(
  world: World,
  id: string,
  path: string,
  roles: Map<string, boolean>,
): ReadonlyMap<string, boolean> {
  if (roles.has(NO_ACCESS)) return roles;
  const ofPools = poolsOf(world, path).flatMap((pool) => [...rolesAt(world, id, `/pool/${pool}`).keys()]);
  if (ofPools.includes(NO_ACCESS)) return new Map([[NO_ACCESS, false]]);
  return new Map([...ofPools.map((role): [string, boolean] => [role, false]), ...roles]);
}

function poolsOf(world: World, path: string): string[] {
  const [, kind = '', member = ''] = /^\/(vms|storage)\/([^/]+)$/.exec(path) ?? [];
  if (kind === 'vms') return [poolOf(world, Number(member)) ?? []].flat();
  if (kind !== 'storage') return [];
  return [...world.pools].filter(([, pool]) => pool.storages.has(member)).map(([name]) => name);
}

/** As the access tree names it, or `undefined` = no path can look so. */
export function normalAclPath(path: string): string | undefined {
  const normal = `/${path}`.replace(/\/+/g, '/').replace(/(.)\/$/, '$1');
  return path !== '' && /^[A-Za-z0-9.\-_/]+$/.test(normal) ? normal : undefined;
}

const NAME = '[A-Za-z0-9.\\-_]+';
const ACL_PATH = new RegExp(
  '^(?:/|/access|/access/groups|/access/realm|/nodes|/pool|/sdn|/sdn/(?:zones|fabrics)|/storage|/vms|/mapping|' +
    `/access/(?:groups|realm)/${NAME}|/nodes/${NAME}|/pool/${NAME}(?:/${NAME}){0,2}|/sdn/fabrics/${NAME}|` +
    `/sdn/zones/${NAME}(?:/${NAME}(?:/[1-9][0-9]{0,3})?)?|/storage/${NAME}|/vms/[1-9][0-9]{2,}|/mapping/${NAME}(?:/${NAME})?)$`,
);

/** Is it a place where an entry may be added. */
export function isAclPath(path: string): boolean {
  return ACL_PATH.test(path);
}
