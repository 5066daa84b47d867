import { need } from './auth.js';
import { FORMATS } from './formats.js';
import { shownConfig } from './guest-config.js';
import { haOf, listGuests, rowOf } from './guest-rows.js';
import { OPTIONAL_FLAG, OPTIONAL_TEXT } from './params.js';
import { guestOn, type Handled, type PveCall, type Route } from './pve.js';
import { index } from './qemu.js';
import { failure } from './wire.js';

const GUEST = '/nodes/{node}/lxc/{vmid}';
const permit: Route['permit'] = (account, path) => need(account, `/vms/${path['vmid']}`, 'VM.Audit');

/** Containers of others: they are there, hold their VMIDs and can be read. */
export const lxcRoutes: readonly Route[] = [
  {
    method: 'GET',
    path: '/nodes/{node}/lxc',
    op: 'lxc.list',
    kind: 'protected-read',
    params: {},
    handle: (call) => listGuests(call, 'lxc'),
  },
  index(GUEST, 'lxc.index', ['config', 'status']),
  index(`${GUEST}/status`, 'lxc.status.index', ['current']),
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
  {
    method: 'GET',
    path: `${GUEST}/config`,
    op: 'lxc.config.get',
    kind: 'read',
    params: {
      current: OPTIONAL_FLAG,
      snapshot: { ...OPTIONAL_TEXT, maxLength: 40, format: FORMATS['pve-configid'] },
    },
    permit,
    handle: readConfig,
  },
];

function readConfig({ pve, node, vmid, params }: PveCall): Handled {
  const guest = guestOn(pve, node, vmid, 'lxc');
  const snapshot = params.text('snapshot');
  if (snapshot !== undefined) throw failure(`snapshot '${snapshot}' does not exist`);
  return { data: shownConfig(guest, params.flag('current') ?? false) };
}
