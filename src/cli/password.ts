import { readFile } from 'node:fs/promises';
import { HatcheryError } from '../core/errors.js';
import type { Terminal } from './world.js';

/** A password that exists: from a file (`-` = standard input), else asked for. Never from the command line, which others can read. */
export async function readPassword(terminal: Terminal, file: string | undefined): Promise<string> {
  if (file !== undefined) return fromFile(terminal, file);
  askable(terminal);
  return terminal.askSecret('Password: ');
}

/** A password that is made up now: asked for twice. */
export async function newPassword(terminal: Terminal, file: string | undefined): Promise<string> {
  if (file !== undefined) return fromFile(terminal, file);
  askable(terminal);
  const first = await terminal.askSecret('Password: ');
  if (first === (await terminal.askSecret('Again: '))) return first;
  throw new HatcheryError('request-invalid', 'Unable to use the password: the two are not the same', {
    hint: 'Nothing was made. Try again.',
  });
}

function askable(terminal: Terminal): void {
  if (terminal.canAsk) return;
  throw new HatcheryError('request-invalid', 'Unable to ask for the password: this is no terminal', {
    hint: 'Give --password-file FILE, or - to read it from standard input.',
  });
}

/** The first line: files end with one that is not meant. */
async function fromFile(terminal: Terminal, file: string): Promise<string> {
  try {
    const content = file === '-' ? await terminal.readInput() : await readFile(file, 'utf8');
    return /^[^\r\n]*/.exec(content)?.[0] ?? '';
  } catch (cause) {
    throw new HatcheryError('request-invalid', `Unable to read the password: ${(cause as Error).message}`, {
      cause,
    });
  }
}
