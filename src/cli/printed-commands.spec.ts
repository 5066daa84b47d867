import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { fakeCliWorld } from '../../test/support/fake-cli-world.js';
import { ERRORS, type ErrorCode } from '../core/errors.js';
import { nextCommand } from '../core/remedies.js';
import { runCommandLine } from './program.js';

const ROOT = new URL('../..', import.meta.url).pathname;
const RUN = '01994a3e-0000-7000-8000-000000000001';

/** Groups and commands that stand alone. What is written behind them in prose is no command. */
const COMMAND =
  /hatchery ((?:batch|machine|run|cluster|user|token|admin|journal) [a-z]+(?:-[a-z]+)*|login|logout|simulate)\b([^`'"\n]*)/g;

const COMMENT = /\/\*[^]*?\*\//g;

/** Commands as they are written in texts for people: in the sources of the product and in its documents. */
function printedCommands(): string[] {
  const sources = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts') && !path.endsWith('.spec.ts') && !path.startsWith('client/'))
    .map((path) => join('src', path));
  const documents = ['README.md', 'docs/operations.md', 'docs/architecture.md'];
  const found = [...sources, ...documents].flatMap((path) =>
    [...readFileSync(join(ROOT, path), 'utf8').replaceAll(COMMENT, '').matchAll(COMMAND)].map(
      ([, name, rest]) => `${name} ${[...(rest ?? '').matchAll(/(?<=\s)--[a-z][a-z-]*/g)].join(' ')}`,
    ),
  );
  const next = (Object.keys(ERRORS) as ErrorCode[]).flatMap((code) =>
    (['parked', 'failed'] as const).flatMap((state) =>
      (['admin', 'teacher'] as const).flatMap((reader) =>
        [undefined, RUN].flatMap((runId) =>
          nextCommand(code, 'l3', { state, reader, runId })
            .split(' && ')
            .map((command) => withoutValues(command.replace(/^hatchery /, ''))),
        ),
      ),
    ),
  );
  return [...new Set([...found, ...next].map((command) => command.trim()))].sort();
}

/** `run retry --batch l3 --code no-capacity` -> `run retry --batch --code`. */
const withoutValues = (command: string): string =>
  command.split(' ').filter((word, at) => at < 2 || word.startsWith('--')).join(' '); // prettier-ignore

const commands = printedCommands();

describe('a command that is printed somewhere', () => {
  it('is looked for in enough places', () => {
    expect(commands).toEqual(
      expect.arrayContaining(['batch retry --parked --code', 'batch cancel', 'cluster check']),
    );
  });

  it.each(commands)('exists: hatchery %s', async (command) => {
    const words = command.split(' ');
    const path = words.filter((word) => !word.startsWith('--'));
    const world = fakeCliWorld();
    expect(await runCommandLine([...path, '--help'], world)).toBe(0);
    expect(world.said.out).toContain(`Usage: hatchery ${path.join(' ')}`);
    for (const option of words.slice(path.length)) expect(world.said.out).toContain(option);
  });
});
