import { z } from 'zod';
import { errorText } from './clixml.js';
import type { CommandCall, CommandOutput, WinrmShell } from './shell.js';

/** A constant script; its first line is `# hatchery-script: <name>`. */
export interface PowerShellScript {
  readonly name: string;
  readonly text: string;
}

/** The script ran and says why it failed, or powershell.exe says why it did not run. */
export class ScriptFailed extends Error {
  override readonly name = 'ScriptFailed';
  constructor(
    message: string,
    readonly category?: string,
  ) {
    super(message);
  }
}

/** The command ended without saying anything: whether it ran is not known. */
export class NoScriptAnswer extends Error {
  override readonly name = 'NoScriptAnswer';
}

const answerSchema = z.union([
  z.object({ ok: z.literal(true), data: z.array(z.unknown()) }),
  z.object({
    ok: z.literal(false),
    id: z.string().nullish(),
    category: z.string().nullish(),
    message: z.string(),
  }),
]);

/** At most 8,191 characters, the limit of cmd.exe; a spec holds every script against it. */
export function commandLine(script: PowerShellScript): string {
  const encoded = Buffer.from(script.text, 'utf16le').toString('base64');
  return `powershell.exe -NoProfile -NonInteractive -ExecutionPolicy Bypass -EncodedCommand ${encoded}`;
}

/** Parameters as the one line that scripts read from stdin. */
export function stdinLine(parameters: unknown): Buffer {
  return Buffer.from(`${Buffer.from(JSON.stringify(parameters), 'utf8').toString('base64')}\r\n`, 'latin1');
}

/**
 * Runs a constant script with parameters and gives the rows of its answer.
 * Errors: `ScriptFailed`, `NoScriptAnswer`, the shell's.
 */
export async function runScript(
  shell: WinrmShell,
  script: PowerShellScript,
  parameters: unknown,
  call: CommandCall,
): Promise<readonly unknown[]> {
  return rowsOf(await shell.run(commandLine(script), stdinLine(parameters), call));
}

/** An exit code of 0 proves nothing: text on the error stream is an error, and so is silence. */
export function rowsOf(output: CommandOutput): readonly unknown[] {
  const complaint = errorText(output.stderr.toString('utf8'));
  const answer = answerSchema.safeParse(lastLineAsJson(output.stdout.toString('utf8'))).data;
  if (answer?.ok === false) throw new ScriptFailed(answer.message, answer.category ?? undefined);
  if (complaint !== '') throw new ScriptFailed(complaint);
  if (answer === undefined || output.exitCode !== 0)
    throw new NoScriptAnswer(`the script ended with code ${output.exitCode} and no answer`);
  return answer.data;
}

function lastLineAsJson(stdout: string): unknown {
  try {
    return JSON.parse(stdout.trim().split(/\r?\n/).at(-1) ?? '');
  } catch {
    return undefined; // not an answer of ours
  }
}
