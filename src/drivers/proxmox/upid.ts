import type { TaskVerdict } from '../../ports/hypervisor.js';
import { cleanText } from '../remote-text.js';
import { readText } from './errors.js';
import { isStorageTimeOut, LOCK_MS } from './lock-wait.js';

export interface Upid {
  readonly node: string;
  readonly startedAtS: number;
  readonly type: string;
  /** For clones the VMID of the source. */
  readonly id: string;
  /** `user@realm` or the whole token id. */
  readonly user: string;
}

const UPID =
  /^UPID:([A-Za-z0-9][A-Za-z0-9-]*):[0-9A-Fa-f]{8}:[0-9A-Fa-f]{8,9}:([0-9A-Fa-f]{8}):([^:\s]+):([^:\s]*):([^:\s]+):$/;

/** `undefined` when the text is not a UPID. */
export function parseUpid(text: string): Upid | undefined {
  const match = UPID.exec(text);
  if (!match) return undefined;
  const [, node, started, type, id, user] = match as unknown as string[];
  return { node: node!, startedAtS: Number.parseInt(started!, 16), type: type!, id: id!, user: user! };
}

/** Stands for a task whose UPID is lost and whose success is proven by what it made; following it gives `ok` at once. */
export const SETTLED = 'settled:';

const MAKES_VOLUMES: ReadonlySet<string> = new Set(['qmclone', 'vzclone', 'vzcreate']);

/** Reads the exit text of an ended task. */
export function verdictOf(exitText: string, type: string): TaskVerdict {
  const text = cleanText(exitText);
  if (text === 'OK') return { verdict: 'ok', warnings: 0 };
  const warnings = /^WARNINGS: (\d+)$/.exec(text);
  if (warnings) return { verdict: 'ok', warnings: Number(warnings[1]) };
  // The worker vanished (killed, node rebooted): its log ends without a verdict.
  if (text === 'unexpected status' || text === '')
    return { verdict: 'unknown', text: text || 'no exit status' };
  // PVE::QemuServer vm_start: what was to be reached is there.
  if (type === 'qmstart' && /^VM \d+ already running$/.test(text)) return { verdict: 'ok', warnings: 0 };
  const { code, retry, reason } = readText(
    text.replace(/^(?:clone failed: |unable to create CT \d+ - )/, ''),
  );
  return {
    verdict: 'error',
    text,
    code,
    retry,
    // Without quorum a clone that fails cannot free what it has made.
    ...((reason === 'volume-left' || (MAKES_VOLUMES.has(type) && code === 'cluster-no-quorum')) && {
      leavesVolume: true,
    }),
    ...(type === 'qmclone' && isStorageTimeOut(text) && { lockWaited: { waitMs: LOCK_MS, timedOut: true } }),
  };
}

/** The last percentage of qemu-img's "transferred 1.2 GiB of 10.0 GiB (12.00%)" lines. */
export function percentOf(lines: readonly string[]): number | undefined {
  for (const line of [...lines].reverse()) {
    const match = /^transferred .* \((\d{1,3}(?:\.\d+)?)%\)$/.exec(line.trim());
    if (match) return Math.min(100, Number(match[1]));
  }
  return undefined;
}
