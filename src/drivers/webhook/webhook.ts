import { lookup as resolve, type LookupAddress } from 'node:dns';
import { BlockList, isIP, type LookupFunction } from 'node:net';
import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import axios from 'axios';
import { HatcheryError } from '../../core/errors.js';

/** Addresses that a person's URL must not reach: this host, private networks, link-local (cloud metadata), multicast. */
const INSIDE = new BlockList();
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
  INSIDE.addSubnet(net, bits, 'ipv4');
for (const [net, bits] of [
  ['::', 127],
  ['64:ff9b::', 96],
  ['fc00::', 7],
  ['fe80::', 10],
  ['ff00::', 8],
] as const)
  INSIDE.addSubnet(net, bits, 'ipv6');

/** True for an address inside this host or its networks; IPv4 in IPv6 clothes included. */
export function isInside(address: string): boolean {
  const mapped = /^::ffff:([0-9.]+)$/i.exec(address)?.[1];
  const plain = mapped ?? address;
  return isIP(plain) === 0 || INSIDE.check(plain, isIP(plain) === 6 ? 'ipv6' : 'ipv4');
}

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
    const { hostname } = new URL(url);
    const bare = hostname.replace(/^\[|\]$/g, '');
    const mayBeInside = this.options.allowedHosts.includes(bare);
    if (isIP(bare) !== 0 && !mayBeInside && isInside(bare)) throw refusedTarget(bare);
    const agentOptions = { lookup: this.pinned(bare, mayBeInside), keepAlive: false };
    try {
      await axios.post(url, body, {
        timeout: this.options.timeoutMs,
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
      `Unable to post the summary to ${host}: ${status === undefined ? error.message : `it answered ${status}`}`,
      { retry: 'later' },
    );
  return new HatcheryError('remote-refused', `Unable to post the summary to ${host}: it answered ${status}`);
}
