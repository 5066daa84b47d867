/**
 * The one place where a command for a remote shell is put together: each word of `argv` arrives as it is, whatever it holds.
 * Throws on NUL, which no word can hold, and on no word at all.
 */
export function commandLine(argv: readonly [string, ...string[]]): string {
  if (argv.some((word) => word.includes('\0'))) throw new TypeError('a word of a command holds NUL');
  return argv.map(quoted).join(' ');
}

/** In single quotes, where a POSIX shell reads nothing but the end of the quotes. */
const quoted = (word: string): string => `'${word.replaceAll("'", String.raw`'\''`)}'`;
