type Version = '8.4' | '9.1';

/** Privileges by the group that the built-in roles are made of. */
interface PrivilegeGroup {
  /** Only `Administrator` has them. */
  readonly root?: readonly string[];
  readonly admin?: readonly string[];
  readonly user?: readonly string[];
  readonly audit?: readonly string[];
}

const AGENT_ADMIN = ['FileRead', 'FileSystemMgmt', 'FileWrite', 'Unrestricted'].map(
  (what) => `VM.GuestAgent.${what}`,
);
const VM_CONFIG_ADMIN = ['CPU', 'Disk', 'HWType', 'Memory', 'Network', 'Options'].map(
  (what) => `VM.Config.${what}`,
);

function privilegeGroups(version: Version): Readonly<Record<string, PrivilegeGroup>> {
  const isNine = version === '9.1';
  return {
    VM: {
      admin: [
        ...VM_CONFIG_ADMIN,
        ...['VM.Allocate', 'VM.Clone', 'VM.Migrate', 'VM.Snapshot', 'VM.Snapshot.Rollback'],
        ...(isNine ? [...AGENT_ADMIN, 'VM.Replicate'] : ['VM.Monitor']),
      ],
      user: ['VM.Backup', 'VM.Config.CDROM', 'VM.Config.Cloudinit', 'VM.Console', 'VM.PowerMgmt'],
      audit: ['VM.Audit', ...(isNine ? ['VM.GuestAgent.Audit'] : [])],
    },
    Sys: {
      root: ['Sys.AccessNetwork', 'Sys.Incoming', 'Sys.Modify', 'Sys.PowerMgmt'],
      admin: ['Sys.Console', 'Sys.Syslog'],
      audit: ['Sys.Audit'],
    },
    Datastore: {
      admin: ['Datastore.Allocate', 'Datastore.AllocateTemplate'],
      user: ['Datastore.AllocateSpace'],
      audit: ['Datastore.Audit'],
    },
    SDN: { admin: ['SDN.Allocate'], user: ['SDN.Use'], audit: ['SDN.Audit'] },
    User: { root: ['Realm.Allocate'], admin: ['Group.Allocate', 'Realm.AllocateUser', 'User.Modify'] },
    Pool: { admin: ['Pool.Allocate'], user: ['Pool.Audit'], audit: ['Pool.Audit'] },
    Mapping: { admin: ['Mapping.Modify'], user: ['Mapping.Use'], audit: ['Mapping.Audit'] },
  };
}

function allPrivileges(version: Version): readonly string[] {
  const grouped = Object.values(privilegeGroups(version)).flatMap((group) => [
    ...(group.root ?? []),
    ...(group.admin ?? []),
    ...(group.user ?? []),
    ...(group.audit ?? []),
  ]);
  return [...new Set(['Permissions.Modify', ...grouped])].sort();
}

// Asked for at every test of a right.
const PRIVILEGES = { '8.4': allPrivileges('8.4'), '9.1': allPrivileges('9.1') };

/** Every privilege that this version knows, in order of name. */
export function privilegesOf(version: Version): readonly string[] {
  return PRIVILEGES[version];
}

/** The roles that every cluster has and nobody can change, with their privileges in order of name. */
export function builtInRoles(version: Version): Map<string, readonly string[]> {
  const roles = new Map<string, Set<string>>();
  const add = (role: string, privileges: readonly string[]): void =>
    void roles.set(role, new Set([...(roles.get(role) ?? []), ...privileges]));
  add('NoAccess', []);
  add('Administrator', privilegesOf(version));
  add('PVETemplateUser', ['VM.Audit', 'VM.Clone']);
  for (const [name, { admin = [], user = [], audit = [] }] of Object.entries(privilegeGroups(version))) {
    add(`PVE${name}Admin`, [...admin, ...user, ...audit]);
    // Changing mappings is left to `PVEMappingAdmin`.
    add(
      'PVEAdmin',
      [...admin, ...user, ...audit].filter((privilege) => privilege !== 'Mapping.Modify'),
    );
    if (user.length > 0) add(`PVE${name}User`, [...user, ...audit]);
    add('PVEAuditor', audit);
  }
  return new Map([...roles].map(([name, privileges]) => [name, [...privileges].sort()]));
}
