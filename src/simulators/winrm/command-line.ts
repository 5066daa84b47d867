import { createHash } from 'node:crypto';

const CMD_LINE_LIMIT = 8_191;
const PROCESS_LINE_LIMIT = 32_767;

export type CommandLine =
  | {
      readonly kind: 'script';
      readonly text: string;
      readonly name: string | undefined;
      readonly digest: string;
    }
  | { readonly kind: 'refused'; readonly stderr: string; readonly exitCode: number };

/** What the shell makes of a command line: a PowerShell script in -EncodedCommand, or cmd.exe's refusal. */
export function readCommandLine(line: string, skipsCmd: boolean): CommandLine {
  if (line.length > (skipsCmd ? PROCESS_LINE_LIMIT : CMD_LINE_LIMIT))
    return { kind: 'refused', stderr: 'The command line is too long.\r\n', exitCode: 1 };
  const [program = '', ...words] = line
    .trim()
    .split(/\s+/)
    .map((word) => word.replace(/^"(.*)"$/, '$1'));
  if (!/^(.*\\)?powershell(\.exe)?$/i.test(program))
    return {
      kind: 'refused',
      stderr: `'${program}' is not recognized as an internal or external command,\r\noperable program or batch file.\r\n`,
      exitCode: 1,
    };
  const encodedAt = words.findIndex((word) => /^-(e|ec|enc\w*)$/i.test(word));
  const encoded = encodedAt < 0 ? undefined : words[encodedAt + 1];
  if (encoded === undefined || !/^[A-Za-z0-9+/]+={0,2}$/.test(encoded))
    return {
      kind: 'refused',
      stderr:
        'Cannot process the command because the value specified with -EncodedCommand is not properly encoded.\r\n',
      exitCode: 1,
    };
  const text = Buffer.from(encoded, 'base64').toString('utf16le');
  const name = /^# hatchery-script: ([a-z0-9-]+ v[0-9]+)\r?\n/.exec(text)?.[1];
  return { kind: 'script', text, name, digest: createHash('sha256').update(text).digest('hex').slice(0, 16) };
}

/** Error records on stderr as powershell.exe writes them when its streams are redirected. */
export function clixml(message: string): string {
  const lines = message.split(/\r?\n/).map((line) => `<S S="Error">${escape(line)}_x000D__x000A_</S>`);
  return `#< CLIXML\r\n<Objs Version="1.1.0.1" xmlns="http://schemas.microsoft.com/powershell/2004/04">${lines.join('')}</Objs>`;
}

const escape = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
