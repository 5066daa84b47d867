import { z } from 'zod';

/** What of Guacamole's JSON (1.5, 1.6) the driver reads; unknown fields are ignored. */

export const tokenAnswer = z.object({
  authToken: z.string().min(1),
  username: z.string(),
  dataSource: z.string().min(1),
});

export const errorAnswer = z.object({ message: z.string().nullish(), type: z.string().nullish() });

export const created = z.object({ identifier: z.string().min(1) });

const group = z.object({ identifier: z.string(), name: z.string(), parentIdentifier: z.string().nullish() });
export const groupMap = z.record(z.string(), group);
export type GroupMap = z.output<typeof groupMap>;

const named = z.object({ identifier: z.string(), name: z.string() });
/** One group with what stands directly in it; empty lists are left out on the wire. */
export const tree = z.object({
  childConnections: z.array(named).nullish(),
  childConnectionGroups: z.array(named).nullish(),
});
export type Tree = z.output<typeof tree>;

export const user = z.object({
  username: z.string(),
  attributes: z.record(z.string(), z.string().nullish()).nullish(),
});

export type Account = z.output<typeof user>;

export const parameters = z.record(z.string(), z.string());
export type Parameters = z.output<typeof parameters>;

const byObject = z.record(z.string(), z.array(z.string())).nullish();
export const permissions = z.object({
  connectionPermissions: byObject,
  connectionGroupPermissions: byObject,
  sharingProfilePermissions: byObject,
  activeConnectionPermissions: byObject,
  userPermissions: byObject,
  userGroupPermissions: byObject,
  systemPermissions: z.array(z.string()).nullish(),
});
export type Permissions = z.output<typeof permissions>;

/** One entry of `PATCH users/{login}/permissions`. */
export interface PermissionChange {
  readonly op: 'add' | 'remove';
  readonly path: `/${'connectionPermissions' | 'connectionGroupPermissions'}/${string}`;
  readonly value: 'READ';
}
