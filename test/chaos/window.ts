import { readFile } from 'node:fs/promises';
import { journalLineSchema, type JournalLine } from '../../src/simulators/journal.js';
import type { Campaign } from './campaign.js';

const BEFORE_NS = 10_000_000_000n;
const LINES = 60;

/** The part of a campaign in which its first finding came about: what the runner did and what the journal says of the same guest, in order. */
export async function smallestWindow({ journal, verdict, done }: Campaign): Promise<string[]> {
  const first = verdict.findings.filter(({ line }) => line > 0).sort((a, b) => a.line - b.line)[0];
  if (first === undefined) return [];
  const lines = (await readFile(journal, 'utf8')).split('\n');
  const parse = (text: string | undefined): JournalLine | undefined =>
    text === undefined || text === '' ? undefined : journalLineSchema.safeParse(JSON.parse(text)).data;
  const offending = parse(lines[first.line - 1]);
  if (offending === undefined) return [first.detail];
  const until = BigInt(offending.ns);
  const isNear = (ns: bigint): boolean => ns >= until - BEFORE_NS && ns <= until;
  const told: { ns: bigint; text: string }[] = done.filter(({ ns }) => isNear(ns));
  for (const [index, text] of lines.entries()) {
    const line = parse(text);
    if (line === undefined || !isNear(BigInt(line.ns)) || !isOfSame(line, offending)) continue;
    told.push({ ns: BigInt(line.ns), text: `${index + 1}: ${text}` });
  }
  const seconds = (ns: bigint): string => (Number(ns - until) / 1e9).toFixed(3).padStart(8);
  return told
    .sort((a, b) => (a.ns < b.ns ? -1 : 1))
    .slice(-LINES)
    .map(({ ns, text }) => `${seconds(ns)} s  ${text}`);
}

function isOfSame(line: JournalLine, offending: JournalLine): boolean {
  if (line.event === 'foreign') return true;
  if (offending.vmid !== undefined) return line.vmid === offending.vmid;
  return offending.resource === undefined || line.resource === offending.resource;
}
