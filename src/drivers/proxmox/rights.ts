import type { CheckFinding } from '../../ports/hypervisor.js';

/** What a token may do: privileges by ACL path, inherited ones included (`GET /access/permissions`). */
export type Rights = ReadonlyMap<string, ReadonlySet<string>>;

/** Privileges that change guests. VM.Clone and VM.Audit read them, VM.Console and VM.GuestAgent.Audit look into them. */
const GUEST_WRITES =
  /^(VM\.(Allocate|PowerMgmt|Migrate|Backup|Snapshot|Snapshot\.Rollback|Monitor|Replicate|Config\..+|GuestAgent\.(Unrestricted|FileWrite))|Permissions\.Modify|Sys\.(Modify|PowerMgmt))$/;

const POOL_ROLE = [
  ...['VM.Allocate', 'VM.Audit', 'VM.Clone', 'VM.PowerMgmt'],
  ...['CDROM', 'CPU', 'Cloudinit', 'Disk', 'HWType', 'Memory', 'Network', 'Options'].map(
    (key) => `VM.Config.${key}`,
  ),
];

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

/** Rights without which a machine cannot be made, each with the commands that give them. */
export function missingRights(rights: Rights, identity: string, pool: string): CheckFinding[] {
  const has = (path: string, privilege: string): boolean => rights.get(path)?.has(privilege) ?? false;
  const below = (prefix: string, privilege: string): boolean =>
    [...rights].some(
      ([path, held]) => (path === prefix || path.startsWith(`${prefix}/`)) && held.has(privilege),
    );
  const grant = (path: string, role: string, privileges: readonly string[]): string =>
    `pveum role add ${role} --privs '${privileges.join(' ')}'; ${aclCommand(path, identity, role)}`;
  const findings: CheckFinding[] = [];
  const need = (isThere: boolean, subject: string, detail: string, remedy: string): void => {
    if (!isThere) findings.push({ ok: false, subject, detail, remedy });
  };
  need(
    has('/', 'Sys.Audit'),
    'Sys.Audit on /',
    'the token cannot read quorum and tasks',
    grant('/', 'HatcherySys', ['Sys.Audit']),
  );
  need(
    has('/vms', 'VM.Audit'),
    'VM.Audit on /vms',
    'the token does not see the guests of others, so it cannot keep out of their way',
    grant('/vms', 'HatcheryRead', ['VM.Audit', 'Pool.Audit']),
  );
  const poolPath = `/pool/${pool}`;
  const role = [...POOL_ROLE, 'VM.GuestAgent.Audit', 'Pool.Audit', 'Pool.Allocate'];
  const lacking = POOL_ROLE.filter((privilege) => !has(poolPath, privilege));
  need(
    lacking.length === 0,
    `rights on ${poolPath}`,
    `the token lacks ${lacking.join(', ')}`,
    grant(poolPath, 'HatcheryPool', role),
  );
  need(
    has(poolPath, 'Pool.Audit'),
    `Pool.Audit on ${poolPath}`,
    'the token cannot read its pool',
    grant(poolPath, 'HatcheryPool', role),
  );
  need(
    has(poolPath, 'VM.GuestAgent.Audit') || has(poolPath, 'VM.Monitor'),
    `VM.GuestAgent.Audit on ${poolPath}`,
    'the token cannot ask guests for their address',
    `${grant(poolPath, 'HatcheryPool', role)} (Proxmox VE 8: VM.Monitor instead of VM.GuestAgent.Audit)`,
  );
  need(
    below('/storage', 'Datastore.AllocateSpace'),
    'Datastore.AllocateSpace',
    'the token may not use any storage',
    aclCommand('/storage/<storage>', identity, 'PVEDatastoreUser'),
  );
  need(
    below('/sdn', 'SDN.Use'),
    'SDN.Use',
    'the token may not attach guests to any bridge',
    aclCommand('/sdn/zones/localnetwork', identity, 'PVESDNUser'),
  );
  return findings;
}
