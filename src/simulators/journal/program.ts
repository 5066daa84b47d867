import { parseArgs } from 'node:util';
import { checkJournal } from './check.js';
import { sentences, type JournalVerdict } from './verdict.js';

const USAGE =
  'Usage: hatchery journal check FILE [--submits FILE] [--export FILE] [--deleted] [--minimum N] [--json]\n';
const REFUSED = 2;

/** The program behind `hatchery journal check`: exit 0 = in order, 1 = not, 2 = cannot be read. */
async function main(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      submits: { type: 'string' },
      export: { type: 'string' },
      deleted: { type: 'boolean', default: false },
      minimum: { type: 'string', default: '1' },
      json: { type: 'boolean', default: false },
    },
  });
  const [file, ...more] = positionals;
  const minimumGuests = Number(values.minimum);
  if (file === undefined || more.length > 0 || !Number.isInteger(minimumGuests) || minimumGuests < 0) {
    process.stderr.write(USAGE);
    return REFUSED;
  }
  const verdict = await checkJournal(file, {
    minimumGuests,
    expectNothingLeft: values.deleted,
    ...(values.export === undefined ? {} : { exportFile: values.export }),
    ...(values.submits === undefined ? {} : { submitsFile: values.submits }),
  });
  print(verdict, values.json);
  return verdict.ok ? 0 : 1;
}

function print(verdict: JournalVerdict, asJson: boolean): void {
  process.stdout.write(asJson ? `${JSON.stringify(verdict)}\n` : `${sentences(verdict).join('\n')}\n`);
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  const detail = `Unable to check the journal: ${reasonOf(error)}`;
  process.stderr.write(`${detail}\n`);
  if (process.argv.includes('--json')) process.stdout.write(`${JSON.stringify({ error: { detail } })}\n`);
  process.exitCode = REFUSED;
}

function reasonOf(error: unknown): string {
  const { code, path } = error as { code?: string; path?: string };
  if (code === 'ENOENT' && path !== undefined) return `there is no file ${path}`;
  return error instanceof Error ? error.message : String(error);
}
