/** How an error code shows to the outside: HTTP status of the API, exit code of the CLI, title of problem+json. */
export interface ErrorKind {
  readonly status: number;
  readonly exit: ExitCode;
  readonly title: string;
}

/** Exit codes of the CLI: 6 is "finished but not all ready", which is a result and not an error. */
export const EXIT = {
  ok: 0,
  internal: 1,
  refused: 2,
  signIn: 3,
  notFound: 4,
  conflict: 5,
  incomplete: 6,
  unreachable: 7,
} as const;
export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** The one table of error codes. A code never changes its meaning; a new meaning is a new code. */
export const ERRORS = {
  'roster-invalid': { status: 422, exit: EXIT.refused, title: 'The roster cannot be used' },
  'request-invalid': { status: 400, exit: EXIT.refused, title: 'The request is not understood' },
  'payload-too-large': { status: 413, exit: EXIT.refused, title: 'The request is too large' },
  'name-taken': { status: 409, exit: EXIT.conflict, title: 'The name is taken' },
  'already-has-machine': { status: 409, exit: EXIT.conflict, title: 'Somebody already has this machine' },
  'no-capacity': { status: 409, exit: EXIT.conflict, title: 'The cluster has no room' },
  'vmid-range-full': { status: 409, exit: EXIT.conflict, title: 'The VMID range is full' },
  'batch-busy': { status: 409, exit: EXIT.conflict, title: 'The batch is still being worked on' },
  'not-applicable': { status: 409, exit: EXIT.conflict, title: 'This cannot be done in the present state' },
  'idempotency-mismatch': {
    status: 422,
    exit: EXIT.refused,
    title: 'The Idempotency-Key was used for something else',
  },
  'idempotency-in-progress': {
    status: 409,
    exit: EXIT.conflict,
    title: 'The same request is still being handled',
  },
  'cluster-unreachable': { status: 503, exit: EXIT.unreachable, title: 'The cluster does not answer' },
  'cluster-no-quorum': { status: 503, exit: EXIT.unreachable, title: 'The cluster has no quorum' },
  'cluster-paused': { status: 409, exit: EXIT.conflict, title: 'The cluster is paused' },
  'service-unreachable': { status: 503, exit: EXIT.unreachable, title: 'A service does not answer' },
  'permission-missing': {
    status: 502,
    exit: EXIT.conflict,
    title: 'A permission is missing on the remote side',
  },
  'hook-failed': { status: 502, exit: EXIT.conflict, title: 'A hook of the container failed' },
  'host-key-changed': { status: 502, exit: EXIT.conflict, title: 'The host key of a node is another one' },
  'remote-refused': { status: 502, exit: EXIT.conflict, title: 'The remote side refused' },
  'outcome-unknown': { status: 502, exit: EXIT.unreachable, title: 'The outcome is not known yet' },
  'foreign-guest': { status: 409, exit: EXIT.conflict, title: 'The guest is not ours' },
  'template-changed': { status: 409, exit: EXIT.conflict, title: 'The template changed' },
  'address-unknown': { status: 504, exit: EXIT.unreachable, title: 'The machine has no known address' },
  'lock-timeout': { status: 503, exit: EXIT.unreachable, title: 'A lock was not free in time' },
  'step-timeout': { status: 504, exit: EXIT.unreachable, title: 'A step took too long' },
  'workers-died': { status: 502, exit: EXIT.internal, title: 'Workers died while they did this' },
  'unknown-step': { status: 409, exit: EXIT.conflict, title: 'No live worker knows this step' },
  'not-signed-in': { status: 401, exit: EXIT.signIn, title: 'Not signed in' },
  forbidden: { status: 403, exit: EXIT.signIn, title: 'Not allowed' },
  'not-found': { status: 404, exit: EXIT.notFound, title: 'Not found' },
  'too-many-requests': { status: 429, exit: EXIT.unreachable, title: 'Too many requests' },
  'settings-invalid': { status: 500, exit: EXIT.refused, title: 'The settings cannot be used' },
  internal: { status: 500, exit: EXIT.internal, title: 'Internal error' },
} as const satisfies Record<string, ErrorKind>;

export type ErrorCode = keyof typeof ERRORS;

/** Whether the engine may repeat by itself: `later` with back-off; `after-fix` parks for a person; `never` ends the attempt series. */
export type Retry = 'later' | 'never' | 'after-fix';

/** One finding in a list of findings, e.g. a cell of a roster. `row` and `column` count from 1 as a spreadsheet shows them. */
export interface Problem {
  readonly row?: number;
  readonly column?: string;
  readonly code: string;
  readonly detail: string;
  readonly hint?: string;
}

export interface ErrorMore {
  readonly retry?: Retry;
  /** Wait of the next try in milliseconds; only with `retry: 'later'`. */
  readonly afterMs?: number;
  readonly hint?: string;
  readonly facts?: Readonly<Record<string, unknown>>;
  readonly problems?: readonly Problem[];
  readonly cause?: unknown;
}

/**
 * The only error class that the product throws.
 * Shape: `message` is "Unable to <verb> <thing>: <why>"; `hint` says what to do next.
 * The thrower decides `retry` (default `never`); the engine obeys.
 */
export class HatcheryError extends Error {
  override readonly name = 'HatcheryError';
  readonly retry: Retry;
  readonly afterMs: number | undefined;
  readonly hint: string | undefined;
  readonly facts: Readonly<Record<string, unknown>>;
  readonly problems: readonly Problem[];

  constructor(
    readonly code: ErrorCode,
    message: string,
    more: ErrorMore = {},
  ) {
    super(message, more.cause === undefined ? undefined : { cause: more.cause });
    this.retry = more.retry ?? 'never';
    this.afterMs = more.afterMs;
    this.hint = more.hint;
    this.facts = more.facts ?? {};
    this.problems = more.problems ?? [];
  }
}

/** An error as it is kept in Postgres and sent to people: no stack, no cause chain. */
export interface ErrorRecord {
  readonly code: ErrorCode;
  readonly message: string;
  readonly hint?: string;
  readonly facts?: Readonly<Record<string, unknown>>;
}

/** Gives any thrown value the shape that is stored and shown; unknown errors become `internal`. */
export function errorRecord(error: unknown): ErrorRecord {
  if (error instanceof HatcheryError) {
    return {
      code: error.code,
      message: error.message,
      ...(error.hint === undefined ? {} : { hint: error.hint }),
      ...(Object.keys(error.facts).length === 0 ? {} : { facts: error.facts }),
    };
  }
  return { code: 'internal', message: error instanceof Error ? error.message : String(error) };
}
