import { timingSafeEqual } from 'node:crypto';
import { poolOf, type World, type WorldToken } from '../world.js';
import { forbidden, PveError } from './wire.js';

/** Who calls: a token with its own rights (privilege separation). */
export interface Account {
  /** `user@realm!token`. */
  readonly id: string;
  readonly user: string;
  /** Privileges at a path of the access tree. */
  at(path: string): ReadonlySet<string>;
}

export const ALL_PRIVILEGES = [
  ...[
    'Datastore.Allocate',
    'Datastore.AllocateSpace',
    'Datastore.AllocateTemplate',
    'Datastore.Audit',
    'Group.Allocate',
  ],
  ...[
    'Mapping.Audit',
    'Mapping.Modify',
    'Mapping.Use',
    'Permissions.Modify',
    'Pool.Allocate',
    'Pool.Audit',
    'Realm.Allocate',
  ],
  ...[
    'Realm.AllocateUser',
    'SDN.Allocate',
    'SDN.Audit',
    'SDN.Use',
    'Sys.AccessNetwork',
    'Sys.Audit',
    'Sys.Console',
    'Sys.Incoming',
  ],
  ...[
    'Sys.Modify',
    'Sys.PowerMgmt',
    'Sys.Syslog',
    'User.Modify',
    'VM.Allocate',
    'VM.Audit',
    'VM.Backup',
    'VM.Clone',
  ],
  ...[
    'VM.Config.CDROM',
    'VM.Config.CPU',
    'VM.Config.Cloudinit',
    'VM.Config.Disk',
    'VM.Config.HWType',
    'VM.Config.Memory',
  ],
  ...[
    'VM.Config.Network',
    'VM.Config.Options',
    'VM.Console',
    'VM.GuestAgent.Audit',
    'VM.GuestAgent.FileRead',
  ],
  ...[
    'VM.GuestAgent.FileSystemMgmt',
    'VM.GuestAgent.FileWrite',
    'VM.GuestAgent.Unrestricted',
    'VM.Migrate',
    'VM.PowerMgmt',
  ],
  ...['VM.Replicate', 'VM.Snapshot', 'VM.Snapshot.Rollback'],
];

/** Errors are 401 with an empty body, as they are raised before any handler. */
export function authenticate(world: World, authorization: string | undefined): Account {
  const match = /^PVEAPIToken[= ]([^@!\s]+@[^@!\s]+![^=\s]+)=(\S+)$/.exec(authorization ?? '');
  if (!match)
    throw new PveError(401, authorization === undefined ? 'No ticket' : 'Authentication failed!', {
      empty: true,
    });
  const [, id = '', secret = ''] = match;
  const token = world.tokens.find((candidate) => candidate.id === id);
  if (!token || !sameText(token.secret, secret))
    throw new PveError(401, 'Authentication failed!', { empty: true });
  return { id, user: id.slice(0, id.indexOf('!')), at: (path) => privilegesAt(world, token, path) };
}

function sameText(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(b)];
  return left.length === right.length && timingSafeEqual(left, right);
}

/** The nearest entry above the path decides (it replaces those above it); a pool's entries count for its members besides. */
function privilegesAt(world: World, token: WorldToken, path: string): ReadonlySet<string> {
  const found = new Set(nearest(token, path));
  const vmid = /^\/vms\/([0-9]+)$/.exec(path)?.[1];
  const pool = vmid === undefined ? undefined : poolOf(world, Number(vmid));
  if (pool !== undefined) for (const privilege of nearest(token, `/pool/${pool}`)) found.add(privilege);
  return found.has('*') ? new Set(ALL_PRIVILEGES) : found;
}

function nearest(token: WorldToken, path: string): readonly string[] {
  for (let at = path; ; at = at.slice(0, at.lastIndexOf('/')) || '/') {
    const entries = token.acl.filter((entry) => entry.path === at);
    if (entries.length > 0) return entries.flatMap((entry) => entry.privileges);
    if (at === '/') return [];
  }
}

/** All of the privileges. */
export function need(account: Account, path: string, ...privileges: string[]): void {
  const have = account.at(path);
  if (!privileges.every((privilege) => have.has(privilege)))
    throw forbidden(`${path}, ${privileges.join(', ')}`);
}

/** At least one of them. */
export function needAny(account: Account, path: string, ...privileges: string[]): void {
  const have = account.at(path);
  if (!privileges.some((privilege) => have.has(privilege)))
    throw forbidden(`${path}, ${privileges.join('|')}`);
}
