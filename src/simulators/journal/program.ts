import { parseArgs } from 'node:util';
import { checkJournal } from './check.js';
import { readWork } from './expectations.js';
import { sentences, type JournalVerdict } from './verdict.js';

const USAGE =
  'Usage: hatchery journal check FILE [--submits FILE] [--export FILE] [--work FILE] [--deleted] [--minimum N] [--json]\n';
const REFUSED = 2;
const VOID = 3;

/** The program behind `hatchery journal check`: exit 0 = in order, 1 = not, 2 = cannot be read, 3 = in order, but too little happened. */
async function main(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      submits: { type: 'string' },
      export: { type: 'string' },
      work: { type: 'string' },
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
    ...(values.work === undefined ? {} : { work: await readWork(values.work) }),
  });
  print(verdict, values.json);
  if (!verdict.ok) return 1;
  return verdict.void.length === 0 ? 0 : VOID;
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
