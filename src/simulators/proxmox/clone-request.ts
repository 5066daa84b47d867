import type { WorldStorage } from '../world.js';
import { need } from './auth.js';
import { runClone, type CloneJob } from './clone.js';
import { FORMATS } from './formats.js';
import { disksOf } from './guest-config.js';
import { OPTIONAL_COUNT, OPTIONAL_DNS_NAME, OPTIONAL_FLAG, OPTIONAL_TEXT, VMID } from './params.js';
import { checkUnlocked, guestOn, type Handled, type PveCall, type Route } from './pve.js';
import { oneOf } from './qemu-formats.js';
import { needBridge } from './qemu-rights.js';
import { snapshotOf } from './snapshot.js';
import { hasFeature, storageOf, usableStorage } from './volumes.js';
import { failure, forbidden, parameterErrors } from './wire.js';

export const cloneRoute: Route = {
  method: 'POST',
  path: '/nodes/{node}/qemu/{vmid}/clone',
  op: 'qemu.clone',
  kind: 'fork',
  params: {
    bwlimit: OPTIONAL_COUNT,
    description: OPTIONAL_TEXT,
    format: oneOf('raw', 'qcow2', 'vmdk'),
    full: OPTIONAL_FLAG,
    name: OPTIONAL_DNS_NAME,
    newid: VMID,
    pool: { ...OPTIONAL_TEXT, format: FORMATS['pve-poolid'] },
    snapname: { ...OPTIONAL_TEXT, maxLength: 40, format: FORMATS['pve-configid'] },
    storage: { ...OPTIONAL_TEXT, format: FORMATS['pve-storage-id'] },
    target: { ...OPTIONAL_TEXT, format: FORMATS['pve-node'] },
  },
  permit(account, path, raw) {
    need(account, `/vms/${path['vmid']}`, 'VM.Clone');
    const pool = raw('pool');
    const mayAllocate =
      account.at(`/vms/${raw('newid')}`).has('VM.Allocate') ||
      (pool !== undefined && account.at(`/pool/${pool}`).has('VM.Allocate'));
    if (!mayAllocate) throw forbidden();
  },
  handle: startClone,
};

function startClone(call: PveCall): Handled {
  const { pve, node, vmid, params, account, op, faults } = call;
  const { world } = pve;
  const pool = params.text('pool');
  if (pool !== undefined && !world.pools.has(pool)) throw forbidden(`pool '${pool}' does not exist`);
  const target = params.text('target') ?? node;
  if (!world.nodes.some(({ name }) => name === target)) throw failure(`no such cluster node '${target}'`);
  const storage = params.has('storage') ? chosenStorage(call, target) : undefined;
  const source = guestOn(pve, node, vmid);
  checkUnlocked(source);
  const isFull = params.flag('full') ?? source.config['template'] !== '1';
  for (const key of ['storage', 'format'])
    if (!isFull && params.has(key)) throw failure(`parameter '${key}' not allowed for linked clones`);
  const snapshot = params.text('snapname');
  const { config, files } = snapshot === undefined ? source : snapshotOf(source, snapshot);
  checkDisks(call, config, target, storage, isFull);
  if (!account.isRoot)
    for (const [key, value] of Object.entries(config)) if (/^net[0-9]+$/.test(key)) needBridge(call, value);
  pve.conditions.needQuorum();
  const newid = params.number('newid')!;
  const taken = world.guests.get(newid);
  if (taken?.kind === 'qemu' && taken.node === node)
    throw failure(`unable to create VM ${newid}: config file already exists`);
  const job: CloneJob = {
    source,
    config,
    files,
    newid,
    name: params.text('name') ?? `Copy-of-VM-${source.config['name'] ?? vmid}`,
    description: params.text('description'),
    pool,
    isFull,
    target,
    storage,
    format: params.text('format'),
    faults,
  };
  const setup = { node, type: 'qmclone', id: String(vmid), actor: account.id, op, vmid: newid, faults };
  const task = pve.tasks.start(setup, (running) => runClone(pve, running, job));
  return {
    data: task.upid,
    journal: { upid: task.upid, params: { source: vmid, pool, target, full: isFull } },
  };
}

/** It must be there and usable, on the target too. */
function chosenStorage({ pve, node, params }: PveCall, target: string): WorldStorage {
  const id = params.need('storage');
  const storage = usableStorage(pve, id, node);
  if (target !== node) {
    usableStorage(pve, id, target);
    if (!storage.shared) throw failure(`can't clone to non-shared storage '${id}'`);
  }
  if (!storage.content.includes('images'))
    throw parameterErrors({ storage: `storage '${id}' does not support vm images` });
  return storage;
}

function checkDisks(
  call: PveCall,
  config: Readonly<Record<string, string>>,
  target: string,
  chosen: WorldStorage | undefined,
  isFull: boolean,
): void {
  const { pve, node, account, params } = call;
  const isBase = config['template'] === '1';
  for (const disk of disksOf(config)) {
    if (disk.key.startsWith('unused')) continue;
    const own = storageOf(pve, disk.storage);
    if (target !== node && !own.shared)
      throw failure(`can't clone VM to node '${target}' (VM uses local storage)`);
    need(account, `/storage/${(chosen ?? own).id}`, 'Datastore.AllocateSpace');
    const snapshot = params.text('snapname');
    const isCopy = isFull || disk.isCloudInit;
    if (!hasFeature(own, isCopy ? 'copy' : 'clone', { isBase, snapshot }) && !disk.isCloudInit)
      throw failure(
        `${isCopy ? 'Full' : 'Linked'} clone feature is not supported for '${disk.volid}' (${disk.key})`,
      );
  }
}
