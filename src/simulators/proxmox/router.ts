import { aclRoutes } from './access-acl.js';
import { roleRoutes } from './access-roles.js';
import { tokenRoutes } from './access-tokens.js';
import { userRoutes } from './access-users.js';
import { accessRoutes } from './access.js';
import { agentRoutes } from './agent.js';
import { cloneRoute } from './clone-request.js';
import { clusterRoutes } from './cluster.js';
import { destroyRoute } from './destroy.js';
import { haPlacementRoutes } from './ha-placement.js';
import { haResourceRoutes } from './ha-resources.js';
import { nodeRoutes } from './nodes.js';
import { poolRoutes } from './pools.js';
import { powerStateRoutes } from './power-states.js';
import { powerRoutes } from './power.js';
import type { Route } from './pve.js';
import { configRoutes } from './qemu-config.js';
import { cloudInitRoutes } from './qemu-cloudinit.js';
import { migrateRoutes } from './qemu-migrate.js';
import { moveDiskRoute } from './qemu-move-disk.js';
import { templateRoute } from './qemu-template.js';
import { lxcRoutes } from './lxc.js';
import { createRoute } from './qemu-create.js';
import { resizeRoute } from './qemu-resize.js';
import { qemuRoutes } from './qemu.js';
import { rollbackRoutes } from './rollback.js';
import { snapshotRoutes } from './snapshot.js';
import { resourcesRoute } from './resources.js';
import { storageContentRoutes } from './storage-content.js';
import { uploadRoute } from './storage-upload.js';
import { storageRoutes } from './storage.js';
import { taskRoutes } from './tasks.js';

export const ROUTES: readonly Route[] = [
  ...clusterRoutes,
  resourcesRoute,
  ...nodeRoutes,
  ...taskRoutes,
  ...storageRoutes,
  ...storageContentRoutes,
  uploadRoute,
  ...qemuRoutes,
  ...configRoutes,
  cloneRoute,
  destroyRoute,
  ...powerRoutes,
  ...powerStateRoutes,
  createRoute,
  ...cloudInitRoutes,
  ...migrateRoutes,
  moveDiskRoute,
  templateRoute,
  ...lxcRoutes,
  resizeRoute,
  ...snapshotRoutes,
  ...rollbackRoutes,
  ...agentRoutes,
  ...accessRoutes,
  ...userRoutes,
  ...tokenRoutes,
  ...aclRoutes,
  ...roleRoutes,
  ...poolRoutes,
  ...haResourceRoutes,
  ...haPlacementRoutes,
];

const compiled = ROUTES.map((route) => ({ route, parts: route.path.split('/').slice(1) }));

/** The call that a decoded path means, with the values of its placeholders; `undefined` = no such path or method. */
export function findRoute(
  method: string,
  path: string,
  version: '8.4' | '9.1',
): { route: Route; values: Record<string, string> } | undefined {
  const whole = path.split('/').filter((part) => part !== '');
  for (const { route, parts } of compiled) {
    // A volume's name may have slashes: it is all the rest.
    const given =
      parts.at(-1) === '{volume}' && whole.length > parts.length
        ? [...whole.slice(0, parts.length - 1), whole.slice(parts.length - 1).join('/')]
        : whole;
    if ((route.version ?? version) !== version || route.method !== method || parts.length !== given.length)
      continue;
    const values: Record<string, string> = {};
    const fits = parts.every((part, index) => {
      const value = given[index] ?? '';
      if (!part.startsWith('{')) return part === value;
      values[part.slice(1, -1)] = value;
      return true;
    });
    if (fits) return { route, values };
  }
  return undefined;
}
