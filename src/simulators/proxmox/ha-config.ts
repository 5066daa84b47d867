import { createHash } from 'node:crypto';
import { need } from './auth.js';
import type { ParamSpec } from './check-value.js';
import { splitList } from './check-value.js';
import { drawMs } from './durations.js';
import { FORMATS } from './formats.js';
import type { Handled, Pve, PveCall, Route } from './pve.js';
import { failure } from './wire.js';

export const permitRead: Route['permit'] = (account) => need(account, '/', 'Sys.Audit');
export const permitWrite: Route['permit'] = (account) => need(account, '/', 'Sys.Console');

export const CONFIG_ID: ParamSpec = { type: 'string', format: FORMATS['pve-configid'] };
export const NODE_LIST: ParamSpec = {
  type: 'string',
  list: true,
  format: (value) =>
    /^[a-zA-Z0-9][a-zA-Z0-9-]*(:[0-9]+)?$/.test(value) ? undefined : `invalid node priority '${value}'`,
};
export const COMMENT: ParamSpec = { type: 'string', optional: true, maxLength: 4096 };
/** What every change may carry besides: keys to remove, and what the whole file must still be. */
export const CHANGE: Readonly<Record<string, ParamSpec>> = {
  delete: { type: 'string', list: true, optional: true, maxLength: 4096, format: FORMATS['pve-configid'] },
  digest: { type: 'string', optional: true, maxLength: 64 },
};

/** Of a whole file: any change of anything in it gives another one. */
export function digestOf(entries: ReadonlyMap<string, unknown>): string {
  return createHash('sha1')
    .update(JSON.stringify([...entries]))
    .digest('hex');
}

export function checkDigest(given: string | undefined, entries: ReadonlyMap<string, unknown>): void {
  if (given !== undefined && given !== digestOf(entries))
    throw failure('detected modified configuration - file changed by other user? Try again.');
}

/** Changes a file of HA under its cluster lock; what goes wrong under it is told after `what`. */
export async function changeHa(
  { pve, account, node }: PveCall,
  what: string,
  change: () => void,
): Promise<Handled> {
  try {
    await pve.locks.with({ actor: account.id, node }, 'domain-ha', async (signal) => {
      await pve.context.clock.sleep(drawMs(pve.context, 'cluster-write', 'ha'), signal);
      change();
    });
  } catch (error) {
    throw error instanceof Error && error.name === 'PveError'
      ? failure(`${what} failed: ${error.message}`)
      : error;
  }
  return { data: null, journal: { effect: true } };
}

/** Removes keys that may be removed. */
export function removeKeys(
  entry: Record<string, unknown>,
  keys: readonly string[],
  optional: readonly string[],
): void {
  for (const key of keys) {
    if (!optional.includes(key)) throw failure(`no such option '${key}'`);
    delete entry[key];
  }
}

export function checkNodes(pve: Pve, list: string | undefined): void {
  const known = new Set(pve.world.nodes.map(({ name }) => name));
  const missing = splitList(list ?? '').filter((entry) => !known.has(entry.replace(/:[0-9]+$/, '')));
  if (missing.length > 0) throw failure(`cannot use non-existant node(s) ${missing.join(', ')}.`);
}
