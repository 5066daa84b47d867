import { z } from 'zod';
import { Interrupted } from '../clock.js';
import type { SimulatorContext } from '../context.js';
import type { FiredFaults } from '../faults.js';
import { clixml, readCommandLine } from './command-line.js';
import { DHCP_SCRIPTS } from './dhcp-scripts.js';
import { CmdletError, DhcpServer, worldMac } from './dhcp-server.js';
import type { ShellCommand } from './shells.js';

export const POWERSHELL_START_MS = { median: 1_200, p95: 2_500 };
export const ENTRY_MS = 40;

const inputSchema = z.object({
  entries: z.array(z.object({ mac: z.string(), description: z.string().default('') })).default([]),
});

/** STATUS_UNSUCCESSFUL: the process ended without having said so. */
const DIED = -1073741823;
class Died extends Error {}

interface Result {
  readonly exitCode: number;
  readonly stdout?: string;
  readonly stderr?: string;
}

/** What runs a command of a shell; `computer` is the server's name. */
export class ScriptRunner {
  constructor(
    private readonly context: SimulatorContext,
    private readonly computer: string,
  ) {}

  /** Runs until the end of the command; a terminated command ends without a result. */
  async run(command: ShellCommand, commandLine: string, skipsCmd: boolean, actor: string): Promise<void> {
    try {
      const result = await this.#result(command, commandLine, skipsCmd, actor);
      const encode = (text = ''): Buffer[] => this.#chunks(Buffer.from(text, 'utf8'));
      command.finish(result.exitCode, encode(result.stdout), encode(result.stderr));
    } catch (error) {
      if (!(error instanceof Interrupted) && !command.signal.aborted) throw error;
    }
  }

  async #result(
    command: ShellCommand,
    commandLine: string,
    skipsCmd: boolean,
    actor: string,
  ): Promise<Result> {
    const { clock, random, holds, faults, journal } = this.context;
    const parsed = readCommandLine(commandLine, skipsCmd);
    if (parsed.kind === 'refused') return parsed;
    const draw = random.stream('winrm.script', parsed.name ?? 'unknown');
    await clock.sleep(draw.logNormal(POWERSHELL_START_MS.median, POWERSHELL_START_MS.p95), command.signal);
    const script = parsed.name === undefined ? undefined : DHCP_SCRIPTS[parsed.name];
    if (script === undefined)
      return {
        exitCode: 1,
        stderr: clixml(
          'At line:1 char:1\r\nUnexpected token in expression or statement.\r\n    + FullyQualifiedErrorId : UnexpectedToken\r\n',
        ),
      };

    const input = readInput(await command.readLine());
    if (input === undefined)
      return {
        exitCode: 1,
        stderr: clixml(
          'Exception calling "FromBase64String" with "1" argument(s): "The input is not a valid Base-64 string."',
        ),
      };

    const op = `winrm.script.${parsed.name?.split(' ')[0]}`;
    const fired = faults.match({ sim: 'winrm', op, params: { mac: input.entries[0]?.mac } });
    await fired.answer('before');
    await holds.pass(op, 'before');
    const streamError = await fired.task('during', command.signal);
    await fired.act('during');
    const isSwallowed = fired.at('during', 'drop') !== undefined || streamError !== undefined;
    const diesAfter = fired.own('kill-task') && Math.floor(input.entries.length / 2);
    // Counted from the first entry: a timer that fires late must not make a long list longer.
    const beganMs = clock.elapsedMs();
    let steps = 0;
    const step = async (): Promise<void> => {
      if (steps === diesAfter) throw new Died();
      steps += 1;
      const leftMs = beganMs + ENTRY_MS * steps - clock.elapsedMs();
      if (leftMs > 0) await clock.sleep(leftMs, command.signal);
      if (command.signal.aborted) throw new Interrupted('the command was ended');
    };
    let changes = 0;
    const server = new DhcpServer(
      this.context.world.dhcp,
      this.computer,
      ({ op: change, filter, effect }) => {
        if (effect) changes += 1;
        journal.record({
          sim: 'winrm',
          event: 'request',
          actor,
          op: change,
          effect,
          resource: worldMac(filter.mac),
          params: { description: filter.description, list: filter.list },
        });
      },
    );
    const done = isSwallowed
      ? swallowed(streamError)
      : await outcome(() => script(server, input, { user: actor, computer: this.computer }, step));
    journal.record({
      sim: 'winrm',
      event: 'request',
      actor,
      op: 'winrm.script',
      effect: changes > 0,
      ...(fired.ids === undefined ? {} : { fault: fired.ids }),
      params: {
        script: parsed.name,
        digest: parsed.digest,
        entries: input.entries.length,
        exitCode: done.exitCode,
      },
    });
    await holds.pass(op, 'after');
    await fired.act('after');
    return isSwallowed ? done : this.#afterwards(done, fired, command.signal);
  }

  /** What faults leave of the output of a script that did its work. */
  async #afterwards(done: Result, fired: FiredFaults, signal: AbortSignal): Promise<Result> {
    if (fired.at('after', 'drop')) return { exitCode: 0 };
    const text = await fired.task('after', signal);
    const cut = fired.at('after', 'truncate');
    return {
      ...done,
      ...(cut && { stdout: (done.stdout ?? '').slice(0, Number(cut.value)) }),
      ...(text !== undefined && { exitCode: 0, stderr: clixml(text) }),
    };
  }

  /** Cut anywhere, also inside a character: that is how the streams of WinRM come. */
  #chunks(bytes: Buffer): Buffer[] {
    if (bytes.length < 2) return bytes.length === 0 ? [] : [bytes];
    const cut = 1 + this.context.random.stream('winrm.cut').integer(bytes.length - 1);
    return [bytes.subarray(0, cut), bytes.subarray(cut)];
  }
}

/** The command seems to have run and did nothing, with or without a non-terminating error on the stream; the exit code is 0 either way. */
function swallowed(streamError: string | undefined): Result {
  return streamError === undefined ? { exitCode: 0 } : { exitCode: 0, stderr: clixml(streamError) };
}

async function outcome(
  act: () => Promise<{ changed: boolean | number; data: readonly unknown[] }>,
): Promise<Result> {
  try {
    return { exitCode: 0, stdout: answerLine({ ok: true, ...(await act()) }) };
  } catch (error) {
    if (error instanceof Died) return { exitCode: DIED };
    if (!(error instanceof CmdletError)) throw error;
    const { id, category, message } = error;
    return { exitCode: 1, stdout: answerLine({ ok: false, id, category, message }) };
  }
}

/** The scripts escape what is not ASCII, so that no code page can spoil it. */
function answerLine(answer: object): string {
  const json = JSON.stringify(answer).replace(
    /[^\x20-\x7e]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
  return `${json}\r\n`;
}

function readInput(line: string | undefined): z.output<typeof inputSchema> | undefined {
  if (line === undefined || !/^[A-Za-z0-9+/]+={0,2}$/.test(line.trim())) return undefined;
  try {
    return inputSchema.safeParse(JSON.parse(Buffer.from(line.trim(), 'base64').toString('utf8'))).data;
  } catch {
    return undefined;
  }
}
