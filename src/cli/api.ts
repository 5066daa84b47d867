import { createClient, createConfig, type Client } from '../client/client/index.js';
import type { ProblemDetails } from '../client/types.gen.js';
import { ERRORS, HatcheryError, type ErrorCode, type Problem } from '../core/errors.js';

/** A whole answer has to be there within this time; event streams have no end. */
const ANSWER_MS = 120_000;

/** The generated client, for one address and one identity. */
export function apiClient(url: string, token: string | undefined, send: typeof fetch): Client {
  return createClient(
    createConfig({
      baseUrl: url,
      ...(token === undefined ? {} : { auth: token }),
      fetch: (input, init) => {
        if (!(input instanceof Request) || input.headers.get('accept') === EVENT_STREAM)
          return send(input, init);
        return send(input, {
          ...init,
          signal: AbortSignal.any([input.signal, AbortSignal.timeout(ANSWER_MS)]),
        });
      },
    }),
  );
}

export const EVENT_STREAM = 'text/event-stream';

/** What the service answered. Error: its problem as ours, with `facts.requestId`; `service-unreachable` when it did not answer. */
export async function answer<T>(call: Promise<Answered<T>>): Promise<T> {
  const { data, error, request, response } = await call.catch((cause: unknown) => {
    // The connection broke inside the answer.
    throw unreachable(cause);
  });
  // The generated types promise a response; without an answer there is none.
  if (response === undefined) throw unreachable(error, request && new URL(request.url).origin);
  // Some other server may answer 200 with a page of its own.
  if (!response.ok || data === undefined || typeof data === 'string') throw refusal(response, error);
  return data;
}

interface Answered<T> {
  readonly data?: T;
  readonly error?: unknown;
  readonly request?: Request;
  readonly response?: Response;
}

/** Every item of a list, page after page. */
export async function allItems<T>(
  page: (cursor: string | undefined) => Promise<{ items: T[]; nextCursor: string | null }>,
): Promise<T[]> {
  const items: T[] = [];
  let cursor: string | undefined;
  do {
    const { items: more, nextCursor } = await page(cursor);
    items.push(...more);
    cursor = nextCursor ?? undefined;
  } while (cursor !== undefined);
  return items;
}

/** Largest page that the service gives. */
export const PAGE = 200;

/** Whether a request may have reached the service although no answer came. */
export function mayHaveArrived(error: unknown): boolean {
  if (!(error instanceof HatcheryError) || error.code !== 'service-unreachable') return false;
  return !NEVER_SENT.has(String(error.facts['reason']));
}

const NEVER_SENT = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'bad port',
]);

/** The error of a service that did not answer or broke off. */
export function unreachable(error: unknown, address = 'the service'): HatcheryError {
  if (error instanceof HatcheryError) return error;
  const reason = reasonOf(error);
  return new HatcheryError('service-unreachable', `Unable to reach ${address}: ${WORDS[reason] ?? reason}`, {
    hint: 'Check that it runs and that the address is right (hatchery uses --url, HATCHERY_URL, a running demo, then the last login).',
    facts: { reason },
    cause: error,
  });
}

const WORDS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nobody listens there (ECONNREFUSED)',
  ECONNRESET: 'the connection broke (ECONNRESET)',
  ENOTFOUND: 'the name is not known (ENOTFOUND)',
};

/** fetch says "fetch failed"; what happened stands in its cause, for several addresses one level deeper. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.name === 'TimeoutError') return 'no answer in time';
  const { cause } = error as { cause?: { code?: string; message?: string; errors?: { code?: string }[] } };
  return cause?.code ?? cause?.errors?.[0]?.code ?? (cause?.message || error.message);
}

function refusal(response: Response, body: unknown): HatcheryError {
  const problem = typeof body === 'object' && body !== null ? (body as Partial<ProblemDetails>) : {};
  if (typeof problem.code !== 'string' || typeof problem.detail !== 'string')
    return new HatcheryError(
      codeOfStatus(response.status),
      `Unable to use the answer: ${response.url} says ${response.status} and is not Hatchery's`,
      {
        hint: 'Check the address of the service.',
      },
    );
  return new HatcheryError(knownCode(problem.code) ?? codeOfStatus(response.status), problem.detail, {
    ...(problem.hint === undefined ? {} : { hint: problem.hint }),
    ...(problem.errors === undefined ? {} : { problems: problem.errors as Problem[] }),
    facts: { requestId: problem.requestId, code: problem.code },
  });
}

/** A service that is newer than this command may know more codes. */
const knownCode = (code: string): ErrorCode | undefined =>
  Object.hasOwn(ERRORS, code) ? (code as ErrorCode) : undefined;

function codeOfStatus(status: number): ErrorCode {
  if (status === 401) return 'not-signed-in';
  if (status === 403) return 'forbidden';
  if (status === 404) return 'not-found';
  if (status === 409) return 'not-applicable';
  if (status >= 502 && status <= 504) return 'service-unreachable';
  return status >= 500 ? 'internal' : 'request-invalid';
}
