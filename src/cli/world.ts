/** What the command line has of the process around it. Handed in, so that specs need neither a terminal nor a service. */
export interface CliWorld {
  readonly terminal: Terminal;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** The user's home folder: a login is kept below it. */
  readonly home: string;
  /** The folder that holds package.json. */
  readonly root: string;
  readonly fetch: typeof fetch;
  /** Ends early, without an error, when `signal` is aborted. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /** Runs one of our programs with this terminal until it ends; gives its exit code. It ends when we end, however we end. */
  runProgram(script: string, args: readonly string[]): Promise<number>;
}

/** Results go to `out`; progress, questions and prose to `err`. */
export interface Terminal {
  out(text: string): void;
  err(text: string): void;
  readonly isOutTty: boolean;
  readonly isErrTty: boolean;
  /** A person can answer: input and error output are terminals. */
  readonly canAsk: boolean;
  /** Whether colours may be used on `out` and on `err`. */
  readonly outColor: boolean;
  readonly errColor: boolean;
  /** Columns of the terminal at this moment. */
  width(): number;
  ask(question: string): Promise<string>;
  /** Without echo. */
  askSecret(question: string): Promise<string>;
  /** Everything that is piped in. */
  readInput(): Promise<string>;
  /** Calls `listener` on Ctrl-C instead of ending the process; gives the way back. */
  onInterrupt(listener: () => void): () => void;
}

/** Exit code of a command that the person stopped, as shells have it for SIGINT. */
export const INTERRUPTED = 130;

/** The person pressed Ctrl-C at a question. */
export class Interrupted extends Error {
  override readonly name = 'Interrupted';
}
