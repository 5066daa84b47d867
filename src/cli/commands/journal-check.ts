import type { Command } from 'commander';
import { command, type Cli } from '../cli.js';

const PROGRAM = 'simulators/journal/program.js';

export const journalCheck = (cli: Cli): Command =>
  command(
    'check',
    'Judges what the simulators saw: collisions, foreign guests, what is left. Exit code 1: not in order, 3: it proves nothing.',
    'hatchery journal check journal.ndjson --deleted',
  )
    .argument('<file>', 'journal of the simulators')
    .option('--submits <file>', 'what was submitted')
    .option('--export <file>', 'what hatchery admin export wrote, to compare with')
    .option('--work <file>', 'what the run was meant to go through: with less it proves nothing')
    .option('--deleted', 'everything was deleted: nothing may be left')
    .option('--minimum <number>', 'guests that there must have been at least')
    .action(async (file: string, options: JournalOptions) => {
      const { submits, export: results, work, minimum, deleted, json } = options;
      cli.exitCode = await cli.world.runProgram(PROGRAM, [
        ...(submits === undefined ? [] : ['--submits', submits]),
        ...(results === undefined ? [] : ['--export', results]),
        ...(work === undefined ? [] : ['--work', work]),
        ...(minimum === undefined ? [] : ['--minimum', minimum]),
        ...(deleted ? ['--deleted'] : []),
        ...(json ? ['--json'] : []),
        '--',
        file,
      ]);
    });

interface JournalOptions {
  readonly submits?: string;
  readonly export?: string;
  readonly work?: string;
  readonly minimum?: string;
  readonly deleted?: true;
  readonly json?: true;
}
