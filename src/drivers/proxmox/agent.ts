import https from 'node:https';
import { isIP } from 'node:net';
import type { Duplex } from 'node:stream';
import tls from 'node:tls';
import type { EndpointTrust } from './trust.js';

type Connected = (error: Error | null, socket: Duplex) => void;

/** The server closes idle connections after 5 s; ours are gone long before, so that a request rarely meets a closing one. */
const IDLE_MS = 2_000;
/** Three blocking workers stand behind an endpoint: more parallel calls would only queue up there. */
const MAX_SOCKETS = 16;

/**
 * Hands out a connection only after its handshake is done and its peer is the trusted one, so no byte of HTTP (and no token) reaches anybody else.
 * Sessions are not resumed: a resumed handshake may show no certificate to compare.
 */
export class PinnedAgent extends https.Agent {
  readonly #trust: EndpointTrust;
  readonly #connectMs: number;

  constructor(trust: EndpointTrust, connectMs: number) {
    super({
      keepAlive: true,
      timeout: IDLE_MS,
      maxSockets: MAX_SOCKETS,
      maxFreeSockets: 8,
      maxCachedSessions: 0,
    });
    this.#trust = trust;
    this.#connectMs = connectMs;
  }

  // The typings know only the http form of this hook; with the callback, Node waits for it.
  override createConnection(options: https.RequestOptions, connected: Connected): undefined {
    const host = options.host ?? 'localhost';
    const socket = tls.connect({
      host,
      port: Number(options.port ?? 8006),
      ...(isIP(host) === 0 && { servername: host }),
      minVersion: 'TLSv1.2',
      ...this.#trust.options,
    });
    socket.setNoDelay(true);
    const timer = setTimeout(
      () => socket.destroy(new Error(`no connection after ${this.#connectMs} ms`)),
      this.#connectMs,
    );
    const settle = (error: Error | null): void => {
      clearTimeout(timer);
      socket.off('close', closed);
      socket.off('secureConnect', verified);
      socket.off('error', settle);
      // A late error of a connection that was given up is nobody's news, but without a listener it would end the process.
      if (error) socket.on('error', () => undefined).destroy();
      connected(error, socket);
    };
    const closed = (): void => settle(new Error('the connection closed during the handshake'));
    const verified = (): void => {
      try {
        this.#trust.verify(socket);
        settle(null);
      } catch (error) {
        settle(error as Error);
      }
    };
    socket.once('error', settle);
    socket.once('close', closed);
    socket.once('secureConnect', verified);
    return undefined;
  }
}
