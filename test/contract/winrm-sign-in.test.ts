import { afterEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/drivers/system-clock.js';
import { WinrmConnection } from '../../src/drivers/winrm/connection.js';
import { Secret } from '../../src/ports/secrets.js';
import { listen, type SimReply, type SimRequest } from '../../src/simulators/http.js';
import { certificateAuthority } from '../../src/simulators/tls.js';
import { NtlmAcceptor } from '../../src/simulators/winrm/ntlm-acceptor.js';

const basic = `Basic ${Buffer.from('hatchery:pässword').toString('base64')}`;
const done: SimReply = { status: 200, body: 'answer' };
const offer = (...schemes: string[]): SimReply => ({ status: 401, headers: { 'www-authenticate': schemes } });

describe('signing in to WinRM', () => {
  const closing: (() => unknown)[] = [];
  afterEach(() => Promise.all(closing.splice(0).map((close) => close())));

  async function start(
    answer: (request: SimRequest) => SimReply,
    more: { keepAliveMs?: number; maxRequestsPerSocket?: number } = {},
  ) {
    const certificate = certificateAuthority(new Map()).issue('server');
    const bodies: string[] = [];
    const listener = await listen({
      certificate,
      handle: async (request) => {
        bodies.push(request.body.toString());
        return answer(request);
      },
      ...more,
    });
    const connection = new WinrmConnection({
      endpoint: new URL(`${listener.url}/wsman`),
      trust: { fingerprint: certificate.fingerprint },
      username: 'hatchery',
      password: new Secret('pässword'),
      timeoutMs: 5_000,
      clock: systemClock,
    });
    closing.push(
      () => connection.close(),
      () => listener.stop(),
    );
    return {
      bodies,
      post: (text: string) => connection.post(text, { signal: new AbortController().signal }),
      connection,
    };
  }

  it('uses Basic when the server offers nothing better, and says so', async () => {
    const { post, connection, bodies } = await start(({ headers }) =>
      headers.authorization === basic ? done : offer('Basic realm="WSMAN"'),
    );
    expect((await post('one')).body.toString()).toBe('answer');
    expect((await post('two')).status).toBe(200);
    expect(connection.signInMethod).toBe('basic');
    expect(bodies).toEqual(['', 'one', 'two']);
  });

  it('does not fall back to Basic when the server speaks NTLM', async () => {
    const seen: string[] = [];
    const { post } = await start(({ headers }) => {
      seen.push((headers.authorization ?? '').split(' ')[0]!);
      return ntlmOffer(headers.authorization) ?? offer('Negotiate', 'Basic realm="WSMAN"');
    });
    await expect(post('one')).rejects.toMatchObject({ code: 'permission-missing', retry: 'after-fix' });
    expect(seen).toEqual(['Negotiate', 'Negotiate']);
  });

  it('gives up on a server that offers no way in', async () => {
    const { post } = await start(() => offer('Kerberos'));
    await expect(post('one')).rejects.toMatchObject({ code: 'permission-missing', retry: 'after-fix' });
  });

  it('takes an answer that is not WinRM for no sign-in', async () => {
    const { post } = await start(() => ({ status: 404 }));
    await expect(post('one')).rejects.toMatchObject({ code: 'service-unreachable', retry: 'later' });
  });

  it('does not blame the password when the connection is not kept', async () => {
    const { post } = await start(({ headers }) => ntlmOffer(headers.authorization) ?? offer('Negotiate'), {
      maxRequestsPerSocket: 1,
    });
    await expect(post('one')).rejects.toMatchObject({ code: 'service-unreachable', retry: 'later' });
  });

  it('signs in again on a new connection when the old one is gone', async () => {
    const sockets = new Set<object>();
    const signedIn = new WeakSet<object>();
    const { post } = await start(({ headers, socket }) => {
      sockets.add(socket);
      if (headers.authorization !== undefined) {
        const challenge = ntlmOffer(headers.authorization);
        if (challenge !== undefined) return challenge;
        signedIn.add(socket);
      }
      if (!signedIn.has(socket)) return offer('Negotiate');
      return { ...done, headers: { connection: 'close' } };
    });
    expect((await post('one')).status).toBe(200);
    expect((await post('two')).status).toBe(200);
    expect(sockets.size).toBe(2);
  });
});

/** Answers the first NTLM message with a challenge; anything else is not its business. */
function ntlmOffer(authorization: string | undefined): SimReply | undefined {
  const message = Buffer.from((authorization ?? '').replace(/^Negotiate /, ''), 'base64');
  if (NtlmAcceptor.typeOf(message) !== 1) return undefined;
  const acceptor = new NtlmAcceptor({ computer: 'DHCP1', domain: 'SIM', passwordOf: () => undefined });
  return offer(`Negotiate ${acceptor.challenge(message).toString('base64')}`);
}
