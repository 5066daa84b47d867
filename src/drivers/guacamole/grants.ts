import type { PermissionChange, Permissions } from './wire.js';

export const onConnection = (op: 'add' | 'remove', id: string): PermissionChange => ({
  op,
  path: `/connectionPermissions/${id}`,
  value: 'READ',
});

export const onGroup = (op: 'add' | 'remove', id: string): PermissionChange => ({
  op,
  path: `/connectionGroupPermissions/${id}`,
  value: 'READ',
});

export function mayUse(granted: Permissions, connectionId: string): boolean {
  return granted.connectionPermissions?.[connectionId]?.includes('READ') ?? false;
}

export function maySee(granted: Permissions, groupId: string): boolean {
  return granted.connectionGroupPermissions?.[groupId]?.includes('READ') ?? false;
}

/** What a change is about is granted. */
export function holds(granted: Permissions, { path, value }: PermissionChange): boolean {
  const [, kind, id] = path.split('/') as [
    '',
    'connectionPermissions' | 'connectionGroupPermissions',
    string,
  ];
  return granted[kind]?.[id]?.includes(value) ?? false;
}

/** Everything that is granted to an account. Every account may read itself: that does not count. */
export function grantsOf(granted: Permissions, login: string): string[] {
  const { systemPermissions, ...byKind } = granted;
  const objects = Object.entries(byKind).flatMap(([kind, byId]) =>
    Object.entries(byId ?? {})
      .filter(([id, values]) => values.length > 0 && !(kind === 'userPermissions' && id === login))
      .map(([id]) => `${kind}/${id}`),
  );
  return [...objects, ...(systemPermissions ?? [])];
}
