/** `PVE::Cluster::cfs_lock`: one line for each time that it found the lock taken. */
const TRYING = /^trying to acquire cfs lock 'storage-[^']+' \.\.\.$/;
/** `PVE::QemuServer::clone_disk`: each drive takes the storage's lock once. */
const DRIVE = /^create (linked|full) clone of drive /;
/** It gives up after this time. */
export const LOCK_MS = 10_000;

/** Both forms of a storage's lock: cluster-wide for shared ones, a file of the node for others. */
export const isStorageTimeOut = (exitText: string): boolean =>
  /cfs-lock 'storage-[^']+' error: got lock request timeout|can't lock file '\/var\/lock\/pve-manager\/pve-storage-[^']+' - got timeout/.test(
    exitText,
  );

/**
 * How long a clone waited for the lock of its shared storage: mean of its drives, milliseconds, from its log. After each of the lines PVE
 * sleeps a tenth of what is left of ten seconds (pve-cluster 9.1), so that n lines are 10 s * (1 - 0.9^n); before 9.1 it slept one second,
 * which is the same within a fifth for the first four lines. `undefined` when the log tells of no drive.
 */
export function lockWaitOf(log: readonly string[]): number | undefined {
  let drives = 0;
  let waitMs = 0;
  let tries = 0;
  const close = (): void => {
    waitMs += LOCK_MS * (1 - 0.9 ** tries);
    tries = 0;
  };
  for (const line of log) {
    if (TRYING.test(line)) tries += 1;
    else if (DRIVE.test(line)) {
      close();
      drives += 1;
    }
  }
  close();
  return drives === 0 ? undefined : waitMs / drives;
}
