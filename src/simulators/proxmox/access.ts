import { ALL_PRIVILEGES, type Account } from './auth.js';
import { OPTIONAL_TEXT } from './params.js';
import type { Pve, Route } from './pve.js';

export const accessRoutes: readonly Route[] = [
  {
    method: 'GET',
    path: '/access/permissions',
    op: 'access.permissions',
    kind: 'read',
    params: { path: OPTIONAL_TEXT, userid: OPTIONAL_TEXT },
    handle({ pve, account, params }) {
      const path = params.text('path');
      return { data: effective(pve, account, path === undefined ? knownPaths(pve) : [path]) };
    },
  },
];

/** Effective rights per path; 1 = also below it. Paths without any right are left out. */
function effective(pve: Pve, account: Account, paths: readonly string[]): Record<string, Record<string, 1>> {
  const rights: Record<string, Record<string, 1>> = {};
  for (const path of paths) {
    const have = account.at(path);
    const shown = ALL_PRIVILEGES.filter((privilege) => have.has(privilege));
    if (shown.length > 0) rights[path] = Object.fromEntries(shown.map((privilege) => [privilege, 1]));
  }
  return rights;
}

function knownPaths({ world }: Pve): string[] {
  const fixed = ['/', '/access', '/access/groups', '/nodes', '/pool', '/sdn', '/storage', '/vms'];
  const entries = world.tokens.flatMap((token) => token.acl.map(({ path }) => path));
  const members = [...world.pools.values()].flatMap((pool) =>
    [...pool.members].map((vmid) => `/vms/${vmid}`),
  );
  return [...new Set([...fixed, ...entries, ...members])];
}
