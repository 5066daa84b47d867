import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { FAULTS, type Output } from './soap.js';

const EXIT_CONTROL_C = -1073741510;

/** A command of a shell: its stdin lines and its output, which Receive takes away piece by piece. */
export class ShellCommand {
  readonly id = randomUUID().toUpperCase();
  readonly #abort = new AbortController();
  #input = Buffer.alloc(0);
  #inputEnded = false;
  #stdout: Buffer[] = [];
  #stderr: Buffer[] = [];
  #exitCode: number | undefined;
  #wake: (() => void)[] = [];

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  get isDone(): boolean {
    return this.#exitCode !== undefined;
  }

  write(bytes: Buffer, isEnd: boolean): void {
    this.#input = Buffer.concat([this.#input, bytes]);
    this.#inputEnded ||= isEnd;
    this.#notify();
  }

  /** `[Console]::In.ReadLine()`: waits for a line; `undefined` at the end of the input. */
  async readLine(): Promise<string | undefined> {
    for (;;) {
      this.#abort.signal.throwIfAborted();
      const end = this.#input.indexOf('\n');
      if (end >= 0 || this.#inputEnded) {
        const line = this.#input.subarray(0, end < 0 ? undefined : end).toString('utf8');
        const isNothing = end < 0 && line === '';
        this.#input = end < 0 ? Buffer.alloc(0) : this.#input.subarray(end + 1);
        return isNothing ? undefined : line.replace(/\r$/, '');
      }
      await this.#changed();
    }
  }

  finish(exitCode: number, stdout: readonly Buffer[], stderr: readonly Buffer[] = []): void {
    if (this.isDone) return;
    this.#stdout.push(...stdout);
    this.#stderr.push(...stderr);
    this.#exitCode = exitCode;
    this.#notify();
  }

  terminate(): void {
    this.#abort.abort();
    this.finish(EXIT_CONTROL_C, []);
  }

  /** What there is to receive; waits for it at most `timeoutMs` of wall time, which the client chose. */
  async receive(timeoutMs: number, stopped: AbortSignal): Promise<Output> {
    const timer = new AbortController();
    const limit = delay(timeoutMs, 'late' as const, {
      signal: AbortSignal.any([timer.signal, stopped]),
    }).catch(() => 'late' as const);
    try {
      while (!this.isDone && this.#stdout.length + this.#stderr.length === 0)
        if ((await Promise.race([limit, this.#changed()])) === 'late') throw FAULTS.operationTimeout();
    } finally {
      timer.abort();
    }
    const output = {
      stdout: this.#stdout,
      stderr: this.#stderr,
      ...(this.#exitCode === undefined ? {} : { exitCode: this.#exitCode }),
    };
    this.#stdout = [];
    this.#stderr = [];
    return output;
  }

  #changed(): Promise<void> {
    return new Promise((resolve) => this.#wake.push(resolve));
  }

  #notify(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }
}

export interface Shell {
  readonly id: string;
  readonly owner: string;
  readonly commands: Map<string, ShellCommand>;
  readonly idleMs: number;
  /** Requests that wait for their answer. */
  asked: number;
  askedAtMs: number;
}

/** As Windows has it for a shell that asks for nothing else. */
const IDLE_MS = 7_200_000;

/** The shells of all users, with the quota that the server keeps per user. */
export class Shells {
  readonly #shells = new Map<string, Shell>();

  constructor(
    private readonly maxShellsPerUser: number,
    private readonly maxOperationsPerUser: number,
    private readonly nowMs: () => number,
  ) {}

  /** `idleMs` in simulated time. */
  open(owner: string, idleMs = IDLE_MS): Shell {
    this.#closeIdle();
    if (this.countOf(owner) >= this.maxShellsPerUser) throw FAULTS.shellQuota(this.maxShellsPerUser);
    const shell: Shell = {
      id: randomUUID().toUpperCase(),
      owner,
      commands: new Map(),
      idleMs,
      asked: 0,
      askedAtMs: this.nowMs(),
    };
    this.#shells.set(shell.id, shell);
    return shell;
  }

  /** A shell is not idle while somebody waits for its answer. */
  async asked<T>(shell: Shell, work: () => Promise<T>): Promise<T> {
    shell.asked += 1;
    try {
      return await work();
    } finally {
      shell.asked -= 1;
      shell.askedAtMs = this.nowMs();
    }
  }

  #closeIdle(): void {
    for (const shell of this.#shells.values())
      if (shell.asked === 0 && this.nowMs() - shell.askedAtMs >= shell.idleMs) this.close(shell);
  }

  /** Opens all that the quota leaves. */
  takeAll(owner: string): Shell[] {
    return Array.from({ length: this.maxShellsPerUser - this.countOf(owner) }, () => this.open(owner));
  }

  /** A command counts until it is signalled or its shell goes, also when it is done. */
  start(shell: Shell): ShellCommand {
    const own = [...this.#shells.values()].filter(({ owner }) => owner === shell.owner);
    if (own.reduce((sum, { commands }) => sum + commands.size, 0) >= this.maxOperationsPerUser)
      throw FAULTS.operationQuota(this.maxOperationsPerUser);
    const command = new ShellCommand();
    shell.commands.set(command.id, command);
    return command;
  }

  get(id: string | undefined, owner: string): Shell {
    this.#closeIdle();
    const shell = id === undefined ? undefined : this.#shells.get(id.toUpperCase());
    if (shell === undefined || shell.owner !== owner) throw FAULTS.shellNotFound(id ?? '');
    return shell;
  }

  close(shell: Shell): void {
    for (const command of shell.commands.values()) command.terminate();
    this.#shells.delete(shell.id);
  }

  closeAll(): void {
    for (const shell of this.#shells.values()) this.close(shell);
  }

  countOf(owner?: string): number {
    return [...this.#shells.values()].filter((shell) => owner === undefined || shell.owner === owner).length;
  }
}
