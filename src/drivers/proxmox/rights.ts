import type { CheckFinding } from '../../ports/hypervisor.js';

/** What a token may do: privileges by ACL path, inherited ones included (`GET /access/permissions`). */
export type Rights = ReadonlyMap<string, ReadonlySet<string>>;

/** Privileges that change guests. VM.Clone and VM.Audit read them, VM.Console and VM.GuestAgent.Audit look into them. */
const GUEST_WRITES =
  /^(VM\.(Allocate|PowerMgmt|Migrate|Backup|Snapshot|Snapshot\.Rollback|Monitor|Replicate|Config\..+|GuestAgent\.(Unrestricted|FileWrite))|Permissions\.Modify|Sys\.(Modify|PowerMgmt))$/;

/** How a sentence names whom the cluster takes us for. */
export function spoken(identity: string): string {
  return `the ${identity.includes('!') ? 'token' : 'account'} ${identity}`;
}

/** The command that gives a role. A token has only what its user has too, so both get it. */
export function aclCommand(path: string, identity: string, role: string): string {
  const [user] = identity.split('!');
  const tokens = identity === user ? '' : ` --tokens '${identity}'`;
  return `pveum acl modify ${path} --users '${user}'${tokens} --roles ${role}`;
}

/** The command that takes a role away. */
export function takeAwayCommand(path: string, identity: string): string {
  const isToken = identity.includes('!');
  const command = `pveum acl delete ${path} ${isToken ? '--tokens' : '--users'} '${identity}' --roles <the role that gives them>`;
  return isToken ? `${command} (the token must have --privsep 1)` : command;
}

/** Rights through which a mistake of ours could reach a guest of others. */
export interface OutsideWrites {
  readonly path: string;
  readonly privileges: readonly string[];
}

/** The reason to refuse a token; `ownGuestPaths` = paths of the members of our pool. Highest path first. */
export function writesOutsidePool(
  rights: Rights,
  pool: string,
  ownGuestPaths: ReadonlySet<string>,
): OutsideWrites[] {
  return [...rights]
    .filter(([path]) => path !== `/pool/${pool}` && !path.startsWith('/storage') && !ownGuestPaths.has(path))
    .map(([path, held]) => ({ path, privileges: [...held].filter((one) => GUEST_WRITES.test(one)).sort() }))
    .filter(({ privileges }) => privileges.length > 0)
    .sort((a, b) => a.path.length - b.path.length || (a.path < b.path ? -1 : 1));
}

/** `isAccepted`: the site took the risk on itself, and is told so each time. */
export function outsideFindings(
  found: readonly OutsideWrites[],
  identity: string,
  isAccepted: boolean,
): CheckFinding[] {
  return found.map(({ path, privileges }) => ({
    ok: isAccepted,
    ...(isAccepted && { warning: true }),
    subject: `rights on ${path}`,
    detail: `${spoken(identity)} may write outside its pool: ${privileges.join(', ')}${isAccepted ? ' (accepted by mayWriteOutsidePool)' : ''}`,
    remedy: takeAwayCommand(path, identity),
  }));
}

/** The commands that give one privilege through a role of that name, whether the role is there already or not. */
export function grantCommand(path: string, identity: string, role: string, privilege: string): string {
  const privs = `--privs '${privilege}'`;
  return `pveum role add ${role} ${privs} || pveum role modify ${role} ${privs} --append 1; ${aclCommand(path, identity, role)}`;
}
