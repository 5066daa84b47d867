import { createReadStream } from 'node:fs';
import { journalLineSchema, type JournalLine } from '../journal.js';

export interface NumberedLine extends JournalLine {
  readonly line: number;
}

interface ReadLines {
  /** Lines that `keep` wanted, in the order in which things happened. */
  readonly lines: NumberedLine[];
  /** Numbers of whole lines that are no journal lines. */
  readonly unreadable: number[];
  readonly firstEvent: JournalLine['event'] | undefined;
}

/** Reads a journal of any size piece by piece; several writers are put in order by (ns, writer, seq). A torn last line is nobody's. */
export async function readLines(file: string, keep: (line: JournalLine) => boolean): Promise<ReadLines> {
  const lines: NumberedLine[] = [];
  const unreadable: number[] = [];
  let firstEvent: JournalLine['event'] | undefined;
  let number = 0;
  let rest = '';
  for await (const chunk of createReadStream(file, { encoding: 'utf8' }) as AsyncIterable<string>) {
    const pieces = (rest + chunk).split('\n');
    rest = pieces.pop() ?? '';
    for (const text of pieces) {
      number += 1;
      const line = parseLine(text);
      if (line === undefined) unreadable.push(number);
      else {
        firstEvent ??= line.event;
        if (keep(line)) lines.push({ ...line, line: number });
      }
    }
  }
  return { lines: lines.sort(inOrder), unreadable, firstEvent };
}

function parseLine(text: string): JournalLine | undefined {
  try {
    return journalLineSchema.safeParse(JSON.parse(text)).data;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/** `ns` is a decimal number without leading zeros: the longer one is the later one. */
function inOrder(a: JournalLine, b: JournalLine): number {
  if (a.ns !== b.ns) return a.ns.length - b.ns.length || (a.ns < b.ns ? -1 : 1);
  return a.writer === b.writer ? a.seq - b.seq : a.writer < b.writer ? -1 : 1;
}
