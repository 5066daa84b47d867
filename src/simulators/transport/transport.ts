import { connect as connectPlain, createServer, type AddressInfo, type Socket } from 'node:net';
import { connect as connectTls, TLSSocket } from 'node:tls';
import { HatcheryError } from '../../core/errors.js';
import type { ListenOptions, RunningSimulator, SimulatorContext } from '../context.js';
import type { TransportName } from '../names.js';
import { HttpWire } from './http-wire.js';
import { PostgresWire } from './postgres-wire.js';
import { RedisWire } from './redis-wire.js';
import { Relay, type Side } from './relay.js';
import type { Wire } from './wire.js';

interface Protocol {
  readonly sim: TransportName;
  readonly isTls: boolean;
  readonly port: number;
  readonly wire: () => Wire;
}

const redis = { sim: 'redis', port: 6379, wire: () => new RedisWire() } as const;
const postgres = { sim: 'postgres', port: 5432, wire: () => new PostgresWire(), isTls: false } as const;
const http = { sim: 'http', wire: () => new HttpWire() } as const;
const PROTOCOLS: Readonly<Record<string, Protocol>> = {
  'redis:': { ...redis, isTls: false },
  'rediss:': { ...redis, isTls: true },
  'postgres:': postgres,
  'postgresql:': postgres,
  'http:': { ...http, isTls: false, port: 80 },
  'https:': { ...http, isTls: true, port: 443 },
};

export interface TransportOptions extends ListenOptions {
  /** Where it leads: `redis[s]://`, `postgres[ql]://` or `http[s]://`, host and port; the rest of a URL is the client's affair. */
  readonly to: string;
  /** PEM of who signed the certificate there; left out = who the system trusts. */
  readonly ca?: string;
}

/** What a transport needs of the simulators' context: its clock is the one of its rules' windows and delays, in its journal they are told. */
export type TransportContext = Pick<SimulatorContext, 'clock' | 'faults' | 'journal' | 'authority'>;

export interface Transport extends RunningSimulator {
  /** The same as the effect `cut`, by hand: without `forMs` until `mend`. */
  cut(forMs?: number): void;
  mend(): Promise<void>;
}

/**
 * A proxy before a store or a server that disturbs connections as the fault rules for its `sim` say. Every connection is an operation `connect`, every
 * request on it one of its own (see the wires). With TLS it shows a certificate of `authority` and reads what goes by; channel bindings
 * of a sign-in that names the other certificate do not pass.
 */
export async function startTransport(
  context: TransportContext,
  options: TransportOptions,
): Promise<Transport> {
  const { clock, faults } = context;
  const { protocol, host, port: servicePort } = readTarget(options.to);
  const certificate = protocol.isTls ? context.authority.issue('transport') : undefined;
  const relays = new Map<Relay, Promise<void>>();
  const broken: unknown[] = [];
  let isStopping = false;
  let cuts = 0;

  const server = createServer({ allowHalfOpen: true, noDelay: true }, (raw) => {
    const stream = certificate
      ? new TLSSocket(raw, {
          isServer: true,
          key: certificate.keyPem,
          cert: certificate.certPem,
          ALPNProtocols: ['http/1.1'],
        })
      : raw;
    const relay = new Relay({
      client: { stream, reset: () => void raw.resetAndDestroy() },
      connect: () => connect(protocol, host, servicePort, options.ca),
      wire: protocol.wire(),
      match: (op) => faults.match({ sim: protocol.sim, op }),
      cut,
    });
    const run = relay
      .run()
      .catch((error: unknown) => void broken.push(error))
      .finally(() => relays.delete(relay));
    relays.set(relay, run);
  });
  const listen = (port: number): Promise<void> =>
    new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen(port, '127.0.0.1', () => {
        server.removeListener('error', reject);
        resolve();
      });
    });
  const mend = async (): Promise<void> => {
    cuts += 1;
    if (!server.listening && !isStopping) await listen(port);
  };
  function cut(forMs?: number): void {
    cuts += 1;
    const own = cuts;
    server.close();
    for (const relay of relays.keys()) relay.reset();
    if (forMs === undefined) return;
    clock.after(forMs, () => {
      if (own === cuts) mend().catch((error: unknown) => void broken.push(error));
    });
  }

  await listen(options.port ?? 0);
  const { port } = server.address() as AddressInfo;
  return {
    endpoints: [`${new URL(options.to).protocol}//127.0.0.1:${port}`],
    ...(certificate && { fingerprint: certificate.fingerprint }),
    cut,
    mend,
    async stop() {
      isStopping = true;
      server.close();
      const running = [...relays.values()];
      for (const relay of relays.keys()) relay.reset();
      await Promise.all(running);
      if (broken.length > 0) throw broken[0];
    },
  };
}

function readTarget(to: string): { protocol: Protocol; host: string; port: number } {
  const url = URL.canParse(to) ? new URL(to) : undefined;
  const protocol = url && PROTOCOLS[url.protocol];
  if (protocol === undefined || url === undefined || url.hostname === '')
    throw new HatcheryError(
      'settings-invalid',
      'Unable to start a transport: write --to redis://host:port, postgres://host:port or https://host:port',
    );
  const host = url.hostname.replace(/^\[|\]$/g, '');
  return { protocol, host, port: url.port === '' ? protocol.port : Number(url.port) };
}

function connect(protocol: Protocol, host: string, port: number, ca: string | undefined): Promise<Side> {
  return new Promise((resolve, reject) => {
    const raw: Socket = connectPlain({ host, port, noDelay: true, allowHalfOpen: true });
    const stream = protocol.isTls
      ? connectTls({ socket: raw, ...(ca !== undefined && { ca }), ...serverName(host) })
      : raw;
    const side = { stream, reset: () => void raw.resetAndDestroy() };
    stream.once('error', reject);
    stream.once(protocol.isTls ? 'secureConnect' : 'connect', () => {
      stream.removeListener('error', reject);
      resolve(side);
    });
  });
}

/** An address is no server name. */
const serverName = (host: string): { servername?: string; host: string } =>
  /^[\d.]+$|:/.test(host) ? { host } : { host, servername: host };
