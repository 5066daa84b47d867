import type { JournalLine } from '../../src/simulators/journal.js';
import { ROUTES } from '../../src/simulators/proxmox/router.js';

/** Calls that change the guest of their path; a clone only reads it. */
const WRITES = new Set(
  ROUTES.filter(
    ({ method, path, op }) => method !== 'GET' && path.includes('/qemu/{vmid}') && op !== 'qemu.clone',
  ).map(({ op }) => op),
);

/**
 * Every request that would have changed a guest of somebody else, carried out or refused: the sender is told by the node that it talks to,
 * the owner by who cloned the guest (or made it by hand). Knows neither marks nor tokens.
 * @param senders deployment by the node of its only endpoint
 */
export function wrongWrites(
  lines: readonly JournalLine[],
  senders: Readonly<Record<string, string>>,
): string[] {
  const senderOf = (line: JournalLine): string => {
    const node = (line.params?.['via'] as string | undefined) ?? line.node ?? '';
    return senders[node] ?? node;
  };
  const senderOfTask = new Map<string, string>();
  for (const line of lines)
    if (line.event === 'request' && line.upid !== undefined) senderOfTask.set(line.upid, senderOf(line));
  const owners = new Map<number, string>();
  const wrong: string[] = [];
  for (const line of lines) {
    if (line.sim !== 'proxmox' || line.vmid === undefined) continue;
    const { vmid, op = '' } = line;
    if (line.event === 'foreign') {
      if (op === 'foreign.create') owners.set(vmid, line.actor ?? 'somebody');
      if (op === 'foreign.delete') owners.delete(vmid);
    }
    if (line.event === 'task-end' && line.effect === true) {
      if (op === 'qemu.clone') owners.set(vmid, senderOfTask.get(line.upid ?? '') ?? 'nobody');
      if (op === 'qemu.destroy') owners.delete(vmid);
    }
    const owner = owners.get(vmid);
    if (line.event === 'request' && WRITES.has(op) && owner !== undefined && owner !== senderOf(line))
      wrong.push(`${senderOf(line)}: ${op} on guest ${vmid} of ${owner}`);
  }
  return wrong;
}

/** VMIDs of failed clones go to somebody else at once. `record` is what the journal of the simulator is told with. */
export function takeFreedIds(
  journal: {
    record(entry: Parameters<import('../../src/simulators/journal.js').Journal['record']>[0]): void;
  },
  take: (vmid: number) => void,
): void {
  const record = journal.record.bind(journal);
  journal.record = (entry) => {
    record(entry);
    if (
      entry.event === 'task-end' &&
      entry.op === 'qemu.clone' &&
      entry.effect !== true &&
      entry.vmid !== undefined
    )
      take(entry.vmid);
  };
}
