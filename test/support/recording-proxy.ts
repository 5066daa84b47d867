import { createServer, request, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';

export interface RecordedRequest {
  readonly method: string;
  /** Without the query, still encoded. */
  readonly path: string;
  readonly query: string;
  readonly body: string;
  readonly contentType: string | undefined;
  readonly authorization: string | undefined;
  /** Of the answer. */
  readonly status: number;
}

/** Stands before one server, shows that server's own certificate, and keeps every request that was answered. */
export class RecordingProxy {
  private constructor(
    private readonly server: Server,
    readonly url: string,
  ) {}

  static async before(
    target: string,
    certificate: { readonly keyPem: string; readonly certPem: string },
    caPem: string,
    keep: (recorded: RecordedRequest) => void,
  ): Promise<RecordingProxy> {
    const server = createServer(
      { key: certificate.keyPem, cert: certificate.certPem },
      (incoming, outgoing) => {
        const { method = '', url = '', headers } = incoming;
        const chunks: Buffer[] = [];
        incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
        incoming.on('end', () => {
          const body = Buffer.concat(chunks);
          const [path = '', query = ''] = url.split('?');
          const { authorization, 'content-type': contentType } = headers;
          const onward = request(`${target}${url}`, { method, headers, ca: caPem }, (answer) => {
            const status = answer.statusCode ?? 0;
            keep({ method, path, query, body: body.toString('utf8'), contentType, authorization, status });
            outgoing.writeHead(status, answer.statusMessage, answer.headers);
            answer.pipe(outgoing);
          });
          onward.on('error', () => outgoing.destroy());
          onward.end(body);
        });
      },
    );
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return new RecordingProxy(server, `https://127.0.0.1:${(server.address() as AddressInfo).port}`);
  }

  async stop(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.server.close(() => resolve()));
    this.server.closeAllConnections();
    await closed;
  }
}
