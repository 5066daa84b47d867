import { HatcheryError, type ErrorMore } from '../../core/errors.js';
import { RequestFailed } from '../http/send-request.js';
import { NoScriptAnswer, ScriptFailed } from './powershell.js';
import { NotWsman } from './shell.js';
import { WsmanFault } from './wsman.js';

/** ERROR_WSMAN_QUOTA_*: shells, operations, user, system, users of shells; and the same limits of a plug-in. Nothing was done. */
const QUOTA_FAULTS = new Set([
  2_150_859_173, 2_150_859_174, 2_150_859_175, 2_150_859_176, 2_150_859_179, 2_150_859_238, 2_150_859_239,
  2_150_859_240, 2_150_859_241,
]);
const ACCESS_DENIED_FAULT = 5;

export interface ScriptContext {
  /** Completes "Unable to ...". */
  readonly what: string;
  readonly isWrite: boolean;
  /** The parameters left, so the script may have run. */
  readonly wasSent: boolean;
}

/**
 * What the engine is told about a failed script: `permission-missing` and an untrusted certificate wait for a person, the rest is retried later,
 * because every script looks before it writes. A write that may have run without a usable answer is `outcome-unknown`.
 * An abort before anything was written, and anything unknown, stays as it is.
 */
export function winrmError(error: unknown, { what, isWrite, wasSent }: ScriptContext): unknown {
  const mayHaveRun = isWrite && wasSent;
  const fail = (
    code: 'service-unreachable' | 'remote-refused' | 'permission-missing',
    why: string,
    more: ErrorMore,
  ) => new HatcheryError(code, `Unable to ${what}: ${why}`, { retry: 'later', cause: error, ...more });
  const unknown = (why: string): HatcheryError =>
    new HatcheryError('outcome-unknown', `Unable to tell whether ${what} was done: ${why}`, {
      retry: 'later',
      cause: error,
    });

  if (error instanceof HatcheryError) return mayHaveRun ? unknown(error.message) : error;
  if (error instanceof ScriptFailed) {
    if (error.category === 'PermissionDenied' || /access is denied/i.test(error.message))
      return fail('permission-missing', error.message, {
        retry: 'after-fix',
        hint: 'make the account a member of "DHCP Administrators" on the server',
      });
    return fail('remote-refused', error.message, {});
  }
  if (error instanceof RequestFailed) {
    if (mayHaveRun) return unknown(error.message);
    if (error.why === 'aborted') return error.cause;
    if (error.why === 'untrusted')
      return fail('service-unreachable', error.message, {
        retry: 'after-fix',
        hint: 'compare the certificate with the server, then correct trust of the service',
      });
    return fail('service-unreachable', error.message, {});
  }
  if (error instanceof WsmanFault) {
    if (mayHaveRun) return unknown(error.message);
    if (QUOTA_FAULTS.has(error.code))
      return fail('service-unreachable', error.message, {
        hint: 'shells are closed by the server when idle; if this lasts, lower maxShells of the service or raise MaxShellsPerUser on the server',
      });
    if (error.code === ACCESS_DENIED_FAULT)
      return fail('permission-missing', error.message, {
        retry: 'after-fix',
        hint: 'make the account a member of "Remote Management Users" on the server',
      });
    return fail('remote-refused', `${error.message} (WSMan fault ${error.code})`, {});
  }
  if (error instanceof NoScriptAnswer || error instanceof NotWsman)
    return mayHaveRun ? unknown(error.message) : fail('remote-refused', error.message, {});
  return error;
}
