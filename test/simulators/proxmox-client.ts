import { Agent, request } from 'node:https';
import type { ProxmoxSimulator } from '../../src/simulators/proxmox/proxmox-simulator.js';

export interface WireReply {
  readonly status: number;
  readonly reason: string;
  readonly text: string;
  readonly connection: string | undefined;
  readonly json: { data?: unknown; message?: string; errors?: Record<string, string>; total?: number };
}

/** Talks to the simulator as curl would: nothing of the product's driver is in here. */
export class WireClient {
  readonly #agent = new Agent({ keepAlive: true });

  constructor(
    private readonly simulator: ProxmoxSimulator,
    private readonly token = simulator.token,
    private readonly endpoint = simulator.endpoints[0]!,
  ) {}

  at(index: number): WireClient {
    return new WireClient(this.simulator, this.token, this.simulator.endpoints[index]!);
  }

  get = (path: string): Promise<WireReply> => this.send('GET', path);
  delete = (path: string): Promise<WireReply> => this.send('DELETE', path);
  post = (path: string, params: Record<string, string | number> = {}): Promise<WireReply> =>
    this.send('POST', path, params);
  put = (path: string, params: Record<string, string | number> = {}): Promise<WireReply> =>
    this.send('PUT', path, params);

  send(
    method: string,
    path: string,
    params?: Record<string, string | number> | string,
    headers: Record<string, string> = {},
  ): Promise<WireReply> {
    const body = typeof params === 'string' ? params : params && form(params);
    const authorization = `PVEAPIToken=${this.token.id}=${this.token.secret}`;
    const type = body === undefined ? {} : { 'content-type': 'application/x-www-form-urlencoded' };
    const length = body === undefined ? {} : { 'content-length': String(Buffer.byteLength(body)) };
    return new Promise((resolve, reject) => {
      const call = request(
        `${this.endpoint}/api2/json${path}`,
        {
          method,
          agent: this.#agent,
          ca: this.simulator.caPem,
          headers: { authorization, ...type, ...length, ...headers },
        },
        (response) => {
          let text = '';
          response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
          response.on('end', () => {
            const isJson = response.headers['content-type']?.startsWith('application/json');
            resolve({
              status: response.statusCode ?? 0,
              reason: response.statusMessage ?? '',
              text,
              connection: response.headers.connection,
              json: isJson ? (JSON.parse(text) as WireReply['json']) : {},
            });
          });
          response.on('error', reject);
        },
      );
      call.on('error', reject);
      call.end(body);
    });
  }

  /** Follows a task to its end; gives the exit status and the log. */
  async task(started: WireReply): Promise<{ exit: string; log: string[] }> {
    const upid = String(started.json.data);
    const node = upid.split(':')[1]!;
    const path = `/nodes/${node}/tasks/${encodeURIComponent(upid)}`;
    for (;;) {
      const status = (await this.get(`${path}/status`)).json.data as { status: string; exitstatus?: string };
      if (status.status === 'stopped') {
        const log = (await this.get(`${path}/log?limit=0`)).json.data as { t: string }[];
        return { exit: status.exitstatus!, log: log.map((line) => line.t) };
      }
    }
  }

  close(): void {
    this.#agent.destroy();
  }
}

function form(params: Record<string, string | number>): string {
  return Object.entries(params)
    .map(([key, value]) => `${encodeURIComponent(key)}=${encodeURIComponent(value)}`)
    .join('&');
}
