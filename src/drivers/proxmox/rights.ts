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

/** The command that gives a role. A token has only what its user has too, so both get it. */
export function aclCommand(path: string, tokenId: string, role: string): string {
  return `pveum acl modify ${path} --users '${tokenId.split('!')[0]}' --tokens '${tokenId}' --roles ${role}`;
}

/** Rights through which a mistake of ours could reach a guest of others: the reason to refuse a token. */
export function tooMuchRights(
  rights: Rights,
  tokenId: string,
  pool: string,
  ownGuestPaths: ReadonlySet<string>,
): CheckFinding[] {
  return [...rights].flatMap(([path, held]) => {
    if (path === `/pool/${pool}` || path.startsWith('/storage') || ownGuestPaths.has(path)) return [];
    const writes = [...held].filter((privilege) => GUEST_WRITES.test(privilege)).sort();
    if (writes.length === 0) return [];
    return [
      {
        ok: false,
        subject: `rights on ${path}`,
        detail: `the token ${tokenId} may write outside its pool: ${writes.join(', ')}`,
        remedy: `pveum acl delete ${path} --tokens '${tokenId}' --roles <the role that gives them>; the token must have --privsep 1`,
      },
    ];
  });
}

/** Rights without which a machine cannot be made, each with the commands that give them. */
export function missingRights(rights: Rights, tokenId: string, pool: string): CheckFinding[] {
  const has = (path: string, privilege: string): boolean => rights.get(path)?.has(privilege) ?? false;
  const below = (prefix: string, privilege: string): boolean =>
    [...rights].some(
      ([path, held]) => (path === prefix || path.startsWith(`${prefix}/`)) && held.has(privilege),
    );
  const grant = (path: string, role: string, privileges: readonly string[]): string =>
    `pveum role add ${role} --privs '${privileges.join(' ')}'; ${aclCommand(path, tokenId, role)}`;
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
    aclCommand('/storage/<storage>', tokenId, 'PVEDatastoreUser'),
  );
  need(
    below('/sdn', 'SDN.Use'),
    'SDN.Use',
    'the token may not attach guests to any bridge',
    aclCommand('/sdn/zones/localnetwork', tokenId, 'PVESDNUser'),
  );
  return findings;
}
