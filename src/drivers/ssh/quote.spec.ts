import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { commandLine } from './quote.js';

describe('a command for a remote shell', () => {
  it.each([
    ['a semicolon', 'x;id'],
    ['a substitution', '$(id)`id`$HOME'],
    ['quotes', `it's "quoted" \\'`],
    ['a newline', 'a\nid\n'],
    ['an option', '-oProxyCommand=id'],
    ['wildcards and a tilde', '~/* ? [a]'],
    ['nothing', ''],
    ['other alphabets', 'é ‘ ’ 日本'],
  ])('hands a word with %s over as it is', (_, word) => {
    const shown = execFileSync('/bin/sh', ['-c', commandLine(['printf', '%s|', word, 'end'])]);
    expect(shown.toString()).toBe(`${word}|end|`);
  });

  it('is refused with a word that no process can be given', () => {
    expect(() => commandLine(['echo', 'a\0b'])).toThrow('NUL');
  });
});
