import { createHmac, timingSafeEqual } from 'node:crypto';
import type { SimClock } from '../clock.js';
import type { World } from '../world.js';

const LIFE_MS = 7_200_000;
/** Of the signature: a real one is RSA with 2048 bits. */
const SIGNATURE_BYTES = 256;

export interface Ticket {
  readonly ticket: string;
  readonly csrf: string;
}

/** What somebody gets who signed in: good for 2 h of simulated time, though the stamp in it is wall time like all on the wire. */
export function issueTicket(world: World, clock: SimClock, user: string): Ticket {
  const stamp = clock.unixSeconds().toString(16).toUpperCase().padStart(8, '0');
  const text = `PVE:${user}:${stamp}`;
  const issuedMs = Buffer.alloc(8);
  issuedMs.writeDoubleBE(clock.elapsedMs());
  const ticket = `${text}::${signature(world, text, issuedMs).toString('base64')}`;
  return { ticket, csrf: `${stamp}:${csrfSignature(world, user, stamp)}` };
}

/** The user of a valid ticket. */
export function userOfTicket(world: World, clock: SimClock, ticket: string): string | undefined {
  const [, text = '', user = '', sealed = ''] = /^(PVE:(\S+):[0-9A-F]{8})::([^:\s]+)$/.exec(ticket) ?? [];
  const given = Buffer.from(sealed, 'base64');
  if (given.length !== SIGNATURE_BYTES) return undefined;
  const issuedMs = given.subarray(0, 8);
  if (!timingSafeEqual(given, signature(world, text, issuedMs))) return undefined;
  const ageMs = clock.elapsedMs() - issuedMs.readDoubleBE();
  return ageMs >= 0 && ageMs <= LIFE_MS ? user : undefined;
}

/** Is this the CSRF token of that user. Its own age is not looked at: that of the ticket beside it is. */
export function isCsrfToken(world: World, user: string, token: string): boolean {
  const [, stamp = '', given = ''] = /^([0-9A-F]{8}):(\S+)$/.exec(token) ?? [];
  return sameText(given, csrfSignature(world, user, stamp));
}

/** The moment of issue in simulated time stands in the first bytes, where nobody looks. */
function signature(world: World, text: string, issuedMs: Buffer): Buffer {
  const seal = (part: number): Buffer =>
    createHmac('sha256', world.authKey).update(`${part}:${text}:`).update(issuedMs).digest();
  const seals = Array.from({ length: SIGNATURE_BYTES / 32 }, (_, part) => seal(part));
  return Buffer.concat([issuedMs, ...seals]).subarray(0, SIGNATURE_BYTES);
}

function csrfSignature(world: World, user: string, stamp: string): string {
  const digest = createHmac('sha256', world.authKey).update(`csrf:${stamp}:${user}`).digest('base64');
  return digest.replace(/=+$/, '');
}

export function sameText(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(b)];
  return left.length === right.length && timingSafeEqual(left, right);
}
