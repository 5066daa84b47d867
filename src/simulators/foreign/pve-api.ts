import { Agent, request } from 'node:https';
import { setTimeout as sleep } from 'node:timers/promises';

export interface Access {
  /** One per node; the first that answers is used. */
  readonly endpoints: readonly string[];
  readonly ca: string;
  readonly token: { readonly id: string; readonly secret: string };
}

export interface Reply {
  readonly status: number;
  /** Of a refusal: why. */
  readonly reason: string;
  readonly data: unknown;
}

const POLL_MS = 200;

/** The API of a cluster as a person's script uses it. */
export class PveApi {
  readonly #agent = new Agent({ keepAlive: true });
  #at = 0;

  constructor(private readonly access: Access) {}

  async call(
    method: 'GET' | 'POST' | 'PUT' | 'DELETE',
    path: string,
    params: Readonly<Record<string, string | number>> = {},
  ): Promise<Reply> {
    const { endpoints } = this.access;
    for (let tried = 1; ; tried += 1) {
      try {
        return await this.#send(method, path, params);
      } catch (error) {
        this.#at = (this.#at + 1) % endpoints.length;
        if (tried >= endpoints.length)
          return {
            status: 0,
            reason: error instanceof Error ? error.message : String(error),
            data: undefined,
          };
      }
    }
  }

  /** Waits for the end of the task that a reply names. False = it failed, or was never started. */
  async follow({ status, data }: Reply): Promise<boolean> {
    if (status !== 200 || typeof data !== 'string') return false;
    const path = `/nodes/${data.split(':')[1]}/tasks/${encodeURIComponent(data)}/status`;
    for (;;) {
      const reply = await this.call('GET', path);
      const task = reply.data as { status?: string; exitstatus?: string } | undefined;
      if (task?.status === 'stopped')
        return task.exitstatus === 'OK' || task.exitstatus?.startsWith('WARNINGS') === true;
      // A node that is down or a task that is forgotten is nobody's to wait for.
      if (reply.status !== 200) return false;
      await sleep(POLL_MS);
    }
  }

  close(): void {
    this.#agent.destroy();
  }

  #send(method: string, path: string, params: Readonly<Record<string, string | number>>): Promise<Reply> {
    const { endpoints, ca, token } = this.access;
    const text = new URLSearchParams();
    for (const [key, value] of Object.entries(params)) text.set(key, String(value));
    const isBody = method === 'POST' || method === 'PUT';
    const query = isBody || text.size === 0 ? '' : `?${text.toString()}`;
    const body = isBody ? text.toString() : '';
    return new Promise((resolve, reject) => {
      const headers = {
        authorization: `PVEAPIToken=${token.id}=${token.secret}`,
        ...(isBody && {
          'content-type': 'application/x-www-form-urlencoded',
          'content-length': String(Buffer.byteLength(body)),
        }),
      };
      const url = `${endpoints[this.#at]}/api2/json${path}${query}`;
      const call = request(url, { method, agent: this.#agent, ca, headers }, (answer) => {
        let json = '';
        answer.setEncoding('utf8').on('data', (part: string) => (json += part));
        answer.on('error', reject);
        answer.on('end', () => {
          const { statusCode: status = 0, statusMessage: reason = '' } = answer;
          resolve({ status, reason, data: status === 200 ? dataOf(json) : undefined });
        });
      });
      call.on('error', reject);
      call.end(body);
    });
  }
}

function dataOf(json: string): unknown {
  try {
    return (JSON.parse(json) as { data?: unknown }).data;
  } catch {
    return undefined;
  }
}
