import { describe, expect, it } from 'vitest';
import { shellWords } from './shell-words.js';

describe('the words of a command', () => {
  it.each([
    [String.raw`'perl' '-e' 'print '\''$x'\'';'`, ['perl', '-e', "print '$x';"]],
    ['pct config 105', ['pct', 'config', '105']],
    [String.raw`echo a\ b "c \"d\"" ''`, ['echo', 'a b', 'c "d"', '']],
    ["printf 'a\nb'", ['printf', 'a\nb']],
  ])('are split as a shell does: %j', (line, words) => {
    expect(shellWords(line)).toEqual(words);
  });

  it.each(['id; id', 'echo $HOME', 'echo `id`', 'a | b', 'a > b', 'a && b', "echo 'open", 'a\nb', 'ls *'])(
    'are not told where a shell does more: %j',
    (line) => {
      expect(shellWords(line)).toBeUndefined();
    },
  );
});
