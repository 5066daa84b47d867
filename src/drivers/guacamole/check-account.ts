import { HatcheryError } from '../../core/errors.js';
import type { DesktopGateway } from '../../ports/desktop-gateway.js';
import { notGuacamole, type GuacamoleSession } from './session.js';
import { permissions } from './wire.js';

export type Finding = Awaited<ReturnType<DesktopGateway['check']>>[number];

const NEEDED = ['CREATE_USER', 'CREATE_CONNECTION', 'CREATE_CONNECTION_GROUP'];

/** Whether our account can sign in and may do what batches need. */
export async function checkAccount(
  session: GuacamoleSession,
  service: string,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  try {
    const username = await session.username(signal);
    const what = `read what ${username} may do in ${service}`;
    const path = `users/${encodeURIComponent(username)}/effectivePermissions`;
    const reply = await session.ask({ op: 'get-permissions', what, method: 'GET', path, signal });
    const granted = permissions.safeParse(reply.is === 'ok' ? reply.body : undefined).data;
    if (granted === undefined) throw notGuacamole({ what });
    return [
      { ok: true, subject: 'sign-in', detail: `${username}, data source ${session.dataSource}` },
      rightsFinding(granted.systemPermissions ?? []),
      ...transportFinding(session.base),
    ];
  } catch (error) {
    if (!(error instanceof HatcheryError)) throw error;
    const remedy = error.hint === undefined ? {} : { remedy: error.hint };
    return [{ ok: false, subject: 'sign-in', detail: error.message, ...remedy }];
  }
}

function rightsFinding(held: readonly string[]): Finding {
  const missing = held.includes('ADMINISTER') ? [] : NEEDED.filter((right) => !held.includes(right));
  if (missing.length === 0) return { ok: true, subject: 'rights', detail: held.join(', ') };
  return {
    ok: false,
    subject: 'rights',
    detail: `missing: ${missing.join(', ')}`,
    remedy:
      'in Guacamole, Settings, Users: give our account the rights to create users, connections and connection groups',
  };
}

function transportFinding(base: string): Finding[] {
  const { protocol, hostname } = new URL(base);
  if (protocol === 'https:' || /^(localhost|127\.[0-9.]+|\[::1\])$/.test(hostname)) return [];
  return [
    {
      ok: false,
      subject: 'transport',
      detail: 'passwords travel in clear text',
      remedy: 'write the endpoint with https://',
    },
  ];
}
