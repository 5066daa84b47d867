import { HatcheryError } from '../../core/errors.js';
import { RequestFailed } from '../http/send-request.js';
import { errorAnswer } from './wire.js';

/** A request as error texts speak of it: "Unable to <what>: ...". */
export interface RequestContext {
  readonly what: string;
  readonly isWrite: boolean;
}

/** A request without an answer. Every write may be repeated, because each is preceded by a look. */
export function noAnswer(error: RequestFailed, { what, isWrite }: RequestContext): unknown {
  if (isWrite && error.sent)
    return new HatcheryError(
      'outcome-unknown',
      `Unable to tell whether it worked to ${what}: ${error.message}`,
      {
        retry: 'later',
        cause: error,
      },
    );
  if (error.why === 'aborted') return error.cause;
  if (error.why === 'untrusted')
    return new HatcheryError('service-unreachable', `Unable to ${what}: ${error.message}`, {
      retry: 'after-fix',
      hint: 'compare the certificate with the server, then correct trust of the service',
      cause: error,
    });
  return new HatcheryError('service-unreachable', `Unable to ${what}: ${error.message}`, {
    retry: 'later',
    cause: error,
  });
}

/** The type and text of an error answer; a proxy in between may answer with anything. */
export function readError(body: unknown): { type: string; message: string } {
  const { type, message } = errorAnswer.safeParse(body).data ?? {};
  return { type: type ?? '', message: (message ?? '').replace(/[\s\p{Cc}]+/gu, ' ').trim() };
}

/** An answer that is neither a success nor one that the driver understands as "not there" or "exists". */
export function refusal(status: number, body: unknown, { what, isWrite }: RequestContext): HatcheryError {
  const { type, message } = readError(body);
  const why = message === '' ? `HTTP ${status}` : message;
  const fail = (
    code: 'permission-missing' | 'remote-refused' | 'service-unreachable',
    retry: 'later' | 'never' | 'after-fix',
    hint?: string,
  ) =>
    new HatcheryError(code, `Unable to ${what}: ${why}`, {
      retry,
      ...(hint !== undefined && { hint }),
      facts: { status, type },
    });
  if (type === 'INVALID_CREDENTIALS')
    return fail('permission-missing', 'after-fix', 'correct username or password of the service');
  if (type === 'INSUFFICIENT_CREDENTIALS')
    return fail(
      'permission-missing',
      'after-fix',
      'the account is asked for a second factor: use one that needs none',
    );
  if (status === 401 || status === 403)
    return fail(
      'permission-missing',
      'after-fix',
      'give the account of the service the rights that docs/operations.md lists for Guacamole',
    );
  if (status === 429)
    return fail('service-unreachable', 'later', 'the server blocks sign-ins for a while after failed ones');
  if (status < 500) return fail('remote-refused', 'never');
  if (!isWrite) return fail('service-unreachable', 'later');
  return new HatcheryError('outcome-unknown', `Unable to tell whether it worked to ${what}: ${why}`, {
    retry: 'later',
    facts: { status, type },
  });
}
