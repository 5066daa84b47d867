import { randomUUID } from 'node:crypto';
import type { Act } from '../acts.js';
import type { ListenOptions, RunningSimulator, SimulatorContext } from '../context.js';
import { listen, type SimAnswer, type SimReply, type SimRequest } from '../http.js';
import { perform, type Outcome } from '../operation.js';
import type { WorldGuacamoleConnection, WorldGuacamoleGroup } from '../world.js';
import { dataRoute, type RouteResult } from './data-routes.js';
import {
  faulted,
  GuacamoleError,
  internalError,
  invalidCredentials,
  noSuchToken,
  notFound,
} from './guacamole-error.js';
import { GuacamoleModel, ROOT } from './guacamole-model.js';
import { Rights } from './rights.js';
import { Sessions } from './sessions.js';

const BASE = '/guacamole/api/';
const SOURCE = 'postgresql';
const ACCOUNT = 'hatchery';
export const REQUEST_MS = { median: 40, p95: 120 };
const SESSION_TIMEOUT_MS = 60 * 60_000;

export interface GuacamoleOptions extends ListenOptions {
  /** Idle time after which a token dies, simulated. Default 60 minutes. */
  readonly sessionTimeoutMs?: number;
}

export interface GuacamoleSimulator extends RunningSimulator {
  /** With the web application's path: `https://127.0.0.1:PORT/guacamole`. */
  readonly endpoint: string;
  readonly caPem: string;
  readonly fingerprint: string;
  readonly username: string;
  readonly password: string;
  connections(): ReadonlyMap<string, WorldGuacamoleConnection>;
  groups(): ReadonlyMap<string, WorldGuacamoleGroup>;
  users(): readonly string[];
  /** As `GET users/{login}/permissions` shows them. */
  permissions(login: string): Record<string, unknown>;
  /** Every token is dead from now on. */
  expireSessions(): void;
}

/** Apache Guacamole's REST API over HTTPS with the JDBC data source `postgresql`. */
export async function startGuacamoleSimulator(
  context: SimulatorContext,
  options: GuacamoleOptions = {},
): Promise<GuacamoleSimulator> {
  const model = new GuacamoleModel(context.world.guacamole);
  if (model.world.users.size === 0) populate(model);
  const certificate = context.authority.issue('guacamole');
  const sessions = new Sessions(context.clock, options.sessionTimeoutMs ?? SESSION_TIMEOUT_MS);
  context.faults.actsOf('guacamole', (act) => expire(context, sessions, act));
  const service = new GuacamoleService(context, model, sessions);
  const listener = await listen({
    port: options.port,
    keepAliveMs: options.keepAliveMs,
    certificate,
    handle: (request, delivered) => service.handle(request, delivered),
  });
  const endpoint = `${listener.url}/guacamole`;
  return {
    endpoints: [endpoint],
    endpoint,
    caPem: context.authority.caPem,
    fingerprint: certificate.fingerprint,
    username: ACCOUNT,
    password: model.user(ACCOUNT).password,
    connections: () => model.world.connections,
    groups: () => model.world.groups,
    users: () => [...model.world.users.keys()],
    permissions: (login) => model.permissionsOf(login).view(),
    expireSessions: () => sessions.closeAll(),
    stop: () => listener.stop(),
  };
}

/** `roll-back` is done by the request itself. */
function expire(context: SimulatorContext, sessions: Sessions, { do: name, inMs }: Act): void {
  if (name !== 'expire-tickets') return;
  if (inMs !== undefined) context.clock.after(inMs, () => expire(context, sessions, { do: name }));
  else {
    sessions.closeAll();
    const line = { sim: 'guacamole', event: 'foreign', actor: 'simulator', effect: true } as const;
    context.journal.record({ ...line, op: `condition.${name}` });
  }
}

/** What was there before us: the administrator, our account, and a teacher with a connection of her own. */
function populate(model: GuacamoleModel): void {
  model.addUser({ username: 'guacadmin', password: randomUUID() });
  model.addUser({ username: ACCOUNT, password: randomUUID() });
  for (const login of ['guacadmin', ACCOUNT])
    model.permissionsOf(login).apply({ op: 'add', kind: 'system', id: '', value: 'ADMINISTER' });
  model.addUser({
    username: 'c.martin',
    password: randomUUID(),
    attributes: { 'guac-full-name': 'Claire Martin' },
  });
  const connection = model.addConnection({
    name: 'Salle 204',
    parentIdentifier: ROOT,
    protocol: 'rdp',
    parameters: { hostname: '10.20.0.4', port: '3389' },
  });
  model.permissionsOf('c.martin').grant('connection', connection, ['READ']);
}

