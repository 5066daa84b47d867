import { lookup as resolve, type LookupAddress } from 'node:dns';
import { BlockList, isIP, type LookupFunction } from 'node:net';
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import axios from 'axios';
import { HatcheryError } from '../../core/errors.js';

/** IPv4 addresses that a person's URL must not reach: this host, private networks, link-local (cloud metadata), multicast. */
const INSIDE_IPV4 = new BlockList();
for (const [net, bits] of [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['224.0.0.0', 3],
] as const)
  INSIDE_IPV4.addSubnet(net, bits, 'ipv4');

/** Of IPv6 only global unicast is outside, without the tunnels that carry any IPv4 address (Teredo, 6to4). Source: IANA's registry, RFC 6890. */
const GLOBAL_IPV6 = new BlockList();
GLOBAL_IPV6.addSubnet('2000::', 3, 'ipv6');
const TUNNELS_IPV6 = new BlockList();
TUNNELS_IPV6.addSubnet('2001::', 23, 'ipv6');
TUNNELS_IPV6.addSubnet('2002::', 16, 'ipv6');

/** True for an address inside this host or its networks; IPv4 in IPv6 clothes included. */
export function isInside(address: string): boolean {
  const mapped = /^::ffff:([0-9.]+)$/i.exec(address)?.[1];
  const plain = mapped ?? address;
  if (isIP(plain) === 4) return INSIDE_IPV4.check(plain, 'ipv4');
  return isIP(plain) !== 6 || !GLOBAL_IPV6.check(plain, 'ipv6') || TUNNELS_IPV6.check(plain, 'ipv6');
}

/**
 * Refuses what can be refused before anything is resolved: an address inside, this host by name, a login in the URL (it would be kept in clear).
 * Error: `request-invalid`.
 */
export function checkTarget(url: string, allowedHosts: readonly string[]): void {
  const { hostname, username, password } = new URL(url);
  const host = bareHost(hostname);
  if (username !== '' || password !== '')
    throw new HatcheryError(
      'request-invalid',
      `Unable to post the summary to ${host}: the address holds a login`,
      {
        hint: 'Leave out what stands before the @: the address is kept as it is.',
      },
    );
  if (allowedHosts.includes(host)) return;
  const isThisHost = /^(.+\.)?localhost\.?$/i.test(host);
  if (isThisHost || (isIP(host) !== 0 && isInside(host))) throw refusedTarget(host);
}

/** IPv6 addresses stand in brackets in a URL. */
const bareHost = (hostname: string): string => hostname.replace(/^\[|\]$/g, '');

/**
 * Posts JSON to a URL that a person gave. The name is resolved once and the connection goes to that very address; addresses inside our
 * networks are refused unless the admin listed the host; redirects are not followed.
 * Errors: `request-invalid` (never: it stays refused), `service-unreachable` (later: no answer, 5xx, 429), `remote-refused` (never: other 4xx).
 */
export class Webhook {
  constructor(
    private readonly options: {
      readonly allowedHosts: readonly string[];
      readonly timeoutMs: number;
      readonly resolveName?: typeof resolve;
    },
  ) {}

  async post(url: string, body: object, idempotencyKey: string): Promise<void> {
    const bare = bareHost(new URL(url).hostname);
    checkTarget(url, this.options.allowedHosts);
    const mayBeInside = this.options.allowedHosts.includes(bare);
    const agentOptions = { lookup: this.pinned(bare, mayBeInside), keepAlive: false };
    try {
      await axios.post(url, body, {
        // From the first byte to the last: a time-out of axios would begin anew with each byte.
        signal: AbortSignal.timeout(this.options.timeoutMs),
        maxRedirects: 0,
        maxContentLength: 64 * 1024,
        proxy: false,
        headers: { 'idempotency-key': idempotencyKey, 'user-agent': 'hatchery' },
        httpAgent: new HttpAgent(agentOptions),
        httpsAgent: new HttpsAgent(agentOptions),
      });
    } catch (error) {
      throw translate(bare, error);
    }
  }

  private pinned(host: string, mayBeInside: boolean): LookupFunction {
    const resolveName = this.options.resolveName ?? resolve;
    return (name, options, done) => {
      resolveName(name, { ...options, all: true }, (error, found) => {
        const addresses = found as LookupAddress[];
        if (error) return done(error, '', 0);
        if (!mayBeInside && addresses.some((one) => isInside(one.address)))
          return done(refusedTarget(host) as NodeJS.ErrnoException & HatcheryError, '', 0);
        const [first] = addresses;
        return options.all === true
          ? done(null, addresses)
          : done(null, first?.address ?? '', first?.family ?? 0);
      });
    };
  }
}

const refusedTarget = (host: string): HatcheryError =>
  new HatcheryError(
    'request-invalid',
    `Unable to post the summary to ${host}: the address is inside this network`,
    {
      hint: `An admin may allow it: HATCHERY_NOTIFY_HOSTS=${host}`,
    },
  );

function translate(host: string, error: unknown): HatcheryError {
  if (error instanceof HatcheryError) return error;
  if (!axios.isAxiosError(error))
    return new HatcheryError('internal', `Unable to post the summary to ${host}: ${String(error)}`, {
      cause: error,
    });
  if (error.cause instanceof HatcheryError) return error.cause;
  const status = error.response?.status;
  if (status === undefined || status >= 500 || status === 429)
    return new HatcheryError(
      'service-unreachable',
      `Unable to post the summary to ${host}: ${status === undefined ? reasonOf(error) : `it answered ${status}`}`,
      { retry: 'later' },
    );
  return new HatcheryError('remote-refused', `Unable to post the summary to ${host}: it answered ${status}`);
}

const reasonOf = (error: Error & { code?: string | undefined }): string =>
  error.code === 'ERR_CANCELED' ? 'no whole answer in time' : error.message;
