import type { WorldGuest } from '../world.js';
import { need } from './auth.js';
import { FORMATS } from './formats.js';
import { agentEnabled, disksOf } from './guest-config.js';
import { haOf, listGuests, rowOf } from './guest-rows.js';
import { OPTIONAL_FLAG, OPTIONAL_TEXT } from './params.js';
import { guestOn, type Handled, type Pve, type PveCall, type Route } from './pve.js';
import { snapshotOf } from './snapshot.js';
import { hasFeature, isOn, storageOf } from './volumes.js';

const GUEST = '/nodes/{node}/qemu/{vmid}';
/** Of a running guest, asked one by one. */
const QMP_MS = 10;

/** What lies below a path, as the real API lists it. */
export function index(path: string, op: string, names: readonly string[], key = 'subdir'): Route {
  return {
    method: 'GET',
    path,
    op,
    kind: 'read',
    params: {},
    handle: () => ({ data: names.map((name) => ({ [key]: name })) }),
  };
}

export const qemuRoutes: readonly Route[] = [
  {
    method: 'GET',
    path: '/nodes/{node}/qemu',
    op: 'qemu.list',
    kind: 'protected-read',
    params: { full: OPTIONAL_FLAG },
    async handle(call) {
      const { pve, node, params } = call;
      const running = [...pve.world.guests.values()].filter(
        (guest) => guest.node === node && guest.kind === 'qemu' && guest.status === 'running',
      );
      if (params.flag('full')) await pve.context.clock.sleep(QMP_MS * running.length);
      return listGuests(call, 'qemu');
    },
  },
  index(GUEST, 'qemu.index', [
    ...['config', 'pending', 'clone', 'move_disk', 'migrate', 'status', 'snapshot', 'agent', 'cloudinit'],
    ...['feature', 'template', 'resize', 'unlink'],
  ]),
  index(`${GUEST}/status`, 'qemu.status.index', [
    ...['current', 'start', 'stop', 'shutdown', 'reboot', 'reset', 'suspend', 'resume'],
  ]),
  {
    method: 'GET',
    path: `${GUEST}/status/current`,
    op: 'qemu.status',
    kind: 'protected-read',
    params: {},
    permit: (account, path) => need(account, `/vms/${path['vmid']}`, 'VM.Audit'),
    handle: ({ pve, node, vmid }) => ({ data: statusOf(pve, guestOn(pve, node, vmid)) }),
  },
  {
    method: 'GET',
    path: `${GUEST}/feature`,
    op: 'qemu.feature',
    kind: 'protected-read',
    params: {
      feature: { type: 'string', enum: ['snapshot', 'clone', 'copy'] },
      snapname: { ...OPTIONAL_TEXT, maxLength: 40, format: FORMATS['pve-configid'] },
    },
    permit: (account, path) => need(account, `/vms/${path['vmid']}`, 'VM.Audit'),
    handle: featureOf,
  },
];

function statusOf(pve: Pve, guest: WorldGuest): Record<string, unknown> {
  return {
    ...rowOf(pve, guest),
    qmpstatus: guest.isPaused ? 'paused' : guest.status,
    ha: haOf(pve, guest.vmid),
    ...(agentEnabled(guest) ? { agent: 1 } : {}),
  };
}

/** Whether all its disks can, and the nodes that have all their storages. */
function featureOf({ pve, node, vmid, params }: PveCall): Handled {
  const guest = guestOn(pve, node, vmid);
  const snapshot = params.text('snapname');
  const config = snapshot === undefined ? guest.config : snapshotOf(guest, snapshot).config;
  const feature = params.need('feature') as 'snapshot' | 'clone' | 'copy';
  const isBase = config['template'] === '1';
  const storages = disksOf(config)
    .filter((disk) => !disk.isCloudInit && !disk.key.startsWith('unused'))
    .map((disk) => storageOf(pve, disk.storage));
  const isShared = storages.every((storage) => storage.shared);
  const nodes = pve.world.nodes
    .map(({ name }) => name)
    .filter((name) => name === node || (isShared && storages.every((storage) => isOn(storage, name))));
  const hasAll = storages.every((storage) => hasFeature(storage, feature, { isBase, snapshot }));
  return { data: { hasFeature: hasAll ? 1 : 0, nodes: hasAll ? nodes : [] } };
}
