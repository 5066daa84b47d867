import { expect, it } from 'vitest';
import { isStorageTimeOut, lockWaitOf } from './lock-wait.js';

const trying = "trying to acquire cfs lock 'storage-ceph' ...";
const drive = (name: string): string => `create linked clone of drive ${name} (ceph:base-9000-disk-0)`;
const log = (...lines: string[]): string[] => [
  'creating a clone of VM 9000 with ID 10001',
  ...lines,
  'TASK OK',
];

it('a clone that never found the lock taken waited for nothing', () => {
  expect(lockWaitOf(log(drive('scsi0'), drive('ide2')))).toBe(0);
});

it('each line is a tenth of what was left of ten seconds, and drives are averaged', () => {
  expect(lockWaitOf(log(drive('scsi0'), trying, trying, drive('ide2')))).toBeCloseTo(950);
  expect(lockWaitOf(log(drive('scsi0'), trying, drive('ide2'), trying))).toBeCloseTo(1_000);
});

it('locks of other things say nothing about the storage', () => {
  const others = ["trying to acquire cfs lock 'file-user_cfg' ...", 'trying to acquire lock...'];
  expect(lockWaitOf(log(drive('scsi0'), ...others))).toBe(0);
  expect(lockWaitOf(['no content'])).toBeUndefined();
});

it('knows the time-out of a storage from that of a guest or of the users', () => {
  const isOne = (text: string): boolean => isStorageTimeOut(`clone failed: ${text}`);
  expect(isOne("cfs-lock 'storage-ceph' error: got lock request timeout")).toBe(true);
  expect(isOne("can't lock file '/var/lock/pve-manager/pve-storage-local-lvm' - got timeout")).toBe(true);
  expect(isOne("cfs-lock 'file-user_cfg' error: got lock request timeout")).toBe(false);
  expect(isOne("can't lock file '/var/lock/qemu-server/lock-105.conf' - got timeout")).toBe(false);
});
