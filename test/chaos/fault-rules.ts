import type { FaultRule } from '../../src/simulators/faults.js';

const LOCK = "can't lock file '/var/lock/qemu-server/lock-1.conf' - got timeout";

/** The ways in which a request of Proxmox VE fails, with their share of all faults. Half of them are done nevertheless. */
const WAYS: readonly (Pick<FaultRule, 'id' | 'when' | 'effect' | 'value'> & {
  readonly share: number;
  readonly op?: string;
})[] = [
  { id: 'reset-before', share: 0.2, when: 'before', effect: 'reset' },
  { id: 'reset-after', share: 0.2, when: 'after', effect: 'reset' },
  { id: 'dropped-after', share: 0.1, when: 'after', effect: 'drop' },
  { id: 'truncated', share: 0.1, when: 'after', effect: 'truncate', value: 20 },
  { id: 'never-connected', share: 0.15, when: 'before', effect: 'status', value: { status: 595, message: 'Connection refused' } },
  { id: 'no-answer', share: 0.15, when: 'after', effect: 'status', value: { status: 596, message: 'Connection timed out' } },
  { id: 'slow', share: 0.1, when: 'before', effect: 'delay', value: 5_000 },
]; // prettier-ignore
/** Calls that start a task may be accepted and fail later. */
const TASKS = ['qemu.clone', 'qemu.start', 'qemu.resize', 'qemu.destroy'];

/** Rules that together hit this share of the requests. */
export function faultRules(share: number): FaultRule[] {
  if (share === 0) return [];
  return [
    ...WAYS.map(({ share: ofAll, ...way }) => ({
      ...way,
      match: { sim: 'proxmox' as const, probability: share * ofAll },
    })),
    ...TASKS.map((op) => ({
      id: `${op}-fails-later`,
      match: { sim: 'proxmox' as const, op, probability: share / 4 },
      effect: 'task-error' as const,
      value: LOCK,
    })),
  ];
}
