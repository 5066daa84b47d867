import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { connect, isIP, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import tls from 'node:tls';
import type { Trust } from '../../core/definitions.js';
import { HatcheryError } from '../../core/errors.js';

/** The peer's certificate is not the one that a person trusts: no byte of HTTP was sent. */
export class UntrustedPeer extends Error {
  override readonly name = 'UntrustedPeer';
}

export interface EndpointAgentOptions {
  /** Left out = the system's certificate authorities. */
  readonly trust: Trust | undefined;
  readonly maxSockets: number;
  readonly connectMs: number;
  /** A kept connection that idles longer is dropped; left out = when the server says so. */
  readonly idleMs?: number;
}

type Connected = (error: Error | null, socket: Duplex) => void;

/**
 * A keep-alive agent of one service.
 * It hands out a connection only when it stands and its peer is the trusted one, so that the event `socket` of a request is the last moment before its bytes leave.
 * Errors: `settings-invalid` when the CA file cannot be read; requests fail with `UntrustedPeer` or the network's error.
 */
export function endpointAgent(endpoint: URL, options: EndpointAgentOptions): http.Agent {
  return endpoint.protocol === 'https:' ? new TlsAgent(endpoint, options) : new PlainAgent(options);
}

class PlainAgent extends http.Agent {
  constructor(private readonly endpointOptions: EndpointAgentOptions) {
    super({ keepAlive: true, maxSockets: endpointOptions.maxSockets, timeout: endpointOptions.idleMs });
  }

  // The typings know only the form that answers at once; with the callback, Node waits for it.
  override createConnection(options: http.RequestOptions, connected: Connected): undefined {
    const socket = connect(Number(options.port ?? 80), options.host ?? 'localhost');
    whenReady(socket, 'connect', this.endpointOptions.connectMs, connected);
    return undefined;
  }
}

class TlsAgent extends https.Agent {
  readonly #settings: tls.ConnectionOptions;
  readonly #pins: readonly string[] | undefined;
  readonly #connectMs: number;

  constructor(endpoint: URL, { trust, maxSockets, connectMs, idleMs }: EndpointAgentOptions) {
    // A resumed handshake may show no certificate to compare or to bind to.
    super({ keepAlive: true, maxSockets, maxCachedSessions: 0, timeout: idleMs });
    this.#connectMs = connectMs;
    this.#pins = pinsOf(trust, endpoint);
    this.#settings = {
      rejectUnauthorized: this.#pins === undefined,
      minVersion: 'TLSv1.2',
      ...(trust !== undefined && 'caFile' in trust && { ca: readCa(trust.caFile) }),
    };
  }

  override createConnection(options: https.RequestOptions, connected: Connected): undefined {
    const host = options.host ?? 'localhost';
    const port = Number(options.port ?? 443);
    const socket = tls.connect({
      host,
      port,
      ...(isIP(host) === 0 && { servername: host }),
      ...this.#settings,
    });
    whenReady(socket, 'secureConnect', this.#connectMs, (error, ready) => {
      const untrusted = error === null ? this.#pinError(socket) : chainError(socket, error);
      if (untrusted !== undefined) socket.destroy();
      connected(untrusted ?? error, ready);
    });
    return undefined;
  }

  #pinError(socket: tls.TLSSocket): UntrustedPeer | undefined {
    if (this.#pins === undefined) return undefined;
    const shown = socket.getPeerCertificate().fingerprint256;
    if (shown !== undefined && this.#pins.includes(shown.toUpperCase())) return undefined;
    return new UntrustedPeer(`its certificate has the fingerprint ${shown}, which is not the pinned one`);
  }
}

function chainError(socket: tls.TLSSocket, error: Error): UntrustedPeer | undefined {
  // The typings say Error; it is null or undefined as long as the chain was not refused.
  const refused = socket.authorizationError as unknown;
  if (refused === null || refused === undefined) return undefined;
  return new UntrustedPeer(`its certificate is not trusted: ${error.message}`, { cause: error });
}

function whenReady(
  socket: Socket,
  event: 'connect' | 'secureConnect',
  limitMs: number,
  done: Connected,
): void {
  const timer = setTimeout(() => socket.destroy(new Error(`no connection after ${limitMs} ms`)), limitMs);
  const settle = (error: Error | null): void => {
    clearTimeout(timer);
    socket.off('error', settle).off('close', closed).off(event, ready);
    done(error, socket);
  };
  const ready = (): void => settle(null);
  const closed = (): void => settle(new Error('the connection closed before it stood'));
  socket.once('error', settle).once('close', closed).once(event, ready);
}

/** A pin under the endpoint's own host name counts alone; under other names any of them may be met. */
function pinsOf(trust: Trust | undefined, endpoint: URL): readonly string[] | undefined {
  if (trust === undefined) return undefined;
  if ('fingerprint' in trust) return [trust.fingerprint.toUpperCase()];
  if (!('fingerprints' in trust)) return undefined;
  const own = trust.fingerprints[endpoint.host] ?? trust.fingerprints[endpoint.hostname];
  return (own === undefined ? Object.values(trust.fingerprints) : [own]).map((pin) => pin.toUpperCase());
}

function readCa(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (cause) {
    throw new HatcheryError(
      'settings-invalid',
      `Unable to read the CA file ${file}: ${(cause as Error).message}`,
      {
        hint: 'copy the certificate of the authority there (PEM), or pin the server by its SHA-256 fingerprint',
        cause,
      },
    );
  }
}
