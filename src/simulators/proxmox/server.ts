import { gzipSync } from 'node:zlib';
import { Interrupted } from '../clock.js';
import type { SimAnswer, SimReply, SimRequest } from '../http.js';
import type { JournalEntry } from '../journal.js';
import { perform, Unheard, type Outcome } from '../operation.js';
import { authenticate, type Account } from './auth.js';
import { drawMs } from './durations.js';
import { decodeUpload } from './multipart.js';
import { checkConflicts, checkParams } from './params.js';
import { GaveUp } from './proxying.js';
import type { Handled, Pve, PveCall, Route } from './pve.js';
import { findRoute } from './router.js';
import {
  checkHead,
  decodeParams,
  errorReply,
  forbidden,
  isFormat,
  PveError,
  rawText,
  splitUrl,
  successReply,
  type Format,
  type RawParams,
} from './wire.js';

const REFUSED_LOGIN_MS = 3_000;
const COMPRESSED_FROM_BYTES = 1_024;

interface Located {
  readonly route: Route;
  readonly values: Record<string, string>;
  readonly raw: RawParams;
}

/** A request as far as it could be understood: the first thing that is wrong with it is `problem`. */
interface Understood {
  readonly format: Format;
  readonly located?: Located;
  readonly account?: Account;
  readonly problem?: PveError;
}

/** Answers the requests that reach one node. */
export function nodeServer(
  pve: Pve,
  local: string,
): (request: SimRequest, delivered: Promise<boolean>) => Promise<SimAnswer> {
  const { clock } = pve.context;
  return async (request, delivered) => {
    const { format, located, account, problem } = understand(pve, request);
    const node = located?.route.local ? local : resolveNode(local, located?.values['node']);
    const vmid = located && vmidOf(located);
    const operation = {
      sim: 'proxmox',
      op: located?.route.op ?? 'unrouted',
      actor: account?.id ?? 'anonymous',
      cluster: pve.world.cluster,
      node,
      ...(vmid === undefined ? {} : { vmid }),
      params: {
        ...(located ? paramsForJournal(located) : { method: request.method, path: request.path }),
        ...(local !== node && { via: local }),
      },
    };
    const startedAtMs = clock.elapsedMs();
    const withParams = async (late: Promise<Partial<JournalEntry>>): Promise<Partial<JournalEntry>> => {
      const journal = await late;
      return { ...journal, params: { ...operation.params, ...journal.params } };
    };
    const act = async (faults: PveCall['faults']): Promise<Outcome> => {
      // It died while the request waited: nobody answers.
      if (pve.conditions.isOff(local)) throw new Interrupted(`node ${local} is off`);
      try {
        if (problem || !account || !located)
          throw problem ?? new Error('a request that is neither wrong nor right');
        const handled = await serve(pve, { local, node, account, ...located, faults });
        const { params, ...journal } = handled.journal ?? {};
        return {
          reply: successReply(handled.data, handled.total, format),
          journal: { ...journal, params: { ...operation.params, ...params } },
        };
      } catch (error) {
        if (error instanceof Unheard) throw new Unheard(error.message, withParams(error.late));
        if (!(error instanceof PveError)) throw error;
        if (error.status === 401)
          await clock.sleep(Math.max(0, startedAtMs + REFUSED_LOGIN_MS - clock.elapsedMs()));
        return {
          reply: errorReply(error, format),
          journal: { params: { ...operation.params, error: error.message } },
          ...(error instanceof GaveUp
            ? {
                late: withParams(error.late),
              }
            : {}),
        };
      }
    };
    return compressed(request, await perform(pve.context, operation, delivered, act, faultReply));
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

function compressed(request: SimRequest, answer: SimAnswer): SimAnswer {
  if (typeof answer === 'string' || !/gzip/.test(String(request.headers['accept-encoding'] ?? '')))
    return answer;
  const body = Buffer.from(answer.body ?? '');
  if (body.length <= COMPRESSED_FROM_BYTES) return answer;
  return { ...answer, headers: { ...answer.headers, 'content-encoding': 'gzip' }, body: gzipSync(body) };
}

/** In the order of the real server: head, address, sign-in, body, and only then whether there is such a call. */
function understand(pve: Pve, request: SimRequest): Understood {
  let [format, located, account]: [Format, Located | undefined, Account | undefined] = [
    'json',
    undefined,
    undefined,
  ];
  try {
    checkHead(request);
    const url = splitUrl(request);
    const found = findRoute(request.method, url.path, pve.world.version);
    if (found) located = { ...found, raw: new Map() };
    if (isFormat(url.format)) format = url.format;
    account = authenticate(pve.world, pve.context.clock, request, found?.route.guest ?? false);
    const raw = found?.route.op === 'storage.upload' ? readUpload(pve, request) : decodeParams(request);
    if (url.format !== format)
      throw new PveError(501, `no formatter for uri ${url.path}, ${url.format}`, { raw: true });
    if (!found) throw new PveError(501, `Method '${request.method} ${url.path}' not implemented`);
    return { format, located: { ...found, raw }, account };
  } catch (error) {
    if (!(error instanceof PveError)) throw error;
    return { format, ...(located && { located }), ...(account && { account }), problem: error };
  }
}

/** The file stays with the server until the call takes it. */
function readUpload(pve: Pve, request: SimRequest): RawParams {
  if (!request.headers['content-type']?.startsWith('multipart/form-data')) return decodeParams(request);
  const { fields, temporary, bytes } = decodeUpload(request);
  pve.uploads.set(temporary, bytes);
  return fields;
}

function resolveNode(local: string, named: string | undefined): string {
  return named === undefined || named === 'localhost' ? local : named;
}

/** Of a guest that is made the new id, as everywhere in the journal. */
function vmidOf({ route, values, raw }: Located): number | undefined {
  const text = route.op.endsWith('.clone')
    ? rawText(raw, 'newid')
    : (values['vmid'] ?? (route.op.endsWith('.create') ? rawText(raw, 'vmid') : undefined));
  return text !== undefined && /^[0-9]{1,9}$/.test(text) ? Number(text) : undefined;
}

function paramsForJournal({ route, values, raw }: Located): Record<string, unknown> {
  const { node: _, vmid, ...others } = values;
  return {
    ...others,
    ...(route.op.endsWith('.clone') && { source: vmid }),
    ...Object.fromEntries([...raw.keys()].map((key) => [key, rawText(raw, key)])),
  };
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
  if (account.isToken && route.allowToken === false)
    throw forbidden(`URI '${route.path}' not available with API token, need proper ticket.`);
  route.permit?.(account, values, (key) => rawText(raw, key), pve.world);
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
