import { HatcheryError } from '../../core/errors.js';

/** The header as sent, or `undefined`. Error: `request-invalid` for one that is no key. */
export function idempotencyKey(header: string | undefined): string | undefined {
  if (header === undefined) return undefined;
  if (/^[\x21-\x7e]{1,200}$/.test(header)) return header;
  throw new HatcheryError('request-invalid', 'Unable to read the request: Idempotency-Key is not usable', {
    hint: 'Send 1 to 200 visible ASCII characters, e.g. a UUID.',
  });
}
