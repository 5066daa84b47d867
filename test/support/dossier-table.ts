import { Agent, request, type RequestOptions } from 'node:https';
import { gunzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import type { WorldSpec } from '../../src/simulators/build-world.js';
import { createContext } from '../../src/simulators/create-context.js';
import {
  startProxmoxSimulator,
  type ProxmoxSimulator,
} from '../../src/simulators/proxmox/proxmox-simulator.js';
import { WireClient } from '../simulators/proxmox-client.js';

type Fields = Readonly<Record<string, string | number | readonly (string | number)[]>>;

/** One request as a program would send it that knows nothing of the product. */
export interface Sent {
  /** `METHOD /path?query`, below /api2/json. */
  readonly call: string;
  /** Sent as a form; a list as a repeated key. */
  readonly form?: Fields;
  /** Instead of `form`, as it stands. */
  readonly body?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Who calls. Default `root`: a token with all rights. */
  readonly as?: Caller;
  /** The node that gets the request, by its place in the world. Default 0. */
  readonly at?: number;
}

/** `deployment`: the minimal role. `nobody`: no credentials. `ticket`: root@pam by password. A token of the world by its id. */
type Caller = 'root' | 'deployment' | 'nobody' | 'ticket' | { readonly token: string };

export interface Reply {
  readonly status: number;
  readonly reason: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly text: string;
  /** The body if it is JSON. */
  readonly json: {
    readonly data?: unknown;
    readonly message?: string;
    readonly errors?: unknown;
    readonly total?: number;
  };
}

interface Expected {
  /** Default: 200, or with `error` 500. */
  readonly status?: number;
  /** An error of the API: reason phrase and `message` of the body. */
  readonly error?: string | RegExp;
  /** By parameter; the status is 400 with the usual text. */
  readonly errors?: Readonly<Record<string, unknown>>;
  /** An error of the HTTP layer: reason phrase and whole body, no JSON and no content type. */
  readonly raw?: string;
  /** Reason phrase of an error without any body. */
  readonly bare?: string;
  /** `data` of the reply, compared with `toEqual` (use expect.objectContaining and the like). */
  readonly data?: unknown;
  /** Of the envelope. */
  readonly json?: Readonly<Record<string, unknown>>;
  readonly headers?: Readonly<Record<string, unknown>>;
  /** The reply is a UPID, and its task ends with this. */
  readonly exit?: string | RegExp;
  /** Lines that the task's log holds, in this order. */
  readonly log?: readonly (string | RegExp)[];
  /** What else must hold afterwards. */
  readonly after?: (bench: DossierBench, reply: Reply) => unknown;
}

export interface DossierCase {
  /** Of the dossier. */
  readonly line: number;
  readonly says: string;
  readonly world?: WorldSpec;
  /** Default 0.01. */
  readonly timeScale?: number;
  readonly given?: (bench: DossierBench) => unknown;
  readonly send: Sent | string | ((bench: DossierBench) => Sent | string | Promise<Sent | string>);
  readonly expect: Expected;
}

/** Replays each case in a world of its own. */
export function replayDossier(section: string, cases: readonly DossierCase[]): void {
  describe(`the dossier, ${section}`, () => {
    for (const one of cases)
      it(`line ${one.line}: ${one.says}`, async () => {
        const bench = await DossierBench.start(one);
        try {
          await one.given?.(bench);
          const sent = typeof one.send === 'function' ? await one.send(bench) : one.send;
          await check(bench, await bench.send(sent), one.expect);
        } finally {
          await bench.stop();
        }
      });
  });
}

/** One simulated cluster and those who call it. */
export class DossierBench {
  readonly #agent = new Agent({ keepAlive: true });
  #ticket: Record<string, string> | undefined;

  private constructor(
    readonly context: ReturnType<typeof createContext>,
    readonly simulator: ProxmoxSimulator,
  ) {}

  static async start({ world, timeScale }: Pick<DossierCase, 'world' | 'timeScale'>): Promise<DossierBench> {
    const context = createContext({
      timeScale: timeScale ?? 0.01,
      seed: 'dossier',
      ...(world === undefined ? {} : { world }),
    });
    return new DossierBench(context, await startProxmoxSimulator(context));
  }

  async stop(): Promise<void> {
    this.#agent.destroy();
    await this.simulator.stop();
    this.context.close();
  }

  get world(): ReturnType<typeof createContext>['world'] {
    return this.context.world;
  }

  /** Sends and expects success; gives `data`. */
  data = async <T = Record<string, unknown>>(sent: Sent | string): Promise<T> => {
    const reply = await this.send(sent);
    expect(reply, reply.text).toMatchObject({ status: 200 });
    return reply.json.data as T;
  };

  /** Sends and follows the task to its end. */
  task = async (sent: Sent | string): Promise<{ exit: string; log: string[] }> =>
    this.follow(await this.data<string>(sent));

  /** The task's verdict and its whole log. */
  async follow(upid: string): Promise<{ exit: string; log: string[] }> {
    expect(upid).toMatch(/^UPID:/);
    const client = new WireClient(this.simulator, this.simulator.rootToken);
    try {
      return await client.task({
        status: 200,
        reason: '',
        text: '',
        connection: undefined,
        headers: {},
        json: { data: upid },
      });
    } finally {
      client.close();
    }
  }

  /** A linked clone of the default template; its id. */
  async clone(newid = 10_500, more: Fields = {}): Promise<number> {
    const { exit } = await this.task({ call: 'POST /nodes/pve1/qemu/9000/clone', form: { newid, ...more } });
    expect(exit).toBe('OK');
    return newid;
  }

  async send(given: Sent | string): Promise<Reply> {
    const sent: Sent = typeof given === 'string' ? { call: given } : given;
    const [method = '', path = ''] = sent.call.split(' ');
    const body = sent.body ?? (sent.form && formOf(sent.form));
    const type = body === undefined ? {} : { 'content-type': 'application/x-www-form-urlencoded' };
    const isChunked = sent.headers?.['transfer-encoding'] === 'chunked';
    const length =
      body === undefined || isChunked ? {} : { 'content-length': String(Buffer.byteLength(body)) };
    return exchange(
      `${this.simulator.endpoints[sent.at ?? 0]}/api2/json${path}`,
      {
        method,
        agent: this.#agent,
        ca: this.simulator.caPem,
        headers: { ...(await this.#credentials(sent.as ?? 'root')), ...type, ...length, ...sent.headers },
      },
      body,
    );
  }

  async #credentials(as: Caller): Promise<Record<string, string>> {
    if (as === 'nobody') return {};
    if (as === 'ticket') return (this.#ticket ??= await this.signIn('root@pam'));
    const token =
      as === 'root'
        ? this.simulator.rootToken
        : as === 'deployment'
          ? this.simulator.token
          : {
              id: as.token,
              secret: [...this.world.tokens.values()].find(({ id }) => id === as.token)?.secret ?? '',
            };
    return { authorization: `PVEAPIToken=${token.id}=${token.secret}` };
  }

  /** The headers of a user that signed in with the password that the world gave. */
  async signIn(username: string): Promise<{ cookie: string; CSRFPreventionToken: string }> {
    const password = this.world.users.get(username)?.password ?? '';
    const { ticket, CSRFPreventionToken } = await this.data<{ ticket: string; CSRFPreventionToken: string }>({
      call: 'POST /access/ticket',
      form: { username, password },
      as: 'nobody',
    });
    return { cookie: `PVEAuthCookie=${encodeURIComponent(ticket)}`, CSRFPreventionToken };
  }
}

async function check(bench: DossierBench, reply: Reply, expected: Expected): Promise<void> {
  const { error, errors, raw, bare } = expected;
  const isError = error !== undefined || raw !== undefined || bare !== undefined;
  const status = expected.status ?? (errors ? 400 : isError ? 500 : 200);
  expect({ status: reply.status, text: reply.text }, reply.reason).toMatchObject({ status });
  if (reply.status >= 400) expect(reply.headers['connection']).toBe('close');
  if (error !== undefined) {
    expect(reply.reason).toEqual(matching(error));
    expect(reply.json.data).toBeNull();
    expect(reply.json.message?.trimEnd()).toEqual(matching(error));
    expect(reply.json.message).toMatch(/\n$/);
  }
  if (errors) {
    expect(reply.json.errors).toEqual(errors);
    expect(reply.reason).toBe('Parameter verification failed.');
  }
  if (raw !== undefined)
    expect([reply.reason, reply.text, reply.headers['content-type']]).toEqual([raw, raw, undefined]);
  if (bare !== undefined) expect([reply.reason, reply.text]).toEqual([bare, '']);
  if ('data' in expected) expect(reply.json.data).toEqual(expected.data);
  if (expected.json) expect(reply.json).toMatchObject(expected.json);
  if (expected.headers) expect(reply.headers).toMatchObject(expected.headers);
  if (expected.exit !== undefined || expected.log) {
    const { exit, log } = await bench.follow(String(reply.json.data));
    if (expected.exit !== undefined) expect(exit, log.join('\n')).toEqual(matching(expected.exit));
    let from = 0;
    for (const line of expected.log ?? []) {
      const at = log.findIndex((text, index) => index >= from && isMatch(text, line));
      expect(at, `${String(line)} in ${JSON.stringify(log)}`).toBeGreaterThanOrEqual(from);
      from = at + 1;
    }
  }
  await expected.after?.(bench, reply);
}

function matching(wanted: string | RegExp): unknown {
  return typeof wanted === 'string' ? wanted : expect.stringMatching(wanted);
}

function isMatch(text: string, wanted: string | RegExp): boolean {
  return typeof wanted === 'string' ? text === wanted : wanted.test(text);
}

function formOf(fields: Fields): string {
  return Object.entries(fields)
    .flatMap(([key, value]) =>
      (typeof value === 'object' ? value : [value]).map((one) => [key, one] as const),
    )
    .map(([key, value]) => `${encodeURIComponent(key)}=${encodeURIComponent(value)}`)
    .join('&');
}

function exchange(url: string, options: RequestOptions, body: string | undefined): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const call = request(url, options, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject).on('end', () => {
        const bytes = Buffer.concat(chunks);
        const isPacked = response.headers['content-encoding'] === 'gzip';
        const text = (isPacked ? gunzipSync(bytes) : bytes).toString('utf8');
        const isJson = response.headers['content-type']?.startsWith('application/json');
        resolve({
          status: response.statusCode ?? 0,
          reason: response.statusMessage ?? '',
          headers: response.headers,
          text,
          json: isJson ? (JSON.parse(text) as Reply['json']) : {},
        });
      });
    });
    call.on('error', reject);
    call.end(body);
  });
}
