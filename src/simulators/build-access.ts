import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import { HatcheryError } from '../core/errors.js';
import { builtInRoles, privilegesOf } from './proxmox/roles.js';
import type { World, WorldAclEntry, WorldUser } from './world.js';

/** `*` = all privileges of the version. */
const aclSpec = z.array(z.strictObject({ path: z.string(), privileges: z.array(z.string()) }));
const expire = z.number().int().min(0).default(0);

export const userSpec = z.strictObject({
  id: z.string().regex(/^[^\s:/]+@[A-Za-z][A-Za-z0-9.\-_]+$/),
  /** Left out = a random one. */
  password: z.string().optional(),
  enabled: z.boolean().default(true),
  /** Seconds since 1970; 0 = never. */
  expire,
  acl: aclSpec.default([]),
});

export const tokenSpec = z.strictObject({
  id: z.string().regex(/^[^\s:/]+@[A-Za-z][A-Za-z0-9.\-_]+![A-Za-z][A-Za-z0-9.\-_]+$/),
  /** Left out = a random one. */
  secret: z.string().optional(),
  /** Its own rights, cut down to those of its user; `false` = the rights of its user. */
  privsep: z.boolean().default(true),
  expire,
  acl: aclSpec.default([]),
});

type Access = Pick<World, 'version' | 'users' | 'tokens' | 'roles' | 'acl'>;

/** The access part of a new world: built-in roles and `root@pam` with a random password. */
export function emptyAccess(version: World['version']): Pick<World, 'users' | 'tokens' | 'roles' | 'acl'> {
  const root: WorldUser = { id: 'root@pam', password: randomUUID(), enabled: true, expire: 0 };
  return {
    users: new Map([[root.id, root]]),
    tokens: new Map(),
    roles: builtInRoles(version),
    acl: [],
  };
}

export function addUser(access: Access, spec: z.input<typeof userSpec>): void {
  const { id, password, enabled, expire: expires, acl } = userSpec.parse(spec);
  access.users.set(id, { id, password: password ?? randomUUID(), enabled, expire: expires });
  for (const { path, privileges } of acl)
    addEntry(access, { path, ugid: id, role: roleOf(access, privileges) });
}

/**
 * Adds a token. Its user, unless the world describes it (`describedUsers`), is made and holds at every path what any of its
 * tokens holds there, so that each token has exactly its own rights.
 */
export function addToken(
  access: Access,
  spec: z.input<typeof tokenSpec>,
  describedUsers: ReadonlySet<string> = new Set(),
): void {
  const { id, secret, privsep, expire: expires, acl } = tokenSpec.parse(spec);
  const user = id.slice(0, id.indexOf('!'));
  access.tokens.set(id, { id, secret: secret ?? randomUUID(), privsep, expire: expires });
  for (const { path, privileges } of acl)
    addEntry(access, { path, ugid: id, role: roleOf(access, privileges) });
  if (describedUsers.has(user) || user === 'root@pam') return;
  if (!access.users.has(user)) addUser(access, { id: user });
  const ofTokens = access.acl.filter((entry) => entry.ugid.startsWith(`${user}!`));
  for (const path of new Set(ofTokens.map((entry) => entry.path)))
    for (const ugid of new Set(ofTokens.map((entry) => entry.ugid)))
      for (const role of nearestRoles(ofTokens, ugid, path)) addEntry(access, { path, ugid: user, role });
}

/** What the minimal role of one deployment has on its pool. */
const poolPrivileges = (version: World['version']): string[] => [
  ...[
    'VM.Allocate',
    'VM.Clone',
    'VM.Audit',
    'VM.PowerMgmt',
    'VM.Snapshot',
    'VM.Snapshot.Rollback',
    'VM.Backup',
    'VM.Console',
    'VM.Migrate',
  ],
  ...['Disk', 'CPU', 'Memory', 'Network', 'HWType', 'Options', 'CDROM', 'Cloudinit'].map(
    (what) => `VM.Config.${what}`,
  ),
  ...(version === '8.4' ? ['VM.Monitor'] : ['VM.GuestAgent.Audit', 'VM.GuestAgent.Unrestricted']),
  ...['Pool.Audit', 'Pool.Allocate'],
];

