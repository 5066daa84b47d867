import { spawn } from 'node:child_process';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline/promises';
import { Writable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { HatcheryError } from '../core/errors.js';
import { Interrupted, type CliWorld, type Terminal } from './world.js';

const DIST = join(import.meta.dirname, '..');
const DEFAULT_COLUMNS = 80;

/** The world of a real command line: this process, its terminal and its environment. */
export function processWorld(): CliWorld {
  return {
    terminal: processTerminal(),
    environment: process.env,
    home: homedir(),
    root: join(DIST, '..'),
    fetch: globalThis.fetch,
    sleep,
    runProgram,
  };
}

function processTerminal(): Terminal {
  const { stdin, stdout, stderr } = process;
  // `hatchery ... | head` is no failure.
  for (const stream of [stdout, stderr])
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EPIPE') process.exit();
      throw error;
    });
  const isColorAllowed = (process.env['NO_COLOR'] ?? '') === '' && process.env['TERM'] !== 'dumb';
  return {
    out: (words) => void stdout.write(words),
    err: (words) => void stderr.write(words),
    isOutTty: stdout.isTTY === true,
    isErrTty: stderr.isTTY === true,
    canAsk: stdin.isTTY === true && stderr.isTTY === true,
    outColor: isColorAllowed && stdout.isTTY === true,
    errColor: isColorAllowed && stderr.isTTY === true,
    // A terminal that does not know its size says 0.
    width: () => stderr.columns || stdout.columns || DEFAULT_COLUMNS,
    ask: (question) => ask(question, stderr),
    askSecret: async (question) => {
      stderr.write(question);
      try {
        return await ask('', new Writable({ write: (_chunk, _encoding, done) => done() }));
      } finally {
        stderr.write('\n');
      }
    },
    readInput: () => text(stdin),
    onInterrupt: (listener) => {
      process.on('SIGINT', listener);
      return () => void process.off('SIGINT', listener);
    },
  };
}

async function ask(question: string, output: NodeJS.WritableStream): Promise<string> {
  const lines = createInterface({ input: process.stdin, output, terminal: true, historySize: 0 });
  try {
    return await new Promise<string>((resolve, reject) => {
      lines.on('SIGINT', () => reject(new Interrupted()));
      lines.on('close', () => reject(new Interrupted()));
      lines.question(question).then(resolve, reject);
    });
  } finally {
    lines.close();
  }
}

function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const end = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal?.addEventListener('abort', end, { once: true });
  });
}

/** `script` is a path below the build. The pipe on its standard input closes with us: that is how it knows. */
function runProgram(script: string, args: readonly string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [join(DIST, script), ...args], {
      stdio: ['pipe', 'inherit', 'inherit'],
    });
    const forward = (signal: NodeJS.Signals): void => void child.kill(signal);
    // A terminal's Ctrl-C reaches the child by itself; a signal to us alone does not.
    const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
    for (const signal of signals) process.on(signal, forward);
    const settle = (): void => {
      for (const signal of signals) process.off(signal, forward);
    };
    child.on('error', (cause) => {
      settle();
      reject(new HatcheryError('internal', `Unable to start ${script}: ${cause.message}`, { cause }));
    });
    child.on('exit', (code, signal) => {
      settle();
      resolve(code ?? (signal === 'SIGINT' ? 130 : 1));
    });
  });
}
