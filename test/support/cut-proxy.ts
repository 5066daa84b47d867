import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

/** A connection to a service that a test can cut, as a restart of the service or a broken network does. */
export interface CutProxy {
  readonly url: string;
  /** Ends every connection with a reset; new ones are reset as well until `mend`. */
  cut(): void;
  mend(): void;
  /** Resolves when somebody tried to connect since the last `cut`. */
  tried(): Promise<void>;
  close(): Promise<void>;
}

export async function startCutProxy(target: string): Promise<CutProxy> {
  const { hostname, port } = new URL(target);
  const sockets = new Set<Socket>();
  let isCut = false;
  let onTry: (() => void) | undefined;
  let tried = Promise.resolve();
  const server = createServer((client) => {
    if (isCut) {
      onTry?.();
      client.resetAndDestroy();
      return;
    }
    const service = connect(Number(port), hostname);
    for (const [one, other] of [[client, service], [service, client]] as const) {
      sockets.add(one);
      one.on('error', () => other.destroy());
      one.on('close', () => {
        sockets.delete(one);
        other.destroy();
      });
      one.pipe(other);
    }
  }); // prettier-ignore
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    cut() {
      isCut = true;
      tried = new Promise((resolve) => (onTry = resolve));
      for (const socket of sockets) socket.resetAndDestroy();
    },
    mend: () => void (isCut = false),
    tried: () => tried,
    async close() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}
