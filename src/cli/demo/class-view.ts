import { padText, terminalText, textWidth, truncateText } from '../../core/terminal-text.js';
import type { BatchResults } from '../../client/types.gen.js';
import type { ClassProgress } from './class-run.js';

const BAR_COLUMNS = 30;
/** Without a terminal a line is written at each step of this size. */
const STEP_PERCENT = 10;

/** Shows how far the class is: one line that is drawn again in a terminal, a line now and then elsewhere. */
export class ProgressView {
  private drawn = '';
  private lastStep = -1;

  constructor(
    private readonly out: NodeJS.WriteStream,
    private readonly name: string,
  ) {}

  show(progress: ClassProgress): void {
    const line = progressLine(this.name, progress);
    if (this.out.isTTY) {
      if (line === this.drawn) return;
      this.out.write(`\r\u001b[K${truncateText(line, (this.out.columns ?? 100) - 1)}`);
    } else {
      const step = Math.floor(progress.percent / STEP_PERCENT);
      if (step === this.lastStep) return;
      this.lastStep = step;
      this.out.write(`${line}\n`);
    }
    this.drawn = line;
  }

  end(): void {
    if (this.out.isTTY && this.drawn !== '') this.out.write('\n');
    this.drawn = '';
  }
}

function progressLine(name: string, { percent, counts, remainingSeconds, state }: ClassProgress): string {
  const full = Math.round((percent / 100) * BAR_COLUMNS);
  const bar = '█'.repeat(full) + '░'.repeat(BAR_COLUMNS - full);
  const parts = [`${counts.ready}/${counts.total} ready`];
  for (const other of ['parked', 'failed', 'deleting', 'deleted'] as const)
    if (counts[other] > 0) parts.push(`${counts[other]} ${other}`);
  if (state === 'working' && remainingSeconds !== null) parts.push(`about ${remainingSeconds} s left`);
  return `${name} ${bar} ${String(percent).padStart(3)} %  ${parts.join(', ')}`;
}

const COLUMNS = ['login', 'machine', 'vmid', 'node', 'address', 'state'] as const;

/** The results for people: one row per machine, then what went wrong and the next command for it. */
export function resultsTable(results: BatchResults): string {
  const rows = [
    [...COLUMNS],
    ...results.items.map((item) => COLUMNS.map((column) => terminalText(String(item[column] ?? '')))),
  ];
  const widths = COLUMNS.map((_, index) => Math.max(...rows.map((row) => textWidth(row[index]!))));
  const lines = rows.map((row) =>
    row
      .map((cell, index) => padText(cell, widths[index]!))
      .join('  ')
      .trimEnd(),
  );
  const causes = results.causes.map(
    ({ count, sentence, next }) => `${count} x ${terminalText(sentence)}\n    ${terminalText(next)}`,
  );
  return [...lines, ...(causes.length > 0 ? ['', ...causes] : []), ''].join('\n');
}
