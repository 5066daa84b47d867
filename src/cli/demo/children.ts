import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { HatcheryError } from '../../core/errors.js';
import { spawnGuarded, type GuardedProcess } from '../../drivers/embedded/guarded-process.js';

/** `dist`, two folders up from here. */
const PROGRAMS = join(import.meta.dirname, '..', '..');

export interface Stack {
  /** Tells the stack about something to stop when it stops: last in, first out. */
  add(stop: () => Promise<void>): void;
  stop(): Promise<void>;
}

/** What was started, stopped in the reverse order and once. */
export function newStack(): Stack {
  const stops: (() => Promise<void>)[] = [];
  let stopping: Promise<void> | undefined;
  const stopAll = async () => {
    const failures: unknown[] = [];
    for (const stop of stops.splice(0).reverse())
      await stop().catch((error: unknown) => {
        failures.push(error);
      });
    if (failures.length > 0) throw failures[0];
  };
  return {
    add: (stop) => void stops.push(stop),
    stop: () => (stopping ??= stopAll()),
  };
}

export interface ProgramOptions {
  /** Path below `dist`. */
  readonly program: string;
  readonly args?: readonly string[];
  readonly env: NodeJS.ProcessEnv;
  readonly logFile: string;
  /** stdout is read by us instead of going to the log. */
  readonly readsStdout?: boolean;
}

/** Starts one of our own programs so that it ends with us, however we end. */
export async function startProgram(options: ProgramOptions): Promise<GuardedProcess> {
  const log = openSync(options.logFile, 'a', 0o600);
  try {
    return await spawnGuarded({
      command: process.execPath,
      args: ['--enable-source-maps', join(PROGRAMS, options.program), ...(options.args ?? [])],
      env: options.env,
      stopSignal: 'SIGTERM',
      graceSeconds: 20,
      stdout: options.readsStdout ? 'pipe' : log,
      stderr: log,
    });
  } finally {
    closeSync(log);
  }
}

/** The first line that a program prints. Error: `internal` when it ends before. */
export async function firstLine(program: GuardedProcess, logFile: string): Promise<string> {
  const lines = createInterface({ input: program.process.stdout! });
  const line = await Promise.race([
    new Promise<string>((resolve) => lines.once('line', resolve)),
    program.ended.then(() => undefined),
  ]);
  if (line !== undefined) return line;
  throw new HatcheryError('internal', `Unable to start the simulated cluster: it ended at once`, {
    hint: `Its messages are in ${logFile}.`,
  });
}
