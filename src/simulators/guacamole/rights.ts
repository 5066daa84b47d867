import { notFound, permissionDenied } from './guacamole-error.js';
import { ROOT, type GuacamoleModel } from './guacamole-model.js';
import type { ObjectKind, ObjectPermission, PermissionChange, SystemPermission } from './permissions.js';

/** What the signed-in user may do. An object that it may not read is, to it, not there. */
export class Rights {
  constructor(
    private readonly model: GuacamoleModel,
    readonly login: string,
  ) {}

  has(kind: ObjectKind, id: string, permission: ObjectPermission): boolean {
    const own = this.model.permissionsOf(this.login);
    return own.isAdmin || own.has(kind, id, permission);
  }

  need(kind: ObjectKind, id: string, permission: ObjectPermission): void {
    if (!this.has(kind, id, 'READ')) throw notFound(id);
    if (!this.has(kind, id, permission)) throw permissionDenied();
  }

  needCreate(permission: SystemPermission, parent?: string): void {
    const own = this.model.permissionsOf(this.login);
    if (own.isAdmin) return;
    if (!own.hasSystem(permission)) throw permissionDenied();
    if (parent !== undefined && parent !== ROOT && !own.has('connectionGroup', parent, 'UPDATE'))
      throw permissionDenied();
  }

  /** The creator of an object may do everything with it. */
  own(kind: ObjectKind, id: string): void {
    this.model.permissionsOf(this.login).grant(kind, id);
  }

  /** Granting needs UPDATE on the account and ADMINISTER on the object. */
  needGrant(login: string, changes: readonly PermissionChange[]): void {
    if (this.model.permissionsOf(this.login).isAdmin) return;
    this.need('user', login, 'UPDATE');
    for (const change of changes)
      if (change.kind === 'system' || !this.has(change.kind, change.id, 'ADMINISTER'))
        throw permissionDenied();
  }
}
