import { HatcheryError } from '../../core/errors.js';
import { PveApi, type Access, type Reply } from './pve-api.js';

/** Roles that come with Proxmox VE, by path. A person may do everything with guests; a second deployment only in its own pool, as ours in its. */
const PERSON = { '/': 'PVEVMAdmin,PVEPoolAdmin,PVEDatastoreUser,PVESDNUser,PVEAuditor' };
const deployment = (pool: string): Record<string, string> => ({
  '/': 'PVEAuditor',
  [`/pool/${pool}`]: 'PVEVMAdmin,PVEPoolAdmin',
  '/vms': 'PVETemplateUser',
  '/storage': 'PVEDatastoreUser',
  '/sdn/zones/localnetwork': 'PVESDNUser',
});

/**
 * Makes an account `foreign-<name>@pve` with the rights of a person or, in `pool`, of a second deployment, and gives its token. `admin` may do that.
 * The name tells the readers of a journal that it is not the product.
 */
export async function enrol(
  admin: Access,
  { name, pool }: { readonly name: string; readonly pool?: string | undefined },
): Promise<Access['token']> {
  const api = new PveApi(admin);
  const user = `foreign-${name}@pve`;
  try {
    const existing = await api.call('GET', `/access/users/${user}`);
    if (existing.status !== 200) need(await api.call('POST', '/access/users', { userid: user }), user);
    if (pool !== undefined) await api.call('POST', '/pools', { poolid: pool });
    for (const [path, roles] of Object.entries(pool === undefined ? PERSON : deployment(pool)))
      need(await api.call('PUT', '/access/acl', { path, roles, users: user }), user);
    const path = `/access/users/${user}/token/hand`;
    await api.call('DELETE', path);
    const made = need(await api.call('POST', path, { privsep: 0 }), user);
    const { value } = made.data as { value: string };
    return { id: `${user}!hand`, secret: value };
  } finally {
    api.close();
  }
}

function need(reply: Reply, user: string): Reply {
  if (reply.status === 200) return reply;
  throw new HatcheryError(
    'remote-refused',
    `Unable to make the account ${user}: ${reply.reason || `HTTP ${reply.status}`}`,
  );
}
