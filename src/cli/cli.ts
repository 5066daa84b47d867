import { Command } from 'commander';
import type { Client } from '../client/client/index.js';
import { EXIT, HatcheryError } from '../core/errors.js';
import { terminalText } from '../core/terminal-text.js';
import { findAccess, type Access, type GivenAccess } from './access.js';
import { apiClient } from './api.js';
import type { CliWorld } from './world.js';

/** What every command gets: the world around it, its API, and where its result goes. */
export class Cli {
  /** Set by the command that ran; 0 when it says nothing. */
  exitCode: number = EXIT.ok;
  /** Whether stdout has to stay one JSON value. */
  isJson = false;
  given: GivenAccess = {};

  constructor(readonly world: CliWorld) {}

  access(): Promise<Access> {
    return findAccess(this.given, this.world);
  }

  /** The API, signed in. Error: `not-signed-in` when no token is known for the address. */
  async api(): Promise<Client> {
    const { url, token } = await this.access();
    if (token !== undefined) {
      if (/^[\x21-\x7e]+$/.test(token)) return apiClient(url, token, this.world.fetch);
      // What fetch says about such a header repeats it.
      throw new HatcheryError(
        'settings-invalid',
        `Unable to sign in at ${url}: the token has spaces, line breaks or accents`,
        {
          hint: 'Copy it again: it begins with hat_ and stands on one line (--token, HATCHERY_TOKEN or HATCHERY_TOKEN_FILE).',
        },
      );
    }
    throw new HatcheryError('not-signed-in', `Unable to sign in at ${url}: no token is known for it`, {
      hint: `Sign in with hatchery login --url ${url}, or set HATCHERY_TOKEN.`,
    });
  }

  /** The result: with --json the value, else the text. */
  show(value: unknown, text: () => string): void {
    this.world.terminal.out(this.isJson ? jsonText(value) : text());
  }

  /** Prose beside the result. */
  say(sentence: string): void {
    this.world.terminal.err(`${sentence}\n`);
  }

  /** The widest that a table may be. */
  get tableColumns(): number | undefined {
    return this.world.terminal.isOutTty ? this.world.terminal.width() : undefined;
  }
}

/** One JSON value that a terminal can show: what JSON leaves bare of invisible and control characters is escaped. */
export function jsonText(value: unknown): string {
  const json = JSON.stringify(value, null, 2).replace(/[\p{Cf}\u007f-\u009f\u2028\u2029]/gu, (character) =>
    Array.from(
      { length: character.length },
      (_, at) => `\\u${character.charCodeAt(at).toString(16).padStart(4, '0')}`,
    ).join(''),
  );
  return `${json}\n`;
}

/** A command with its example in the help. */
export function command(name: string, summary: string, example: string): Command {
  return new Command(name)
    .description(summary)
    .option('--json', 'one JSON value on stdout')
    .addHelpText('after', `\nExample:\n  ${example}`);
}

/** A command that talks to the service. */
export const apiCommand = (name: string, summary: string, example: string): Command =>
  command(name, summary, example)
    .option('--url <url>', 'address of the service')
    .option('--token <token>', 'token to sign in with (better: HATCHERY_TOKEN)');

const ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

const LISTED_BY = {
  run: 'hatchery run list',
  token: 'hatchery token list',
  effect: 'hatchery run show',
  worker: 'hatchery admin workers',
} as const;

/** The id that was given. Error: `request-invalid` with the command that lists ids of this kind. */
export function idOf(kind: keyof typeof LISTED_BY, text: string): string {
  if (ID.test(text)) return text;
  throw new HatcheryError('request-invalid', `Unable to find the ${kind}: "${terminalText(text)}" is no id`, {
    hint: `List them with ${LISTED_BY[kind]}.`,
  });
}

/** `1 machine`, `2 machines`. */
export const countText = (count: number, thing: string): string =>
  `${count} ${thing}${count === 1 ? '' : 's'}`;

/** A yes or no as forms and queries carry it. */
export const flag = (isSet: boolean | undefined): 'true' | 'false' => (isSet === true ? 'true' : 'false');
