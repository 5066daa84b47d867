import { HatcheryError } from '../../core/errors.js';
import type { Clock } from '../../ports/clock.js';
import { RequestFailed } from '../http/send-request.js';
import type { PostOptions, WinrmConnection } from './connection.js';
import {
  commandIdOf,
  MESSAGES,
  readBody,
  receivedOf,
  shellIdOf,
  WsmanFault,
  type WsmanTarget,
} from './wsman.js';

/** Not an error: the command has had nothing to say for the time that the request allowed. */
const OPERATION_TIMEOUT = 2_150_858_793;
/** Of one Send, before base64; an envelope may hold 150 KiB. */
const STDIN_CHUNK_BYTES = 64 * 1024;
const CLEANUP_LIMIT_MS = 5_000;

export interface CommandOutput {
  readonly stdout: Buffer;
  readonly stderr: Buffer;
  readonly exitCode: number;
}

export interface CommandCall {
  readonly signal: AbortSignal;
  /** Runs right before the end of stdin leaves: until then the command waits for its input and does nothing. */
  readonly beforeSend?: (() => void) | undefined;
}

/** A server answered with something that is not WS-Management. */
export class NotWsman extends Error {
  override readonly name = 'NotWsman';
}

/** One shell on the server; it counts against the quota until `close`. */
export class WinrmShell {
  private constructor(
    private readonly connection: WinrmConnection,
    private readonly target: WsmanTarget,
    private readonly clock: Clock,
    private readonly shellId: string,
  ) {}

  static async open(
    connection: WinrmConnection,
    target: WsmanTarget,
    clock: Clock,
    signal: AbortSignal,
  ): Promise<WinrmShell> {
    const shellId = shellIdOf(await ask(connection, MESSAGES.createShell(target), { signal }));
    if (shellId === undefined) throw new NotWsman('the answer to Create names no shell');
    return new WinrmShell(connection, target, clock, shellId);
  }

  /** Runs one command to its end and ends it on the server in any case. Errors: `WsmanFault`, `NotWsman`, `RequestFailed`, the connection's. */
  async run(commandLine: string, stdin: Buffer, call: CommandCall): Promise<CommandOutput> {
    const { target, shellId } = this;
    const started = await this.#ask(MESSAGES.command(target, shellId, commandLine), { signal: call.signal });
    const commandId = commandIdOf(started);
    if (commandId === undefined) throw new NotWsman('the answer to Command names no command');
    try {
      for (let at = 0; at < stdin.length; at += STDIN_CHUNK_BYTES) {
        const isEnd = at + STDIN_CHUNK_BYTES >= stdin.length;
        const message = MESSAGES.send(
          target,
          shellId,
          commandId,
          stdin.subarray(at, at + STDIN_CHUNK_BYTES),
          isEnd,
        );
        await this.#ask(message, isEnd ? call : { signal: call.signal });
      }
      return await this.#receive(commandId, call.signal);
    } finally {
      await this.#cleanUp(MESSAGES.terminate(target, shellId, commandId));
    }
  }

  async close(): Promise<void> {
    await this.#cleanUp(MESSAGES.deleteShell(this.target, this.shellId));
  }

  async #receive(commandId: string, signal: AbortSignal): Promise<CommandOutput> {
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    for (;;) {
      const received = await this.#receiveOnce(commandId, signal);
      if (received === undefined) continue;
      stdout.push(...received.stdout);
      stderr.push(...received.stderr);
      if (received.isDone)
        return {
          stdout: Buffer.concat(stdout),
          stderr: Buffer.concat(stderr),
          exitCode: received.exitCode ?? 0,
        };
    }
  }

  async #receiveOnce(commandId: string, signal: AbortSignal) {
    try {
      const received = receivedOf(
        await this.#ask(MESSAGES.receive(this.target, this.shellId, commandId), { signal }),
      );
      if (received === undefined) throw new NotWsman('the answer to Receive has no output and no state');
      return received;
    } catch (error) {
      if (error instanceof WsmanFault && error.code === OPERATION_TIMEOUT) return undefined;
      throw error;
    }
  }

  /** Best effort: what stays behind ends by the shell's idle time-out, and a failure here must not hide the command's own outcome. */
  async #cleanUp(message: string): Promise<void> {
    const limit = new AbortController();
    const ended = new AbortController();
    this.clock.sleep(CLEANUP_LIMIT_MS, ended.signal).then(
      () => limit.abort(new Error('clean-up took too long')),
      () => undefined, // the clean-up ended first
    );
    try {
      await this.#ask(message, { signal: limit.signal });
    } catch (error) {
      if (!EXPECTED_IN_CLEANUP.some((kind) => error instanceof kind)) throw error;
    } finally {
      ended.abort();
    }
  }

  #ask(message: string, options: PostOptions) {
    return ask(this.connection, message, options);
  }
}

const EXPECTED_IN_CLEANUP = [WsmanFault, NotWsman, RequestFailed, HatcheryError];

async function ask(connection: WinrmConnection, message: string, options: PostOptions) {
  const answer = await connection.post(message, options);
  const body = readBody(answer.body.toString('utf8'));
  if (answer.status === 200 && body !== undefined) return body;
  throw new NotWsman(`HTTP ${answer.status} without a fault`);
}
