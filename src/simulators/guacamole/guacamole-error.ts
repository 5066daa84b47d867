type GuacamoleErrorType =
  'BAD_REQUEST' | 'INVALID_CREDENTIALS' | 'INTERNAL_ERROR' | 'NOT_FOUND' | 'PERMISSION_DENIED';

interface ExpectedField {
  readonly name: string;
  readonly type: string;
}

/** An error as the REST layer of Guacamole answers it. */
export class GuacamoleError extends Error {
  override readonly name = 'GuacamoleError';
  constructor(
    readonly status: number,
    readonly type: GuacamoleErrorType,
    message: string,
    readonly expected: readonly ExpectedField[] | null = null,
  ) {
    super(message);
  }

  body(): object {
    return {
      message: this.message,
      translatableMessage: { key: 'APP.TEXT_UNTRANSLATED', variables: { MESSAGE: this.message } },
      statusCode: null,
      expected: this.expected,
      patches: null,
      type: this.type,
    };
  }
}

export const badRequest = (message: string): GuacamoleError =>
  new GuacamoleError(400, 'BAD_REQUEST', message);
export const tooLong = (message: string): GuacamoleError => new GuacamoleError(413, 'BAD_REQUEST', message);
export const notFound = (identifier: string): GuacamoleError =>
  new GuacamoleError(404, 'NOT_FOUND', `Not found: "${identifier}"`);
export const noSuchToken = (): GuacamoleError => new GuacamoleError(404, 'NOT_FOUND', 'No such token.');
/** Both a missing right and a missing or expired token: Guacamole maps "unauthorized" to 403, never 401. */
export const permissionDenied = (): GuacamoleError =>
  new GuacamoleError(403, 'PERMISSION_DENIED', 'Permission Denied.');
export const internalError = (): GuacamoleError =>
  new GuacamoleError(500, 'INTERNAL_ERROR', 'Unexpected internal error');
export const invalidCredentials = (): GuacamoleError =>
  new GuacamoleError(403, 'INVALID_CREDENTIALS', 'Invalid login', [
    { name: 'username', type: 'USERNAME' },
    { name: 'password', type: 'PASSWORD' },
  ]);

/** The envelope of a status that a fault rule asks for. */
export function faulted(status: number, message: string): GuacamoleError {
  const types: Record<number, GuacamoleErrorType> = {
    400: 'BAD_REQUEST',
    403: 'PERMISSION_DENIED',
    404: 'NOT_FOUND',
  };
  return new GuacamoleError(
    status,
    types[status] ?? 'INTERNAL_ERROR',
    message === '' ? 'Unexpected internal error' : message,
  );
}
