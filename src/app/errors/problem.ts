import { HttpException } from '@nestjs/common';
import { ERRORS, HatcheryError, type ErrorCode, type Problem } from '../../core/errors.js';

/** The body of every error answer (RFC 9457 with our `code`, `hint`, `errors` and `requestId`). */
export interface ProblemBody {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly code: ErrorCode;
  readonly detail: string;
  readonly hint?: string;
  readonly errors?: readonly Problem[];
  readonly requestId?: string;
}

/** Gives any thrown value the one error of the product. What is not meant for clients becomes `internal`, its text stays in the log. */
export function asHatcheryError(error: unknown): HatcheryError {
  if (error instanceof HatcheryError) return error;
  const status = statusOf(error);
  if (status === undefined && isDatabaseAway(error))
    return new HatcheryError(
      'service-unreachable',
      'Unable to answer the request: the database does not answer',
      {
        afterMs: 5_000,
        hint: 'Try again in a moment.',
        cause: error,
      },
    );
  if (status === undefined || status >= 500)
    return new HatcheryError(
      'internal',
      'Unable to answer the request: something went wrong inside the service',
      {
        hint: 'Give the requestId to an admin: the reason stands in the log.',
        cause: error,
      },
    );
  const text = error instanceof Error ? error.message : 'refused';
  switch (status) {
    case 401:
      return new HatcheryError('not-signed-in', `Unable to answer the request: ${text}`);
    case 403:
      return new HatcheryError('forbidden', `Unable to answer the request: ${text}`);
    case 404:
      return new HatcheryError('not-found', 'Unable to answer the request: there is no such route', {
        hint: 'The routes are listed at /docs.',
      });
    case 413:
      return new HatcheryError('payload-too-large', `Unable to read the request: ${text}`, {
        hint: 'A roster may have at most 5 MiB, any other request 256 KiB.',
      });
    case 429:
      return new HatcheryError('too-many-requests', `Unable to answer the request: ${text}`);
    default:
      return new HatcheryError('request-invalid', `Unable to read the request: ${text}`, {
        hint: 'The form of every request is described at /docs.',
      });
  }
}

/** Codes of the system and of PostgreSQL (classes 08 and 57P), and the sentences of its driver that have none. Other drivers wrap theirs. */
function isDatabaseAway(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const { code } = error as { code?: unknown };
  if (typeof code === 'string') return /^(ECONN|ETIMEDOUT|EPIPE|ENOTFOUND|EAI_AGAIN|08|57P)/.test(code);
  return /^(Connection terminated|timeout exceeded when trying to connect)/.test(error.message);
}

export function problemBody(error: HatcheryError, requestId: string | undefined): ProblemBody {
  const { status, title } = ERRORS[error.code];
  return {
    type: `urn:hatchery:error:${error.code}`,
    title,
    status,
    code: error.code,
    detail: error.message,
    ...(error.hint === undefined ? {} : { hint: error.hint }),
    ...(error.problems.length === 0 ? {} : { errors: error.problems }),
    ...(requestId === undefined ? {} : { requestId }),
  };
}

/** Nest's exceptions say their status by method, those of Express and its parsers by property. */
function statusOf(error: unknown): number | undefined {
  if (error instanceof HttpException) return error.getStatus();
  if (!(error instanceof Error)) return undefined;
  if (error.name === 'MulterError') return 'code' in error && error.code === 'LIMIT_FILE_SIZE' ? 413 : 400;
  const status = 'status' in error ? error.status : undefined;
  return typeof status === 'number' ? status : undefined;
}
