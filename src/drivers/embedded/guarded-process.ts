import { spawn, type ChildProcess, type StdioOptions } from 'node:child_process';

export interface GuardedOptions {
  readonly command: string;
  readonly args: readonly string[];
  /** Signal that asks for a clean end: SIGINT for Postgres (fast) and Redis, SIGTERM for our own roles. */
  readonly stopSignal: 'SIGINT' | 'SIGTERM';
  /** Seconds between that signal and SIGKILL. */
  readonly graceSeconds: number;
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  readonly uid?: number;
  readonly gid?: number;
  readonly stdout?: 'pipe' | 'ignore' | number;
  readonly stderr?: 'pipe' | 'ignore' | number;
}

export interface GuardedProcess {
  readonly process: ChildProcess;
  readonly pid: number;
  /** Resolves when the process has ended, for whatever reason. */
  readonly ended: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>;
  /** Asks the process to end and waits for it; twice is once. */
  stop(): Promise<void>;
}

/**
 * `$1` signal, `$2` grace in tenths of a second, then the command. The watcher is nobody's child (Postgres looks closely
 * at children it does not know), holds the read end of a pipe whose only writer is our process, and so learns of our
 * end however it comes: kill -9 included. `exec` keeps the pid that the watcher signals.
 */
const GUARD = `exec 3<&0
((
  read -r _ <&3
  kill -s "$1" $$ 2>/dev/null
  left=$2
  while [ "$left" -gt 0 ] && kill -0 $$ 2>/dev/null; do sleep 0.1; left=$((left - 1)); done
  kill -s KILL $$ 2>/dev/null
) </dev/null >/dev/null 2>&1 &)
shift 2
exec "$@" </dev/null 3<&-`;

/**
 * Starts a process that never outlives this one. It leads a session of its own, so that a Ctrl-C in the terminal
 * reaches only us and we decide the order of the stops.
 */
export function spawnGuarded(options: GuardedOptions): Promise<GuardedProcess> {
  const stdio: StdioOptions = ['pipe', options.stdout ?? 'ignore', options.stderr ?? 'ignore'];
  const child = spawn(
    '/bin/sh',
    [
      '-c',
      GUARD,
      'guard',
      options.stopSignal.slice(3),
      String(options.graceSeconds * 10),
      options.command,
      ...options.args,
    ],
    {
      stdio,
      detached: true,
      env: options.env ?? process.env,
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      ...(options.uid === undefined ? {} : { uid: options.uid }),
      ...(options.gid === undefined ? {} : { gid: options.gid }),
    },
  );
  const pipe = child.stdin;
  // The pipe only carries its own end; an EPIPE of a process that is gone already says nothing new.
  pipe?.on('error', () => undefined);
  const ended = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) => {
    child.once('exit', (code, signal) => {
      pipe?.end();
      resolve({ code, signal });
    });
  });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('spawn', () =>
      resolve({
        process: child,
        pid: child.pid!,
        ended,
        async stop() {
          pipe?.end();
          await ended;
        },
      }),
    );
  });
}
