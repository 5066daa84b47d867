import type { World } from '../world.js';
import { changeUserConfig } from './access-config.js';
import { need } from './auth.js';
import { FORMATS } from './formats.js';
import { OPTIONAL_FLAG, type ParamSpec } from './params.js';
import type { PveCall, Route } from './pve.js';
import { builtInRoles } from './roles.js';
import { failure, parameterErrors } from './wire.js';

const PRIVS: ParamSpec = { type: 'string', optional: true, list: true, format: FORMATS['pve-priv'] };
const permit: NonNullable<Route['permit']> = (account) => need(account, '/access', 'Sys.Modify');

export const roleRoutes: readonly Route[] = [
  {
    method: 'GET',
    path: '/access/roles',
    op: 'access.roles.list',
    kind: 'read',
    params: {},
    handle: ({ pve: { world } }) => ({
      data: [...world.roles].map(([roleid, privileges]) => ({
        roleid,
        privs: privileges.join(','),
        special: isBuiltIn(world, roleid) ? 1 : 0,
      })),
    }),
  },
  {
    method: 'GET',
    path: '/access/roles/{roleid}',
    op: 'access.roles.get',
    kind: 'read',
    params: {},
    handle({ pve: { world }, path }) {
      const privileges = privilegesOfRole(world, path['roleid'] ?? '');
      return { data: Object.fromEntries(privileges.map((privilege) => [privilege, 1])) };
    },
  },
  {
    method: 'POST',
    path: '/access/roles',
    op: 'access.roles.create',
    kind: 'config-write',
    params: { roleid: { type: 'string', format: FORMATS['pve-roleid'] }, privs: PRIVS },
    permit,
    handle(call) {
      const { pve, params } = call;
      const role = params.need('roleid');
      if (/^PVE/i.test(role))
        throw parameterErrors({
          roleid: "cannot use role ID starting with the (case-insensitive) 'PVE' namespace",
        });
      return changeUserConfig(call, 'create role failed', () => {
        if (pve.world.roles.has(role)) throw failure(`role '${role}' already exists`);
        pve.world.roles.set(role, [...new Set(params.list('privs'))].sort());
      });
    },
  },
  {
    method: 'PUT',
    path: '/access/roles/{roleid}',
    op: 'access.roles.put',
    kind: 'config-write',
    params: { privs: PRIVS, append: { ...OPTIONAL_FLAG, requires: 'privs' } },
    permit,
    handle(call) {
      const role = changeableRole(call, 'modified');
      const { pve, params } = call;
      return changeUserConfig(call, 'update role failed', () => {
        const before = privilegesOfRole(pve.world, role);
        const kept = params.flag('append') ? before : [];
        pve.world.roles.set(role, [...new Set([...kept, ...params.list('privs')])].sort());
      });
    },
  },
  {
    method: 'DELETE',
    path: '/access/roles/{roleid}',
    op: 'access.roles.delete',
    kind: 'config-write',
    params: {},
    permit,
    handle(call) {
      const role = changeableRole(call, 'deleted');
      const { world } = call.pve;
      return changeUserConfig(call, 'delete role failed', () => {
        privilegesOfRole(world, role);
        world.roles.delete(role);
        // Entries with a role that is gone are ignored when the file is read.
        world.acl = world.acl.filter((entry) => entry.role !== role);
      });
    },
  },
];

function isBuiltIn(world: World, role: string): boolean {
  return builtInRoles(world.version).has(role);
}

function changeableRole({ pve, path }: PveCall, verb: string): string {
  const role = path['roleid'] ?? '';
  if (isBuiltIn(pve.world, role)) throw failure(`auto-generated role '${role}' cannot be ${verb}`);
  return role;
}

function privilegesOfRole(world: World, role: string): readonly string[] {
  const privileges = world.roles.get(role);
  if (!privileges) throw failure(`role '${role}' does not exist`);
  return privileges;
}
