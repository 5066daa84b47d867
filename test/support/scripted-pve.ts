import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { certificateAuthority } from '../../src/simulators/tls.js';

export interface ScriptedRequest {
  readonly method: string;
  /** After `/api2/json`, without the query. */
  readonly path: string;
  readonly query: URLSearchParams;
  /** The same for all requests of one connection. */
  readonly port: number;
}

export interface ScriptedReply {
  readonly status?: number;
  readonly reason?: string;
  readonly body: unknown;
}

/** An API server that answers as a test says, for what the simulator never does. */
export class ScriptedPve {
  private constructor(
    readonly url: string,
    readonly fingerprint: string,
    readonly stop: () => Promise<void>,
  ) {}

  static async start(answer: (request: ScriptedRequest) => ScriptedReply): Promise<ScriptedPve> {
    const { keyPem, certPem, fingerprint } = certificateAuthority(new Map()).issue('pve1');
    const server = createServer({ key: keyPem, cert: certPem }, (incoming, outgoing) => {
      const { pathname, searchParams } = new URL(incoming.url ?? '/', 'https://pve1');
      incoming.resume().once('end', () => {
        const { status, reason, body } = answer({
          method: incoming.method ?? 'GET',
          path: pathname.replace(/^\/api2\/json/, ''),
          query: searchParams,
          port: incoming.socket.remotePort ?? 0,
        });
        outgoing.writeHead(status ?? 200, reason ?? 'OK', { 'content-type': 'application/json' });
        outgoing.end(JSON.stringify(body));
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const stop = async (): Promise<void> => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
    };
    return new ScriptedPve(`https://127.0.0.1:${(server.address() as AddressInfo).port}`, fingerprint, stop);
  }
}
