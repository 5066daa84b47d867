import type { SimClock } from '../clock.js';
import type { SimRequest } from '../http.js';
import type { World } from '../world.js';
import { rightsAt, type Rights } from './rights.js';
import { isCsrfToken, sameText, userOfTicket } from './tickets.js';
import { forbidden, PveError } from './wire.js';

/** Who calls. */
export interface Account {
  /** `user@realm` of a ticket, `user@realm!name` of a token; `anonymous` where no sign-in is needed. */
  readonly id: string;
  /** `user@realm`; empty for `anonymous`. */
  readonly user: string;
  readonly isToken: boolean;
  /** Signed in with a ticket of root@pam: no token ever is. */
  readonly isRoot: boolean;
  /** Privileges at a path of the access tree. */
  at(path: string): Rights;
}

/**
 * Who a request is from: a ticket in the cookie or (`PVEAuthCookie=`) in the Authorization header, else an API token.
 * `guest` = the call needs nobody. Errors are 401 with an empty body, as they are raised before any handler.
 */
export function authenticate(
  world: World,
  clock: SimClock,
  request: SimRequest,
  isGuestCall: boolean,
): Account {
  const { cookie, authorization } = request.headers;
  const ticket = authValue(cookie, 'PVEAuthCookie') ?? authValue(authorization, 'PVEAuthCookie');
  const token = ticket === undefined ? authValue(authorization, 'PVEAPIToken') : undefined;
  if (isGuestCall) return { ...accountOf(world, ''), id: 'anonymous', isToken: token !== undefined };
  if (token !== undefined) return accountOf(world, verifyToken(world, clock, token));
  if (ticket === undefined) throw refused('No ticket');
  const user = userOfTicket(world, clock, ticket);
  if (user === undefined) throw signInRefused(world, 'permission denied - invalid PVE ticket');
  checkUserEnabled(world, clock, user);
  const csrf = request.headers['csrfpreventiontoken'];
  if (request.method !== 'GET' && !(typeof csrf === 'string' && isCsrfToken(world, user, csrf)))
    throw refused('Permission denied - invalid csrf token');
  return accountOf(world, user);
}

function accountOf(world: World, id: string): Account {
  const user = id.split('!')[0] ?? '';
  return {
    id,
    user,
    isToken: id !== user,
    isRoot: id === 'root@pam',
    at: (path) => rightsAt(world, id, path),
  };
}

function refused(message: string): PveError {
  return new PveError(401, message, { empty: true });
}

/** The newer version does not tell why. */
function signInRefused(world: World, reason: string): PveError {
  return refused(world.version === '9.1' ? 'Authentication failed!' : reason);
}

/** `NAME=value` or `NAME value` in a cookie or Authorization header. */
function authValue(header: string | undefined, name: string): string | undefined {
  const value = new RegExp(`(?:^|\\s)${name}[= ]([^;]*)`).exec(header ?? '')?.[1];
  if (value === undefined || value === '') return undefined;
  try {
    return decodeURIComponent(value);
  } catch {
    return value;
  }
}

function verifyToken(world: World, clock: SimClock, text: string): string {
  const [, id, secret = ''] = /^(.*)=(.*)$/.exec(text) ?? [];
  if (id === undefined) throw signInRefused(world, 'no tokenid specified');
  const [, user, name] = /^([^\s:/!]+@[A-Za-z][A-Za-z0-9.\-_]+)!([A-Za-z][A-Za-z0-9.\-_]+)$/.exec(id) ?? [];
  if (user === undefined)
    throw signInRefused(
      world,
      `'${id}' is not a valid token ID - not able to split into user and token parts`,
    );
  checkUserEnabled(world, clock, user);
  const token = world.tokens.get(id);
  if (!token) throw signInRefused(world, `no such token '${name}' for user '${user}'`);
  if (token.expire !== 0 && token.expire < clock.unixSeconds())
    throw signInRefused(world, `token '${name}' access expired`);
  if (!sameText(token.secret, secret)) throw signInRefused(world, 'invalid token value!');
  return id;
}

/** Errors are those of a refused sign-in. */
export function checkUserEnabled(world: World, clock: SimClock, id: string): void {
  const user = world.users.get(id);
  if (!user) throw signInRefused(world, `no such user ('${id}')`);
  if (!user.enabled) throw signInRefused(world, `user '${id}' is disabled`);
  if (user.expire !== 0 && user.expire < clock.unixSeconds())
    throw signInRefused(world, `user '${id}' access expired`);
}

/** All of the privileges; the first that is missing is told. */
export function need(account: Account, path: string, ...privileges: string[]): void {
  const have = account.at(path);
  const missing = privileges.find((privilege) => !have.has(privilege));
  if (missing !== undefined) throw forbidden(`${path}, ${missing}`);
}

/** At least one of them. */
export function needAny(account: Account, path: string, ...privileges: string[]): void {
  const have = account.at(path);
  if (!privileges.some((privilege) => have.has(privilege)))
    throw forbidden(`${path}, ${privileges.join('|')}`);
}