class GuacamoleService {
  constructor(
    private readonly context: SimulatorContext,
    private readonly model: GuacamoleModel,
    private readonly sessions: Sessions,
  ) {}

  handle(request: SimRequest, delivered: Promise<boolean>): Promise<SimAnswer> {
    const segments = segmentsOf(request.path);
    const token = tokenOf(request);
    const actor = this.sessions.loginOf(token) ?? 'anonymous';
    const { op, act } = this.#route(request, segments, token);
    return perform(
      this.context,
      { sim: 'guacamole', op, actor },
      delivered,
      async (faults) => {
        const draw = this.context.random.stream(op);
        await this.context.clock.sleep(draw.logNormal(REQUEST_MS.median, REQUEST_MS.p95));
        try {
          const rollBack = faults.own('roll-back') && this.model.savepoint();
          const result = act();
          rollBack?.();
          return this.#outcome(actor, rollBack ? { ...result, effect: false, sides: [] } : result);
        } catch (error) {
          if (error instanceof GuacamoleError) return { reply: json(error.status, error.body()) };
          throw error;
        }
      },
      (status, message) => json(status, faulted(status, message).body()),
    );
  }

  #route(
    request: SimRequest,
    segments: readonly string[] | undefined,
    token: string | undefined,
  ): { op: string; act: () => RouteResult } {
    const unrouted = { op: 'unrouted', act: (): RouteResult => fail(notFound(request.path)) };
    if (segments === undefined) return unrouted;
    const [first, second, source = '', ...rest] = segments;
    if (first === 'tokens') return this.#tokenRoute(request, second) ?? unrouted;
    if (first !== 'session' || second !== 'data') return unrouted;
    const route = dataRoute(request.method, rest);
    if (route === undefined) return unrouted;
    return {
      op: route.op,
      act: () => {
        const login = this.sessions.require(token);
        if (source !== SOURCE) throw notFound(source);
        return route.act(new Rights(this.model, login), this.model, bodyOf(request));
      },
    };
  }

  #tokenRoute(
    request: SimRequest,
    token: string | undefined,
  ): { op: string; act: () => RouteResult } | undefined {
    if (request.method === 'POST' && token === undefined)
      return { op: 'guacamole.token.create', act: () => this.#signIn(request) };
    if (request.method !== 'DELETE' || token === undefined) return undefined;
    return {
      op: 'guacamole.token.delete',
      act: () => (this.sessions.close(token) ? { status: 204 } : fail(noSuchToken())),
    };
  }

  #signIn(request: SimRequest): RouteResult {
    if (!/^application\/x-www-form-urlencoded/i.test(request.headers['content-type'] ?? ''))
      return { status: 415 };
    const form = new URLSearchParams(request.body.toString('utf8'));
    const known = this.sessions.loginOf(form.get('token') ?? undefined);
    const login = known ?? form.get('username') ?? '';
    const user = this.model.world.users.get(login);
    if (user === undefined || (known === undefined && user.password !== form.get('password')))
      throw invalidCredentials();
    if (user.attributes['disabled'] === 'true') throw invalidCredentials();
    const authToken = known === undefined ? this.sessions.open(login) : form.get('token');
    return {
      status: 200,
      body: {
        authToken,
        username: login,
        dataSource: SOURCE,
        availableDataSources: [SOURCE, `${SOURCE}-shared`],
      },
      resource: login,
    };
  }

  #outcome(actor: string, result: RouteResult): Outcome {
    const { status, body, effect = false, resource, params, sides = [] } = result;
    const ns = this.context.journal.now();
    for (const side of sides)
      this.context.journal.record({ sim: 'guacamole', event: 'request', actor, effect: true, ns, ...side });
    const journal = {
      ns,
      effect,
      ...(resource === undefined ? {} : { resource }),
      ...(params === undefined ? {} : { params }),
    };
    return { reply: body === undefined ? { status } : json(status, body), journal };
  }
}

function segmentsOf(path: string): string[] | undefined {
  if (!path.startsWith(BASE)) return undefined;
  try {
    return path.slice(BASE.length).split('/').map(decodeURIComponent);
  } catch (error) {
    if (error instanceof URIError) return undefined;
    throw error;
  }
}

function tokenOf(request: SimRequest): string | undefined {
  const header = request.headers['guacamole-token'];
  return (
    (typeof header === 'string' ? header : undefined) ??
    new URLSearchParams(request.query).get('token') ??
    undefined
  );
}

function bodyOf(request: SimRequest): unknown {
  if (request.body.length === 0) return undefined;
  try {
    return JSON.parse(request.body.toString('utf8'));
  } catch {
    throw internalError();
  }
}

function fail(error: GuacamoleError): never {
  throw error;
}

function json(status: number, body: unknown): SimReply {
  return { status, headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) };
}
