import { describe, expect, it } from 'vitest';
import { commandLine, NoScriptAnswer, rowsOf, ScriptFailed, stdinLine } from './powershell.js';
import { ALLOW, CHECK, FIND, REMOVE } from './scripts/dhcp-filter.js';

const output = (stdout: string, stderr = '', exitCode = 0) => ({
  stdout: Buffer.from(stdout),
  stderr: Buffer.from(stderr),
  exitCode,
});
const clixml = (kind: string, text: string): string =>
  `#< CLIXML\r\n<Objs Version="1.1.0.1" xmlns="http://schemas.microsoft.com/powershell/2004/04"><S S="${kind}">${text}</S></Objs>`;

describe('constant scripts', () => {
  it.each([ALLOW, CHECK, FIND, REMOVE].map((script) => [script.name, script] as const))(
    '%s fits the command line of cmd.exe and needs no quoting',
    (_, script) => {
      const line = commandLine(script);
      expect(line.length).toBeLessThan(8_191);
      expect(line).toMatch(/^powershell\.exe( -[A-Za-z]+( Bypass)?)+ [A-Za-z0-9+/]+={0,2}$/);
    },
  );

  it.each([ALLOW, CHECK, FIND, REMOVE].map((script) => [script.name, script] as const))(
    '%s is plain ASCII and names itself',
    (name, script) => {
      expect(script.text).toMatch(/^[\n\x20-\x7e]+$/);
      expect(script.text.startsWith(`# hatchery-script: ${name}\n`)).toBe(true);
    },
  );

  it('get their parameters as one line that can hold no syntax', () => {
    const parameters = { entries: [{ mac: 'AA', description: '\u2018; Remove-Item x\r\n$(calc)`' }] };
    const line = stdinLine(parameters).toString('latin1');
    expect(line).toMatch(/^[A-Za-z0-9+/]+={0,2}\r\n$/);
    expect(JSON.parse(Buffer.from(line, 'base64').toString('utf8'))).toEqual(parameters);
  });
});

describe('the answer of a script', () => {
  it('is its rows', () => {
    expect(rowsOf(output('{"ok":true,"changed":1,"data":[{"mac":"\\u00e9"}]}\r\n'))).toEqual([{ mac: 'é' }]);
  });

  it('is its own error, with the category', () => {
    const said =
      '{"ok":false,"id":"WIN32 5,Get-DhcpServerv4Filter","category":"PermissionDenied","message":"no"}\r\n';
    expect(() => rowsOf(output(said, '', 1))).toThrow(
      expect.objectContaining({ message: 'no', category: 'PermissionDenied' }) as Error,
    );
  });

  it('is an error when the stream of errors holds one, whatever the exit code says', () => {
    const stderr = clixml('Error', 'Cannot find &lt;x&gt;_x000D__x000A_At line:1_x000D__x000A_');
    expect(() => rowsOf(output('{"ok":true,"data":[]}', stderr))).toThrow(
      new ScriptFailed('Cannot find <x> At line:1'),
    );
    expect(() => rowsOf(output('', "'powershell.exe' is not recognized\r\n", 1))).toThrow(ScriptFailed);
  });

  it('is not spoiled by progress records', () => {
    expect(rowsOf(output('{"ok":true,"data":[]}', clixml('progress', 'Preparing modules')))).toEqual([]);
  });

  it.each([
    ['silence', output('')],
    ['a cut answer', output('{"ok":true,"da')],
    ['a good answer with a bad exit code', output('{"ok":true,"data":[]}', '', 1)],
  ])('is missing with %s', (_, result) => {
    expect(() => rowsOf(result)).toThrow(NoScriptAnswer);
  });
});
