import { need } from './auth.js';
import { haOf, listGuests, rowOf } from './guest-rows.js';
import { lxcCloneRoute } from './lxc-clone.js';
import { lxcConfigRoutes } from './lxc-config.js';
import { lxcCreateRoute } from './lxc-create.js';
import { lxcDestroyRoute } from './lxc-destroy.js';
import { lxcInterfacesRoute } from './lxc-interfaces.js';
import { lxcPowerRoutes } from './lxc-power.js';
import { lxcResizeRoute } from './lxc-resize.js';
import { lxcTemplateRoute } from './lxc-template.js';
import { guestOn, type Route } from './pve.js';
import { index } from './qemu.js';

const GUEST = '/nodes/{node}/lxc/{vmid}';
const permit: Route['permit'] = (account, path) => need(account, `/vms/${path['vmid']}`, 'VM.Audit');

export const lxcRoutes: readonly Route[] = [
  {
    method: 'GET',
    path: '/nodes/{node}/lxc',
    op: 'lxc.list',
    kind: 'protected-read',
    params: {},
    handle: (call) => listGuests(call, 'lxc'),
  },
  index(GUEST, 'lxc.index', [
    ...['config', 'pending', 'clone', 'status', 'interfaces', 'snapshot', 'resize', 'template'],
  ]),
  index(`${GUEST}/status`, 'lxc.status.index', [
    ...['current', 'start', 'stop', 'shutdown', 'suspend', 'resume', 'reboot'],
  ]),
  {
    method: 'GET',
    path: `${GUEST}/status/current`,
    op: 'lxc.status',
    kind: 'protected-read',
    params: {},
    permit,
    handle: ({ pve, node, vmid }) => ({
      data: { ...rowOf(pve, guestOn(pve, node, vmid, 'lxc')), ha: haOf(pve, vmid) },
    }),
  },
  lxcInterfacesRoute,
  lxcCreateRoute,
  lxcCloneRoute,
  ...lxcConfigRoutes,
  ...lxcPowerRoutes,
  lxcDestroyRoute,
  lxcResizeRoute,
  lxcTemplateRoute,
];
