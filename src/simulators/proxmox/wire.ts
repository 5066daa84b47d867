import type { SimReply, SimRequest } from '../http.js';

/** An error as the API shows it: status, message (= reason phrase), `errors` by parameter, or a raw text body from the HTTP layer. */
export class PveError extends Error {
  override readonly name = 'PveError';
  constructor(
    readonly status: number,
    message: string,
    readonly more: { errors?: Readonly<Record<string, string>>; raw?: boolean; empty?: boolean } = {},
  ) {
    super(message);
  }
}

/** A plain runtime error: 500, also for everything that is not found. */
export function failure(message: string): PveError {
  return new PveError(500, message);
}

export function parameterErrors(errors: Readonly<Record<string, string>>): PveError {
  return new PveError(400, 'Parameter verification failed.', { errors });
}

export function forbidden(what?: string): PveError {
  return new PveError(
    403,
    what === undefined ? 'Permission check failed' : `Permission check failed (${what})`,
  );
}

const JSON_HEADERS = {
  'content-type': 'application/json;charset=UTF-8',
  'cache-control': 'max-age=0',
  pragma: 'no-cache',
};
const SERVER = { server: 'pve-api-daemon/3.0' };

export function successReply(data: unknown, total?: number): SimReply {
  const body = JSON.stringify({ data: data ?? null, ...(total === undefined ? {} : { total }) });
  return { status: 200, reason: 'OK', headers: { ...SERVER, ...JSON_HEADERS }, body };
}

/** Every reply from 400 up closes the connection. */
export function errorReply(error: PveError): SimReply {
  const headers = { ...SERVER, connection: 'close' };
  const { errors, raw, empty } = error.more;
  if (empty) return { status: error.status, reason: error.message, headers };
  if (raw) return { status: error.status, reason: error.message, headers, body: error.message };
  const body = JSON.stringify({ data: null, ...(errors && { errors }), message: `${error.message}\n` });
  return { status: error.status, reason: error.message, headers: { ...headers, ...JSON_HEADERS }, body };
}

export type RawParams = ReadonlyMap<string, readonly string[]>;

/** Query and body parameters; the query wins. Forms split at `&` and `;`, `+` is a space, repeated keys make a list. */
export function decodeParams(request: SimRequest): RawParams {
  const hasBody = request.body.length > 0;
  if (request.tooLarge) throw new PveError(501, 'for data too large', { raw: true });
  if (hasBody && (request.method === 'GET' || request.method === 'DELETE'))
    throw new PveError(501, `Unexpected content for method '${request.method}'`, { raw: true });
  if (request.headers['transfer-encoding'] !== undefined)
    throw new PveError(501, 'chunked transfer encoding not supported', { raw: true });
  const params = new Map<string, readonly string[]>();
  if (hasBody) {
    const type = (request.headers['content-type'] ?? '').split(';')[0]?.trim().toLowerCase();
    if (type === 'application/x-www-form-urlencoded') addForm(params, request.body.toString('utf8'));
    else if (type === 'application/json') addJson(params, request.body.toString('utf8'));
    else throw new PveError(506, 'unsupported content type', { raw: true });
  }
  const query = new Map<string, readonly string[]>();
  addForm(query, request.query);
  for (const [key, values] of query) params.set(key, values);
  return params;
}

function addForm(params: Map<string, readonly string[]>, text: string): void {
  for (const pair of text.split(/[&;]/)) {
    if (pair === '') continue;
    const equals = pair.indexOf('=');
    const key = unescapeForm(equals < 0 ? pair : pair.slice(0, equals));
    const value = equals < 0 ? '' : unescapeForm(pair.slice(equals + 1));
    params.set(key, [...(params.get(key) ?? []), value]);
  }
}

function unescapeForm(text: string): string {
  const spaced = text.replaceAll('+', ' ');
  try {
    return decodeURIComponent(spaced);
  } catch {
    return spaced;
  }
}

function addJson(params: Map<string, readonly string[]>, text: string): void {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    throw new PveError(400, 'bad request', { raw: true });
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed))
    throw new PveError(400, 'bad request', { raw: true });
  for (const [key, value] of Object.entries(parsed)) {
    const values: unknown[] = Array.isArray(value) ? value : [value];
    params.set(
      key,
      values.map((one) => (one === true ? '1' : one === false ? '0' : String(one))),
    );
  }
}
