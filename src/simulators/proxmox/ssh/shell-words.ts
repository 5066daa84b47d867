/** The words of one simple command, as a POSIX shell splits it; `undefined` where the shell would do more than that: substitute, redirect, run a second command. */
export function shellWords(line: string): string[] | undefined {
  const words: string[] = [];
  let word: string | undefined;
  const add = (text: string): void => void (word = (word ?? '') + text);
  const part =
    /'([^']*)'|"((?:[^"\\$`]|\\[\s\S])*)"|\\([\s\S])|([ \t]+)|([^\s'"\\|&;<>()$`#*?[\]{}~!]+|(?<=\S)[#~!])/gy;
  while (part.lastIndex < line.length) {
    const match = part.exec(line);
    if (match === null) return undefined;
    const [, single, double, escaped, blank, plain] = match;
    if (blank !== undefined) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else if (double !== undefined) add(double.replaceAll(/\\(["\\$`])/g, '$1'));
    else add(single ?? escaped ?? plain ?? '');
  }
  if (word !== undefined) words.push(word);
  return words;
}
