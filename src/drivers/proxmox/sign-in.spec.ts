import { describe, expect, it } from 'vitest';
import { HatcheryError } from '../../core/errors.js';
import type { Clock } from '../../ports/clock.js';
import { Secret } from '../../ports/secrets.js';
import { TicketSignIn } from './sign-in.js';

const HOUR = 3_600_000;
const refused = () => new HatcheryError('permission-missing', 'no', { retry: 'after-fix' });
const away = () => new HatcheryError('cluster-unreachable', 'away', { retry: 'later' });

function setUp() {
  let now = 0;
  const clock: Clock = { monotonicMs: () => now, wallMs: () => now, sleep: () => Promise.reject(refused()) };
  const asked: string[] = [];
  let fail: (password: string) => Error | undefined = () => undefined;
  const signIn = new TicketSignIn({
    clock,
    remoteTimeScale: 1,
    password: new Secret('pass'),
    ask: (password) => {
      asked.push(password);
      const error = fail(password);
      if (error) return Promise.reject(error);
      return Promise.resolve({ ticket: `PVE:u@pve:${asked.length}`, csrf: `csrf${asked.length}` });
    },
  });
  return {
    asked,
    proof: () => signIn.proof(new AbortController().signal),
    signIn,
    after: (ms: number) => void (now += ms),
    failWith: (error: typeof fail) => void (fail = error),
  };
}

describe('signing in for a ticket', () => {
  it('happens once for all who wait, and writes show the CSRF token', async () => {
    const { asked, proof } = setUp();
    const [first, second] = await Promise.all([proof(), proof()]);
    expect(asked).toEqual(['pass']);
    expect(second).toBe(first);
    expect(first.read).toEqual({ cookie: 'PVEAuthCookie=PVE%3Au%40pve%3A1' });
    expect(first.write).toEqual({ ...first.read, csrfpreventiontoken: 'csrf1' });
  });

  it('is renewed with the ticket itself before that ends, and nobody waits for it', async () => {
    const { asked, proof, after } = setUp();
    const first = await proof();
    after(1.2 * HOUR);
    expect(await proof()).toBe(first);
    expect(asked).toEqual(['pass', 'PVE:u@pve:1']);
    await expect.poll(async () => (await proof()).write['csrfpreventiontoken']).toBe('csrf2');
    expect(asked).toHaveLength(2);
  });

  it('uses the password again when the ticket is too old or refused', async () => {
    const { asked, proof, after, failWith, signIn } = setUp();
    await proof();
    after(2 * HOUR);
    const second = await proof();
    expect(asked).toEqual(['pass', 'pass']);
    expect(signIn.isOutdated(second)).toBe(true);
    const third = await proof();
    // A late 401 for the old proof does not throw the new one away.
    signIn.isOutdated(second);
    expect(await proof()).toBe(third);
    failWith((password) => (password === 'pass' ? undefined : refused()));
    after(1.5 * HOUR);
    await proof();
    await expect.poll(() => asked.slice(3)).toEqual(['PVE:u@pve:3', 'pass']);
  });

  it('goes on with the old ticket while the renewal does not get through', async () => {
    const { proof, after, failWith } = setUp();
    const first = await proof();
    failWith(away);
    after(1.5 * HOUR);
    expect(await proof()).toBe(first);
    expect(await proof()).toBe(first);
    after(0.5 * HOUR);
    await expect(proof()).rejects.toMatchObject({ code: 'cluster-unreachable' });
  });

  it('does not try a refused password again at once', async () => {
    const { asked, proof, after, failWith } = setUp();
    failWith(refused);
    await expect(proof()).rejects.toMatchObject({ code: 'permission-missing' });
    await expect(proof()).rejects.toMatchObject({ code: 'permission-missing' });
    expect(asked).toHaveLength(1);
    failWith(() => undefined);
    after(30_000);
    await expect(proof()).resolves.toBeDefined();
  });
});
