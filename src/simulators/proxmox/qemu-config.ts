import { createHash } from 'node:crypto';
import type { WorldGuest } from '../world.js';
import { need, needAny } from './auth.js';
import { needBridge, lockFile } from './clone.js';
import { drawMs } from './durations.js';
import {
  digestOf,
  disksOf,
  formatDisk,
  macOf,
  markLine,
  normaliseNet,
  shownConfig,
  sizeGiB,
} from './guest-config.js';
import type { LockUser } from './locks.js';
import { OPTIONAL_FLAG, OPTIONAL_TEXT, type ParamSpecs } from './params.js';
import { checkUnlocked, guestOn, type Handled, type Pve, type PveCall, type Route } from './pve.js';
import { CONFIG_PRIVILEGES, isLive, privilegesFor, QEMU_CONFIG_PARAMS } from './qemu-keys.js';
import type { TaskResult } from './task-engine.js';
import { storageOf, volumeOf } from './volumes.js';
import { failure, forbidden, parameterErrors } from './wire.js';

const WRITE_PARAMS: ParamSpecs = {
  ...QEMU_CONFIG_PARAMS,
  delete: OPTIONAL_TEXT,
  revert: OPTIONAL_TEXT,
  digest: { type: 'string', optional: true, maxLength: 40 },
  force: OPTIONAL_FLAG,
  skiplock: OPTIONAL_FLAG,
};

const permitWrite: Route['permit'] = (account, path) =>
  needAny(account, `/vms/${path['vmid']}`, ...CONFIG_PRIVILEGES);

export const configRoutes: readonly Route[] = [
  {
    method: 'GET',
    path: '/nodes/{node}/qemu/{vmid}/config',
    op: 'qemu.config.get',
    kind: 'read',
    params: { current: OPTIONAL_FLAG, snapshot: OPTIONAL_TEXT },
    permit: (account, path) => need(account, `/vms/${path['vmid']}`, 'VM.Audit'),
    handle: ({ pve, node, vmid, params }) => ({
      data: shownConfig(guestOn(pve, node, vmid), params.flag('current') ?? false),
    }),
  },
  {
    method: 'PUT',
    path: '/nodes/{node}/qemu/{vmid}/config',
    op: 'qemu.config.put',
    kind: 'config-write',
    params: WRITE_PARAMS,
    permit: permitWrite,
    async handle(call) {
      checkWrite(call);
      const written = await writeConfig(call, { actor: call.account.id, node: call.node, vmid: call.vmid });
      return { data: null, journal: written };
    },
  },
  {
    method: 'POST',
    path: '/nodes/{node}/qemu/{vmid}/config',
    op: 'qemu.config.post',
    kind: 'fork',
    params: {
      ...WRITE_PARAMS,
      background_delay: { type: 'integer', optional: true, minimum: 1, maximum: 30 },
    },
    permit: permitWrite,
    handle: writeInTask,
  },
  {
    method: 'PUT',
    path: '/nodes/{node}/qemu/{vmid}/resize',
    op: 'qemu.resize',
    kind: 'fork',
    params: {
      disk: {
        type: 'string',
        pattern: /^(ide[0-3]|scsi([0-9]|[12][0-9]|30)|virtio([0-9]|1[0-5])|sata[0-5]|efidisk0|tpmstate0)$/,
      },
      size: { type: 'string', pattern: /^\+?\d+(\.\d+)?[KMGT]?$/ },
      digest: { type: 'string', optional: true, maxLength: 40 },
      skiplock: OPTIONAL_FLAG,
    },
    permit: (account, path) => need(account, `/vms/${path['vmid']}`, 'VM.Config.Disk'),
    handle: startResize,
  },
];

function writeInTask(call: PveCall): Handled {
  const { pve, node, vmid, account, op, faults } = call;
  checkWrite(call);
  const setup = { node, type: 'qmconfig', id: String(vmid), actor: account.id, op, vmid, faults };
  const task = pve.tasks.start(setup, (running) =>
    writeConfig(call, {
      actor: account.id,
      node,
      vmid,
      upid: running.upid,
      signal: running.signal,
      log: (line) => running.log(line),
    }),
  );
  return { data: task.upid, journal: { upid: task.upid } };
}

/** What is refused before the lock: rights per key, encodings, the config's digest and lock. */
function checkWrite(call: PveCall): void {
  const { pve, node, vmid, params, account } = call;
  if (params.has('skiplock')) throw parameterErrors({ skiplock: 'Only root may use this option.' });
  const changed = changesOf(call);
  if (changed.length === 0) throw failure('no options specified');
  const guest = guestOn(pve, node, vmid);
  for (const [key, value] of changed) {
    const privileges = value !== null && isDrive(key) ? drivePrivileges(value) : privilegesFor(key);
    if (privileges[0] === 'root') throw failure(`only root can set '${key}' config`);
    needAny(account, `/vms/${vmid}`, ...privileges);
    if (value !== null && /^net[0-9]+$/.test(key)) needBridge(call, value);
    if (key === 'sshkeys' && value !== null) checkSshKeys(value);
  }
  checkFresh(call, guest);
}

function checkFresh({ params }: PveCall, guest: WorldGuest): void {
  const digest = params.text('digest');
  if (digest !== undefined && digest !== digestOf(guest))
    throw failure('checksum mismatch (file change by other user?)');
  checkUnlocked(guest);
}

function isDrive(key: string): boolean {
  return /^(scsi|virtio|sata|ide)[0-9]+$/.test(key);
}

function drivePrivileges(value: string): readonly string[] {
  return /(^|,)media=cdrom(,|$)/.test(value) || value.endsWith(':cloudinit')
    ? ['VM.Config.CDROM']
    : ['VM.Config.Disk'];
}

