import { badRequest, internalError } from './guacamole-error.js';

const OBJECT_PERMISSIONS = ['READ', 'UPDATE', 'DELETE', 'ADMINISTER'] as const;
export type ObjectPermission = (typeof OBJECT_PERMISSIONS)[number];
const SYSTEM_PERMISSIONS = [
  'ADMINISTER', 'AUDIT', 'CREATE_CONNECTION', 'CREATE_CONNECTION_GROUP', 'CREATE_SHARING_PROFILE', 'CREATE_USER', 'CREATE_USER_GROUP',
] as const; // prettier-ignore
export type SystemPermission = (typeof SYSTEM_PERMISSIONS)[number];

const OBJECT_KINDS = [
  'connection',
  'connectionGroup',
  'sharingProfile',
  'activeConnection',
  'user',
  'userGroup',
] as const;
export type ObjectKind = (typeof OBJECT_KINDS)[number];

const SYSTEM = 'system';

export interface PermissionChange {
  readonly op: 'add' | 'remove';
  readonly kind: ObjectKind | 'system';
  /** Empty for system permissions. */
  readonly id: string;
  readonly value: string;
}

/** Reads the JSON patch of `PATCH .../permissions`: only add and remove, one permission name per entry. */
export function readPermissionPatch(body: unknown): PermissionChange[] {
  if (!Array.isArray(body)) throw internalError();
  return body.map((entry: unknown) => {
    const { op, path, value } = (entry ?? {}) as { op?: unknown; path?: unknown; value?: unknown };
    if (typeof path !== 'string') throw internalError();
    const [, prefix = '', id = ''] = /^\/([A-Za-z]+)(?:\/(.*))?$/.exec(path) ?? [];
    const kind =
      prefix === 'systemPermissions' ? 'system' : OBJECT_KINDS.find((one) => prefix === `${one}Permissions`);
    if (kind === undefined || (kind === 'system') !== (id === ''))
      throw badRequest(`Unsupported patch path: "${path}"`);
    const known: readonly string[] = kind === 'system' ? SYSTEM_PERMISSIONS : OBJECT_PERMISSIONS;
    // An unknown enum value is an unchecked Java exception there, not a 400.
    if (typeof value !== 'string' || !known.includes(value)) throw internalError();
    if (op !== 'add' && op !== 'remove') throw badRequest(`Unsupported patch operation: "${String(op)}"`);
    return { op, kind, id, value };
  });
}

/** What one user may do, as a view of the world's map `<kind>/<id>` (or `system`) -> permission names. */
export class PermissionSet {
  constructor(private readonly granted: Map<string, Set<string>>) {}

  has(kind: ObjectKind, id: string, value: ObjectPermission): boolean {
    return this.granted.get(`${kind}/${id}`)?.has(value) ?? false;
  }

  hasSystem(value: SystemPermission): boolean {
    return this.granted.get(SYSTEM)?.has(value) ?? false;
  }

  get isAdmin(): boolean {
    return this.hasSystem('ADMINISTER');
  }

  /** Gives true when the set is another than before: repeating an add or a remove is no error and changes nothing. */
  apply(change: PermissionChange): boolean {
    const key = change.kind === 'system' ? SYSTEM : `${change.kind}/${change.id}`;
    const values = this.granted.get(key) ?? new Set<string>();
    const changes = values.has(change.value) === (change.op === 'remove');
    if (change.op === 'add') values.add(change.value);
    else values.delete(change.value);
    if (values.size === 0) this.granted.delete(key);
    else this.granted.set(key, values);
    return changes;
  }

  grant(kind: ObjectKind, id: string, values: readonly ObjectPermission[] = OBJECT_PERMISSIONS): void {
    for (const value of values) this.apply({ op: 'add', kind, id, value });
  }

  forget(kind: ObjectKind, id: string): void {
    this.granted.delete(`${kind}/${id}`);
  }

  view(): Record<string, unknown> {
    const byKind = OBJECT_KINDS.map((kind) => {
      const entries = [...this.granted].filter(([key]) => key.startsWith(`${kind}/`));
      return [
        `${kind}Permissions`,
        Object.fromEntries(entries.map(([key, values]) => [key.slice(kind.length + 1), [...values]])),
      ] as const;
    });
    return { ...Object.fromEntries(byKind), systemPermissions: [...(this.granted.get(SYSTEM) ?? [])] };
  }
}
