import { checkUserEnabled, needAny } from './auth.js';
import { FORMATS } from './formats.js';
import { OPTIONAL_FLAG, OPTIONAL_TEXT, TEXT } from './params.js';
import type { Handled, Pve, PveCall, Route } from './pve.js';
import { normalAclPath, rightsAt, type Rights } from './rights.js';
import { issueTicket, sameText, userOfTicket } from './tickets.js';
import { failure, PveError } from './wire.js';

const USER_OR_TOKEN = /^[^\s:/]+@[A-Za-z][A-Za-z0-9.\-_]+(?:![A-Za-z][A-Za-z0-9.\-_]+)?$/;

export const accessRoutes: readonly Route[] = [
  {
    method: 'GET',
    path: '/access',
    op: 'access.index',
    kind: 'read',
    params: {},
    handle: () => ({
      data: ['users', 'roles', 'acl', 'domains', 'ticket', 'password'].map((subdir) => ({ subdir })),
    }),
  },
  {
    method: 'GET',
    path: '/access/permissions',
    op: 'access.permissions',
    kind: 'read',
    params: { path: OPTIONAL_TEXT, userid: { type: 'string', optional: true, pattern: USER_OR_TOKEN } },
    handle: permissions,
  },
  {
    method: 'GET',
    path: '/access/domains',
    op: 'access.domains',
    kind: 'read',
    params: {},
    guest: true,
    handle: () => ({
      data: [
        { realm: 'pam', type: 'pam', comment: 'Linux PAM standard authentication' },
        { realm: 'pve', type: 'pve', comment: 'Proxmox VE authentication server' },
      ],
    }),
  },
  {
    method: 'GET',
    path: '/access/ticket',
    op: 'access.ticket.form',
    kind: 'read',
    params: {},
    guest: true,
    handle: () => ({ data: null }),
  },
  {
    method: 'POST',
    path: '/access/ticket',
    op: 'access.ticket',
    kind: 'protected-read',
    params: {
      username: { type: 'string', maxLength: 64 },
      realm: { type: 'string', optional: true, format: FORMATS['pve-realm'], maxLength: 32 },
      password: TEXT,
      otp: OPTIONAL_TEXT,
      path: { type: 'string', optional: true, maxLength: 64, requires: 'privs' },
      privs: {
        type: 'string',
        optional: true,
        format: FORMATS['pve-priv'],
        list: true,
        maxLength: 64,
        requires: 'path',
      },
      'new-format': OPTIONAL_FLAG,
      'tfa-challenge': OPTIONAL_TEXT,
    },
    guest: true,
    allowToken: false,
    handle: signIn,
  },
];

/** Effective rights by path: 1 = also below it. Everybody sees their own; those of others need Sys.Audit on /access. */
function permissions({ pve, account, params }: PveCall): Handled {
  const { world } = pve;
  const id = params.text('userid') ?? account.id;
  const [owner = '', name] = id.split('!');
  if (!world.users.has(owner)) throw failure(`no such user ('${owner}')`);
  if (name !== undefined && !world.tokens.has(id))
    throw failure(`no such token '${name}' for user '${owner}'`);
  if (id !== account.id && owner !== account.id) needAny(account, '/access', 'Sys.Audit');
  const path = params.text('path');
  if (path !== undefined) return { data: { [path]: shown(rightsAt(world, id, path)) } };
  const all = knownPaths(pve).map((at) => [at, shown(rightsAt(world, id, at))] as const);
  return { data: Object.fromEntries(all.filter(([, rights]) => Object.keys(rights).length > 0)) };
}

function shown(rights: Rights): Record<string, 0 | 1> {
  return Object.fromEntries([...rights].map(([privilege, propagates]) => [privilege, propagates ? 1 : 0]));
}

function knownPaths({ world }: Pve): string[] {
  const fixed = ['/', '/access', '/access/groups', '/nodes', '/pool', '/sdn', '/storage', '/vms'];
  const members = [...world.pools.values()].flatMap((pool) => [
    ...[...pool.members].map((vmid) => `/vms/${vmid}`),
    ...[...pool.storages].map((storage) => `/storage/${storage}`),
  ]);
  return [...new Set([...fixed, ...world.acl.map(({ path }) => path), ...members])];
}

/** With a password or a ticket that is still good; why not is never told. */
function signIn({ pve, params }: PveCall): Handled {
  const { world, context } = pve;
  const realm = params.text('realm');
  const user = `${params.need('username')}${realm === undefined ? '' : `@${realm}`}`;
  const [path, privileges] = [params.text('path'), params.list('privs')];
  if (!isAllowedIn(pve, user, params.need('password'), path === undefined))
    throw new PveError(401, 'authentication failure');
  const at = path === undefined ? undefined : normalAclPath(path);
  if (path !== undefined) {
    const rights = at === undefined || privileges.length === 0 ? undefined : rightsAt(world, user, at);
    if (!rights || !privileges.every((privilege) => rights.has(privilege)))
      throw new PveError(401, 'authentication failure');
  }
  const made = path === undefined ? issueTicket(world, context.clock, user) : undefined;
  return {
    data: {
      username: user,
      ...(made && { ticket: made.ticket, CSRFPreventionToken: made.csrf }),
      cap: capabilities(pve, user),
      ...(rightsAt(world, user, '/').has('Sys.Audit') ? { clustername: world.cluster } : {}),
    },
    journal: { params: { user } },
  };
}

/** A ticket of root is good for anybody's ticket (`isNewTicket`), else only the user's own. */
function isAllowedIn(pve: Pve, id: string, secret: string, isNewTicket: boolean): boolean {
  const { world, context } = pve;
  try {
    checkUserEnabled(world, context.clock, id);
  } catch (error) {
    if (error instanceof PveError) return false;
    throw error;
  }
  const ofTicket = userOfTicket(world, context.clock, secret);
  if (ofTicket === id || (ofTicket === 'root@pam' && isNewTicket)) return true;
  const password = world.users.get(id)?.password;
  return password !== undefined && sameText(password, secret);
}

const CAPABILITIES: Readonly<Record<string, RegExp>> = {
  vms: /^(?:VM\.|Permissions\.Modify)/,
  access: /^(?:(?:User|Group)\.|Permissions\.Modify)/,
  storage: /^(?:Datastore\.|Permissions\.Modify)/,
  nodes: /^(?:Sys\.|Permissions\.Modify)/,
  sdn: /^(?:SDN\.|Permissions\.Modify)/,
  dc: /^(?:Sys\.Audit|Sys\.Modify|SDN\.)/,
  mapping: /^(?:Mapping\.|Permissions\.Modify)/,
};

/** What the web interface shows or hides: privileges by subject, held anywhere. */
function capabilities(pve: Pve, user: string): Record<string, Record<string, 1>> {
  const found: Record<string, Record<string, 1>> = Object.fromEntries(
    Object.keys(CAPABILITIES).map((subject) => [subject, {}]),
  );
  const paths = ['/', '/nodes', '/access/groups', '/vms', '/storage', '/sdn', '/mapping'];
  for (const path of new Set([...paths, ...pve.world.acl.map((entry) => entry.path)])) {
    const top = path === '/' ? 'dc' : (path.split('/')[1] ?? '');
    for (const subject of top === 'pool' ? ['vms', 'storage'] : [top])
      for (const privilege of rightsAt(pve.world, user, path).keys())
        if (CAPABILITIES[subject]?.test(privilege)) found[subject]![privilege] = 1;
  }
  return found;
}
