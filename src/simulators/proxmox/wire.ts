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

/** `json` says errors by status, `extjs` is always 200. */
export type Format = 'json' | 'extjs';

export function successReply(data: unknown, total?: number, format: Format = 'json'): SimReply {
  const body = {
    data: data ?? null,
    ...(format === 'extjs' ? { success: 1 } : {}),
    ...(total === undefined ? {} : { total }),
  };
  return { status: 200, reason: 'OK', headers: { ...SERVER, ...JSON_HEADERS }, body: JSON.stringify(body) };
}

/** Every reply from 400 up closes the connection. */
export function errorReply(error: PveError, format: Format = 'json'): SimReply {
  const headers = { ...SERVER, connection: 'close' };
  const { errors, raw, empty } = error.more;
  if (empty) return { status: error.status, reason: error.message, headers };
  if (raw) return { status: error.status, reason: error.message, headers, body: error.message };
  const body = { data: null, ...(errors && { errors }), message: `${error.message}\n` };
  if (format === 'extjs')
    return {
      status: 200,
      reason: 'OK',
      headers: { ...SERVER, ...JSON_HEADERS },
      body: JSON.stringify({ ...body, status: error.status, success: 0 }),
    };
  return {
    status: error.status,
    reason: error.message,
    headers: { ...headers, ...JSON_HEADERS },
    body: JSON.stringify(body),
  };
}

/** What the HTTP layer refuses before it asks who calls. */
export function checkHead(request: SimRequest): void {
  const { method, headers } = request;
  if (!['GET', 'POST', 'PUT', 'DELETE'].includes(method))
    throw new PveError(501, `method '${method}' not available`, { empty: true });
  const encoding = headers['transfer-encoding'];
  if (encoding === undefined) return;
  const isChunked = encoding.toLowerCase() === 'chunked';
  throw new PveError(
    501,
    isChunked ? 'chunked transfer encoding not supported' : `Unknown transfer encoding '${encoding}'`,
    { raw: true },
  );
}

/** Format and path below it, decoded: `/api2/json/nodes` = `json`, `/nodes`. */
export function splitUrl(request: SimRequest): { format: string; path: string } {
  const url = unescapeBytes(request.path);
  if (!url.startsWith('/')) throw new PveError(400, 'invalid url', { raw: true });
  if (!url.startsWith('/api2')) throw new PveError(501, `no such file '${url}'`, { raw: true });
  const [, format, path = '/'] = /^\/api2\/+([a-z][a-z0-9]+)(\/.*)?$/.exec(url) ?? [];
  if (format === undefined) throw new PveError(501, 'no such uri', { raw: true });
  return { format, path };
}

export function isFormat(text: string): text is Format {
  return text === 'json' || text === 'extjs';
}

/** A parameter before it is checked: forms give texts and lists of them, JSON bodies anything (numbers as texts). */
export type RawValue = string | boolean | null | readonly RawValue[] | { readonly [key: string]: RawValue };
export type RawParams = ReadonlyMap<string, RawValue>;

const BODY_LIMIT_BYTES = 524_288;

/** Query and body parameters; the query wins. */
export function decodeParams(request: SimRequest): RawParams {
  const isTooLarge = request.tooLarge || request.body.length > BODY_LIMIT_BYTES;
  const hasBody = request.body.length > 0 || isTooLarge;
  if (hasBody && request.method !== 'POST' && request.method !== 'PUT')
    throw new PveError(501, `Unexpected content for method '${request.method}'`, { raw: true });
  if (isTooLarge) throw new PveError(501, 'for data too large', { raw: true });
  const params = hasBody ? decodeBody(request) : new Map<string, RawValue>();
  for (const [key, value] of decodeForm(request.query)) params.set(key, value);
  // Browsers add it so that no cache answers.
  params.delete('_dc');
  return params;
}

function decodeBody(request: SimRequest): Map<string, RawValue> {
  const header = request.headers['content-type'];
  const type = header?.split(/[;,]/)[0]?.trim();
  const text = request.body.toString('utf8');
  if (type === 'application/json') return decodeJson(text);
  if (!type || type === 'application/x-www-form-urlencoded') return decodeForm(text);
  throw new PveError(506, `upload 'Content-Type '${header}' not implemented`, { raw: true });
}

/** Splits at `&` and `;`; `+` is a space, repeated keys make a list, and what follows a second bare `=` is lost. */
function decodeForm(text: string): Map<string, RawValue> {
  const params = new Map<string, RawValue>();
  for (const pair of text.split(/[&;]/)) {
    if (pair === '') continue;
    const [key = '', value = null] = pair.split('=').map(unescapeForm);
    const before = params.get(key) ?? null;
    if (value === null || before === null) params.set(key, value);
    else params.set(key, Array.isArray(before) ? [...(before as RawValue[]), value] : [before, value]);
  }
  return params;
}

function unescapeForm(text: string): string {
  return unescapeBytes(text.replaceAll('+', ' '));
}

/** A percent sign that starts no byte stays as it is, and bytes that are no UTF-8 become U+FFFD. */
function unescapeBytes(text: string): string {
  const escaped = text.replace(/%(?![0-9a-fA-F]{2})/g, '%25');
  try {
    return decodeURIComponent(escaped);
  } catch {
    const bytes = Buffer.from(escaped, 'utf8').toString('latin1');
    const raw = bytes.replace(/%([0-9a-fA-F]{2})/g, (_, hex: string) =>
      String.fromCharCode(parseInt(hex, 16)),
    );
    return Buffer.from(raw, 'latin1').toString('utf8');
  }
}

function decodeJson(text: string): Map<string, RawValue> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    throw new PveError(501, 'malformed JSON string', { raw: true });
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed))
    throw new PveError(501, 'Not a HASH reference', { raw: true });
  return new Map(Object.entries(parsed).map(([key, value]) => [key, asRaw(value)]));
}

/** Perl makes no difference between a number and its text. */
function asRaw(value: unknown): RawValue {
  if (Array.isArray(value)) return value.map(asRaw);
  if (typeof value === 'object' && value !== null)
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, asRaw(inner)]));
  return typeof value === 'number' ? String(value) : (value as string | boolean | null);
}

/** A parameter as a permission test or the journal reads it, before it is checked. */
export function rawText(params: RawParams, key: string): string | undefined {
  const value = params.get(key) ?? undefined;
  if (typeof value === 'boolean') return value ? '1' : '0';
  return value === undefined || typeof value === 'string' ? value : JSON.stringify(value);
}
