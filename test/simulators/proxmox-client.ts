import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { Agent, request } from 'node:https';
import type { ProxmoxSimulator } from '../../src/simulators/proxmox/proxmox-simulator.js';

export interface WireReply {
  readonly status: number;
  readonly reason: string;
  readonly text: string;
  readonly connection: string | undefined;
  readonly headers: IncomingHttpHeaders;
  readonly json: { data?: unknown; message?: string; errors?: Record<string, string>; total?: number };
}

/** Talks to the simulator as curl would: nothing of the product's driver is in here. */
export class WireClient {
  readonly #agent = new Agent({ keepAlive: true });

  constructor(
    private readonly simulator: ProxmoxSimulator,
    private readonly token = simulator.token,
    private readonly endpoint = simulator.endpoints[0]!,
    private readonly headers: Readonly<Record<string, string>> = {
      authorization: `PVEAPIToken=${token.id}=${token.secret}`,
    },
  ) {}

  /** With a ticket instead of a token. */
  static async signedIn(
    simulator: ProxmoxSimulator,
    username = 'root@pam',
    password = simulator.rootPassword,
  ): Promise<WireClient> {
    const guest = new WireClient(simulator, undefined, undefined, {});
    const reply = await guest.post('/access/ticket', { username, password });
    guest.close();
    if (reply.status !== 200) throw new Error(`${username} can't sign in: ${reply.reason}`);
    const { ticket, CSRFPreventionToken } = reply.json.data as Record<string, string>;
    return new WireClient(simulator, undefined, undefined, {
      cookie: `PVEAuthCookie=${encodeURIComponent(ticket!)}`,
      CSRFPreventionToken: CSRFPreventionToken!,
    });
  }

  at(index: number): WireClient {
    return new WireClient(this.simulator, this.token, this.simulator.endpoints[index]!, this.headers);
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
    const type = body === undefined ? {} : { 'content-type': 'application/x-www-form-urlencoded' };
    const length = body === undefined ? {} : { 'content-length': String(Buffer.byteLength(body)) };
    return new Promise((resolve, reject) => {
      const call = request(
        `${this.endpoint}/api2/json${path}`,
        {
          method,
          agent: this.#agent,
          ca: this.simulator.caPem,
          headers: { ...this.headers, ...type, ...length, ...headers },
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
              headers: response.headers,
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

  /** The answer itself, before anybody has read its body. */
  stream(path: string, headers: Record<string, string>, read: (message: IncomingMessage) => void): void {
    const options = {
      agent: this.#agent,
      ca: this.simulator.caPem,
      headers: { ...this.headers, ...headers },
    };
    request(`${this.endpoint}/api2/json${path}`, options, read).end();
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
