import { HatcheryError } from '../core/errors.js';
import { terminalText } from '../core/terminal-text.js';
import type { Terminal } from './world.js';

/** Asks for the name of what is to be deleted. Error: `request-invalid` when it is not typed, or nobody can be asked. */
export async function confirmByName(terminal: Terminal, thing: string, name: string): Promise<void> {
  const shown = terminalText(thing);
  if (!terminal.canAsk)
    throw new HatcheryError('request-invalid', `Unable to delete ${shown}: nobody can be asked here`, {
      hint: 'Say --yes.',
    });
  const typed = await terminal.ask(`This deletes ${shown}. Type its name to go on: `);
  if (typed.trim() === name) return;
  throw new HatcheryError('request-invalid', `Unable to delete ${shown}: the name was not typed`, {
    hint: 'Nothing was deleted.',
  });
}