function changesOf({ params }: PveCall): [string, string | null][] {
  const removed = (params.text('delete') ?? '').split(/[,; ]+/).filter((key) => key !== '');
  for (const key of removed)
    if (params.has(key))
      throw parameterErrors({ delete: `cannot use '-${key}' and '-delete ${key}' at the same time` });
  const own = new Set(['delete', 'revert', 'digest', 'force', 'skiplock', 'background_delay']);
  const set = params.entries().filter(([key]) => !own.has(key));
  return [...set, ...removed.map((key): [string, null] => [key, null])];
}

/** Each key must be one that ssh-keygen can read. */
function checkSshKeys(encoded: string): void {
  const lines = decodeURIComponent(encoded)
    .split('\n')
    .filter((line) => line.trim() !== '');
  for (const line of lines) {
    const match =
      /^(ssh-rsa|ssh-dss|ssh-ed25519|ecdsa-sha2-nistp(?:256|384|521)|sk-[a-z0-9@.-]+) ([A-Za-z0-9+/]+={0,2})( .*)?$/.exec(
        line.trim(),
      );
    const type = match?.[1] ?? '';
    const blob = Buffer.from(match?.[2] ?? '', 'base64');
    const isWhole =
      blob.length > 4 + type.length &&
      blob.readUInt32BE(0) === type.length &&
      blob.toString('latin1', 4, 4 + type.length) === type;
    if (!match || !isWhole) throw failure('SSH public key validation error');
  }
}

/** Under the guest's flock: digest and lock are looked at again, then one write. */
async function writeConfig(call: PveCall, user: LockUser): Promise<TaskResult> {
  const { pve, node, vmid } = call;
  return pve.files.with(user, lockFile(vmid), 'exclusive', 10_000, async () => {
    const guest = guestOn(pve, node, vmid);
    checkFresh(call, guest);
    const digestBefore = digestOf(guest);
    const pendingBefore = JSON.stringify(guest.pending);
    pve.conditions.needQuorum();
    await pve.context.clock.sleep(drawMs(pve.context, 'cluster-write', vmid), user.signal);
    const changes = changesOf(call);
    for (const [key, value] of changes) applyChange(pve, guest, key, value);
    const digestAfter = digestOf(guest);
    return {
      effect: digestBefore !== digestAfter || pendingBefore !== JSON.stringify(guest.pending),
      vmid,
      incarnation: guest.incarnation,
      digestBefore,
      digestAfter,
      params: {
        ...Object.fromEntries(changes),
        mac: macOf(guest),
        mark: markLine(guest),
        name: guest.config['name'],
      },
    };
  });
}

function applyChange(pve: Pve, guest: WorldGuest, key: string, value: string | null): void {
  const stored =
    value !== null && /^net[0-9]+$/.test(key)
      ? normaliseNet(value, pve.context.random.stream('net', guest.vmid))
      : value;
  if (guest.status === 'running' && !isLive(key)) {
    guest.pending[key] = stored;
    return;
  }
  if (stored === null) delete guest.config[key];
  else guest.config[key] = key === 'cipassword' ? hashedPassword(stored) : stored;
}

/** Never the password itself; without a salt, so that a test can tell whether it is the one that it expects. */
export function hashedPassword(password: string): string {
  return `$5$simulated$${createHash('sha256').update(password).digest('base64url')}`;
}

function startResize(call: PveCall): Handled {
  const { pve, node, vmid, params, account, op, faults } = call;
  const guest = guestOn(pve, node, vmid);
  const wanted = disksOf(guest.config).find((disk) => disk.key === params.need('disk'));
  if (wanted && !account.at(`/storage/${wanted.storage}`).has('Datastore.AllocateSpace'))
    throw forbidden(`/storage/${wanted.storage}, Datastore.AllocateSpace`);
  const setup = { node, type: 'resize', id: String(vmid), actor: account.id, op, vmid, faults };
  const task = pve.tasks.start(setup, (running) => {
    const user: LockUser = {
      actor: account.id,
      node,
      vmid,
      upid: running.upid,
      signal: running.signal,
      log: (line) => running.log(line),
    };
    return pve.files.with(user, lockFile(vmid), 'exclusive', 10_000, () => resizeLocked(call, user));
  });
  return { data: task.upid, journal: { upid: task.upid } };
}

async function resizeLocked(call: PveCall, user: LockUser): Promise<TaskResult> {
  const { pve, node, vmid, params } = call;
  const guest = guestOn(pve, node, vmid);
  checkFresh(call, guest);
  const key = params.need('disk');
  const disk = disksOf(guest.config).find((candidate) => candidate.key === key);
  if (!disk) throw failure(`disk '${key}' does not exist`);
  const text = params.need('size');
  const before = sizeGiB(disk.options['size'] ?? '0');
  const after = text.startsWith('+') ? before + sizeGiB(text.slice(1)) : sizeGiB(text);
  const result = {
    vmid,
    incarnation: guest.incarnation,
    digestBefore: digestOf(guest),
    params: { disk: key, sizeGiB: after },
  };
  if (after < before) throw failure('shrinking disks is not supported');
  if (after === before) return { ...result, effect: false };
  storageOf(pve, disk.storage);
  pve.conditions.needQuorum();
  await pve.context.clock.sleep(drawMs(pve.context, 'resize', vmid), user.signal);
  const volume = volumeOf(pve, disk.volid, node);
  if (volume) volume.sizeGiB = after;
  const size = Number.isInteger(after) ? `${after}G` : `${Math.round(after * 1024)}M`;
  guest.config[key] = formatDisk(disk.volid, { ...disk.options, size });
  return { ...result, effect: true, digestAfter: digestOf(guest) };
}