interface AccessSpec {
  readonly users: readonly z.output<typeof userSpec>[];
  readonly tokens: readonly z.output<typeof tokenSpec>[];
  readonly templates: readonly { readonly vmid: number }[];
  readonly storages: readonly { readonly id: string }[];
}

/** Who a new world knows: what its spec names, a token of root, and the token of the deployment with its minimal role on `pool`. */
export function addAccess(world: World, spec: AccessSpec, pool: string): void {
  const described = new Set(spec.users.map(({ id }) => id));
  for (const user of spec.users) addUser(world, user);
  addToken(world, { id: world.rootTokenId, privsep: false });
  const acl = [
    { path: '/', privileges: ['Sys.Audit'] },
    { path: '/vms', privileges: ['VM.Audit'] },
    ...spec.templates.map(({ vmid }) => ({ path: `/vms/${vmid}`, privileges: ['VM.Audit', 'VM.Clone'] })),
    { path: '/pool', privileges: ['Pool.Audit'] },
    { path: `/pool/${pool}`, privileges: poolPrivileges(world.version) },
    ...spec.storages.map(({ id }) => ({
      path: `/storage/${id}`,
      privileges: ['Datastore.AllocateSpace', 'Datastore.Audit'],
    })),
    { path: '/sdn/zones/localnetwork', privileges: ['SDN.Use'] },
  ];
  addToken(world, { id: world.tokenId, acl }, described);
  for (const token of spec.tokens) addToken(world, token, described);
}

function nearestRoles(entries: readonly WorldAclEntry[], ugid: string, path: string): string[] {
  for (let at = path; ; at = at.slice(0, at.lastIndexOf('/')) || '/') {
    const here = entries.filter((entry) => entry.ugid === ugid && entry.path === at);
    if (here.length > 0 || at === '/') return here.map(({ role }) => role);
  }
}

function addEntry(access: Access, entry: Omit<WorldAclEntry, 'propagate'>): void {
  const isThere = access.acl.some(
    ({ path, ugid, role }) => path === entry.path && ugid === entry.ugid && role === entry.role,
  );
  if (!isThere) access.acl.push({ ...entry, propagate: true });
}

/** Gives a user or token these privileges at a path, besides those that it has. */
export function grant(access: Access, ugid: string, path: string, privileges: readonly string[]): void {
  addEntry(access, { path, ugid, role: roleOf(access, privileges) });
}

/** Takes these privileges away from every entry of a user or token at this path. */
export function revoke(access: Access, ugid: string, path: string, privileges: readonly string[]): void {
  access.acl = access.acl.flatMap((entry) => {
    if (entry.ugid !== ugid || entry.path !== path) return [entry];
    const left = (access.roles.get(entry.role) ?? []).filter((one) => !privileges.includes(one));
    return left.length === 0 ? [] : [{ ...entry, role: roleOf(access, left) }];
  });
}

/** The role with exactly these privileges; a new one if there is none. */
function roleOf(access: Access, privileges: readonly string[]): string {
  const known = privilegesOf(access.version);
  const wanted = privileges.includes('*') ? known : [...new Set(privileges)].sort();
  const unknown = wanted.find((privilege) => !known.includes(privilege));
  if (unknown !== undefined)
    throw new HatcheryError(
      'settings-invalid',
      `Unable to build the world: PVE ${access.version} has no privilege "${unknown}"`,
    );
  for (const [name, has] of access.roles)
    if (has.length === wanted.length && has.every((privilege) => wanted.includes(privilege))) return name;
  const name = `Custom${access.roles.size}`;
  access.roles.set(name, wanted);
  return name;
}
