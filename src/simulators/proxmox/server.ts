import type { SimAnswer, SimReply, SimRequest } from '../http.js';
import { perform, type Outcome } from '../operation.js';
import { authenticate, type Account } from './auth.js';
import { drawMs } from './durations.js';
import { checkConflicts, checkParams } from './params.js';
import { GaveUp } from './proxying.js';
import type { Handled, Pve, PveCall, Route } from './pve.js';
import { findRoute } from './router.js';
import { decodeParams, errorReply, PveError, rawText, successReply, type RawParams } from './wire.js';

const BASE = '/api2/json';
const REFUSED_LOGIN_MS = 3_000;

interface Located {
  readonly route: Route;
  readonly values: Record<string, string>;
  readonly raw: RawParams;
}

/** Answers the requests that reach one node. */
export function nodeServer(
  pve: Pve,
  local: string,
): (request: SimRequest, delivered: Promise<boolean>) => Promise<SimAnswer> {
  return async (request, delivered) => {
    const { located, problem } = locate(pve, request);
    const signIn = trySignIn(pve, request);
    const node = located?.route.local ? local : resolveNode(local, located?.values['node']);
    const vmid = located && vmidOf(located);
    const operation = {
      sim: 'proxmox',
      op: located?.route.op ?? 'unrouted',
      actor: signIn.account?.id ?? 'anonymous',
      cluster: pve.world.cluster,
      node,
      ...(vmid === undefined ? {} : { vmid }),
      params: {
        ...(located ? paramsForJournal(located) : { method: request.method, path: request.path }),
        ...(local !== node && { via: local }),
      },
    };
    const act = async (faults: PveCall['faults']): Promise<Outcome> => {
      try {
        if (problem) throw problem;
        if (!signIn.account) {
          await pve.context.clock.sleep(REFUSED_LOGIN_MS);
          throw signIn.refused;
        }
        if (!located)
          throw new PveError(
            501,
            `Method '${request.method} ${request.path.slice(BASE.length)}' not implemented`,
          );
        const handled = await serve(pve, { local, node, account: signIn.account, ...located, faults });
        const { params, ...journal } = handled.journal ?? {};
        return {
          reply: successReply(handled.data, handled.total),
          journal: { ...journal, params: { ...operation.params, ...params } },
        };
      } catch (error) {
        if (error instanceof PveError)
          return {
            reply: errorReply(error),
            journal: { params: { ...operation.params, error: error.message } },
            ...(error instanceof GaveUp
              ? {
                  late: error.late.then((journal) => ({
                    ...journal,
                    params: { ...operation.params, ...journal.params },
                  })),
                }
              : {}),
          };
        throw error;
      }
    };
    return perform(pve.context, operation, delivered, act, faultReply);
  };
}

/** Pseudo codes of a proxying node have an empty body. */
function faultReply(status: number, message: string): SimReply {
  return errorReply(
    new PveError(status, message === '' ? `simulated ${status}` : message, {
      empty: status > 590 || status === 401,
    }),
  );
}

function locate(pve: Pve, request: SimRequest): { located?: Located; problem?: PveError } {
  if (!request.path.startsWith(`${BASE}/`))
    return { problem: new PveError(400, 'invalid url', { raw: true }) };
  const found = findRoute(request.method, request.path.slice(BASE.length), pve.world.version);
  try {
    const raw = decodeParams(request);
    return found ? { located: { ...found, raw } } : {};
  } catch (error) {
    if (!(error instanceof PveError)) throw error;
    return found ? { located: { ...found, raw: new Map() }, problem: error } : { problem: error };
  }
}

function trySignIn(pve: Pve, request: SimRequest): { account?: Account; refused?: PveError } {
  try {
    return { account: authenticate(pve.world, request.headers.authorization) };
  } catch (error) {
    if (error instanceof PveError) return { refused: error };
    throw error;
  }
}

function resolveNode(local: string, named: string | undefined): string {
  return named === undefined || named === 'localhost' ? local : named;
}

/** For a clone the new id, as everywhere in the journal. */
function vmidOf({ route, values, raw }: Located): number | undefined {
  const text = route.op === 'qemu.clone' ? rawText(raw, 'newid') : values['vmid'];
  return text !== undefined && /^[0-9]{1,9}$/.test(text) ? Number(text) : undefined;
}

function paramsForJournal({ values, raw }: Located): Record<string, unknown> {
  const { node: _, vmid: __, ...others } = values;
  return { ...others, ...Object.fromEntries([...raw.keys()].map((key) => [key, rawText(raw, key)])) };
}

interface Service extends Located {
  readonly local: string;
  readonly node: string;
  readonly account: Account;
  readonly faults: PveCall['faults'];
}

/** Permission, then proxying to the node of the path, then parameters, then the handler. */
async function serve(pve: Pve, service: Service): Promise<Handled> {
  const { route, values, raw, local, node, account, faults } = service;
  checkConflicts(raw, values);
  route.permit?.(account, values, (key) => rawText(raw, key));
  return pve.proxying.execute(route, local, node, async (worker) => {
    const params = checkParams(route.params, raw, values, pve.world.version);
    const call: PveCall = {
      pve,
      account,
      local,
      node,
      worker,
      vmid: Number(values['vmid'] ?? 0),
      path: values,
      params,
      faults,
      op: route.op,
    };
    if (route.op !== 'qemu.agent.interfaces') await pve.context.clock.sleep(latencyMs(pve, route));
    return route.handle(call);
  });
}

function latencyMs(pve: Pve, route: Route): number {
  const base = drawMs(pve.context, route.kind, route.op);
  return route.op === 'cluster.resources' ? base + 0.15 * pve.world.guests.size : base;
}
