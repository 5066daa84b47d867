import { setMaxListeners } from 'node:events';
import { z } from 'zod';
import { HatcheryError, type ErrorMore } from '../../core/errors.js';
import type { Call } from '../../ports/call.js';
import { cleanText } from '../remote-text.js';
import { ConversationLost, nodeUnreachable, type CommandOutput } from './connection.js';
import { commandLine } from './quote.js';
import type { Sessions } from './sessions.js';

/** Version of the requests that `bin/hatchery-node` understands. */
const VERSION = 2;
const LIMIT_MS = 30_000;
const LEAST_LIMIT_MS = 15_000;
/** Requests of one conversation at most. */
const MOST = 100;

export interface HelperCall {
  readonly node: string;
  /** Completes "Unable to ...". */
  readonly what: string;
  readonly isWrite: boolean;
  readonly request: Readonly<Record<string, unknown>> & { readonly op: string };
}

export interface CallMetrics {
  observe(op: string, seconds: number, outcome: string): void;
}

export interface HelperOptions {
  readonly sessions: Sessions;
  /** Text of `bin/hatchery-node`. */
  readonly program: string;
  readonly remoteTimeScale: number;
  readonly metrics?: CallMetrics | undefined;
  readonly now: () => number;
}

const refusalShape = z.object({
  ok: z.literal(false),
  reason: z.string(),
  message: z.string(),
  lock: z.string().optional(),
});
const answerShape = z.discriminatedUnion('ok', [z.looseObject({ ok: z.literal(true) }), refusalShape]);
const answersShape = z.discriminatedUnion('ok', [
  z.object({ ok: z.literal(true), answers: z.array(answerShape) }),
  refusalShape,
]);
type Answer = z.infer<typeof answerShape>;
type Refusal = z.infer<typeof refusalShape>;

/** A request that waits for its conversation, or is part of one. */
interface Asked {
  readonly helperCall: HelperCall;
  readonly call: Call;
  readonly settle: (answer: Answer) => void;
  readonly fail: (error: unknown) => void;
  /** Nobody waits for it any more. */
  isOver: boolean;
  onOver: () => void;
}

/**
 * Asks `hatchery-node` on a node: the program as one argument of perl, the requests as JSON on its stdin. A key that is restricted to an
 * installed copy (`command=`) gets the same requests there. A command that is cut anywhere holds no whole list of them, and does nothing.
 * What is asked of a node in one turn of the event loop is one conversation, in the order of asking; each request has its own outcome.
 */
export class Helper {
  readonly #line: string;
  readonly #gathering = new Map<string, Asked[]>();

  constructor(private readonly options: HelperOptions) {
    this.#line = commandLine(['perl', '-e', options.program]);
  }

  async ask<T>(shape: z.ZodType<T>, helperCall: HelperCall, call: Call): Promise<T> {
    const { now, metrics } = this.options;
    const startedAt = now();
    let outcome = 'ok';
    try {
      const answer = await this.#answerTo(helperCall, call);
      if (!answer.ok) throw refused(helperCall, refusalShape.parse(answer));
      return parsed(shape, helperCall, answer);
    } catch (error) {
      outcome = error instanceof HatcheryError ? error.code : 'aborted';
      throw error;
    } finally {
      metrics?.observe(helperCall.request.op, (now() - startedAt) / 1000, outcome);
    }
  }

  #answerTo(helperCall: HelperCall, call: Call): Promise<Answer> {
    call.signal.throwIfAborted();
    return new Promise((resolve, reject) => {
      const end = (): void => {
        asked.isOver = true;
        call.signal.removeEventListener('abort', leave);
        asked.onOver();
      };
      const asked: Asked = {
        helperCall,
        call,
        isOver: false,
        onOver: () => {},
        settle(answer) {
          end();
          resolve(answer);
        },
        fail(error) {
          end();
          reject(error as Error);
        },
      };
      const leave = (): void => asked.fail(call.signal.reason);
      // All that one step asks at once has one signal.
      setMaxListeners(MOST, call.signal);
      call.signal.addEventListener('abort', leave, { once: true });
      this.#gather(helperCall.node, asked);
    });
  }

  #gather(node: string, asked: Asked): void {
    const there = this.#gathering.get(node);
    if (there !== undefined) {
      there.push(asked);
      if (there.length === MOST) this.#gathering.delete(node);
      return;
    }
    const conversation = [asked];
    this.#gathering.set(node, conversation);
    setImmediate(() => {
      if (this.#gathering.get(node) === conversation) this.#gathering.delete(node);
      void this.#converse(node, conversation);
    });
  }

  /** A kept connection may have ended unnoticed: as long as nothing was sent, another one is tried. */
  async #converse(node: string, all: readonly Asked[]): Promise<void> {
    const waiting = (): Asked[] => all.filter(({ isOver }) => !isOver);
    const left = new AbortController();
    for (const asked of all) asked.onOver = () => waiting().length === 0 && left.abort();
    for (let isAgain = false; waiting().length > 0; isAgain = true) {
      let sent: Asked[] = [];
      try {
        const output = await this.#run(node, left.signal, () => {
          sent = readyToSend(waiting());
          return sent;
        });
        settleAll(sent, output);
      } catch (error) {
        if (error instanceof ConversationLost && !error.wasSent && !isAgain) continue;
        for (const { helperCall, fail } of waiting()) fail(lost(helperCall, error));
      }
      break;
    }
  }

  #run(node: string, signal: AbortSignal, requests: () => readonly Asked[]): Promise<CommandOutput> {
    const { sessions, remoteTimeScale } = this.options;
    return sessions.with(node, signal, (connection) =>
      connection.run(this.#line, {
        input: () =>
          Buffer.from(
            JSON.stringify({
              helper: VERSION,
              node,
              requests: requests().map(({ helperCall }) => helperCall.request),
            }),
          ),
        signal,
        limitMs: Math.max(LEAST_LIMIT_MS, LIMIT_MS * remoteTimeScale),
      }),
    );
  }
}

/** Whose worker may not write any more sends nothing; the others go on. Throws when nobody is left. */
function readyToSend(waiting: readonly Asked[]): Asked[] {
  const ready = waiting.filter(({ helperCall, call, fail }) => {
    if (!helperCall.isWrite) return true;
    try {
      call.beforeSend();
      return true;
    } catch (refusal) {
      fail(refusal);
      return false;
    }
  });
  if (ready.length === 0) throw new Error('nobody sends anything any more');
  return ready;
}

function settleAll(sent: readonly Asked[], output: CommandOutput): void {
  const told = answersShape.safeParse(lastLineAsJson(output.stdout)).data;
  for (const [at, { helperCall, settle, fail }] of sent.entries()) {
    const answer = told?.ok === true ? told.answers[at] : told;
    if (answer === undefined) fail(noAnswer(helperCall, output));
    else settle(answer);
  }
}

function parsed<T>(shape: z.ZodType<T>, { node, what }: HelperCall, answer: Answer): T {
  const read = shape.safeParse(answer);
  if (read.success) return read.data;
  throw new HatcheryError('outcome-unknown', `Unable to ${what} on ${node}: its answer cannot be read`, {
    retry: 'later',
    cause: read.error,
  });
}

function lost(helperCall: HelperCall, error: unknown): unknown {
  if (!(error instanceof ConversationLost)) return error;
  if (helperCall.isWrite && error.wasSent) return unknownOutcome(helperCall, error.message, error);
  return nodeUnreachable(helperCall.node, error.message, { cause: error });
}

function lastLineAsJson(stdout: Buffer): unknown {
  try {
    return JSON.parse(stdout.toString('utf8').trim().split('\n').at(-1) ?? '');
  } catch {
    return undefined; // not an answer of ours
  }
}

/** 127 and 126: the shell found nothing to run. */
const NOTHING_RAN = new Set([126, 127]);

function noAnswer(helperCall: HelperCall, { exitCode, stderr }: CommandOutput): HatcheryError {
  const { node, what, isWrite } = helperCall;
  const words = cleanText(stderr.toString('utf8'));
  const how = exitCode === undefined ? 'it was ended' : `exit code ${exitCode}`;
  const why = words === '' ? how : `${how}, ${words}`;
  if (exitCode !== undefined && NOTHING_RAN.has(exitCode))
    return new HatcheryError('remote-refused', `Unable to ${what} on ${node}: ${why}`, {
      retry: 'after-fix',
      hint: 'perl, or the command= of our key, is missing there',
      facts: { reason: 'no-helper' },
    });
  if (isWrite) return unknownOutcome(helperCall, why);
  return nodeUnreachable(node, `it ended without an answer (${why})`);
}

function unknownOutcome({ node, what }: HelperCall, why: string, cause?: unknown): HatcheryError {
  return new HatcheryError(
    'outcome-unknown',
    `Unable to tell whether it was done to ${what} on ${node}: ${why}`,
    {
      retry: 'later',
      hint: 'it is done again as a whole: what is there already stays',
      cause,
    },
  );
}

/** What each refusal of the helper means; nothing was changed. One that is not here is never retried. */
function refused({ node, what }: HelperCall, { reason, message, lock }: Refusal): HatcheryError {
  const fail = (
    code: 'lock-timeout' | 'cluster-no-quorum' | 'not-found' | 'remote-refused',
    more: ErrorMore,
  ) =>
    new HatcheryError(code, `Unable to ${what} on ${node}: ${cleanText(message)}`, {
      ...more,
      facts: { reason, ...more.facts },
    });
  switch (reason) {
    case 'locked':
      return fail('lock-timeout', {
        retry: 'later',
        hint: 'wait for the job that holds it; if nothing runs any more, an admin unlocks with: pct unlock <VMID>',
        facts: { lock },
      });
    case 'lock-timeout':
    case 'too-slow':
      return fail('lock-timeout', { retry: 'later' });
    case 'no-quorum':
      return fail('cluster-no-quorum', {
        retry: 'later',
        hint: 'reads go on, writes resume by themselves when the cluster has quorum again',
      });
    case 'not-found':
      return fail('not-found', { retry: 'never' });
    case 'digest-mismatch':
    case 'not-written':
    case 'failed':
      return fail('remote-refused', { retry: 'later' });
    case 'outdated':
      return fail('remote-refused', {
        retry: 'after-fix',
        hint: `put the bin/hatchery-node of this version into /usr/local/sbin on ${node}`,
      });
    case 'wrong-node':
      return fail('remote-refused', {
        retry: 'after-fix',
        hint: "correct hostKeys and addresses of the cluster's file: this is another node",
      });
    case 'no-storage':
      return fail('remote-refused', {
        retry: 'after-fix',
        hint: `give the storage the content snippets and let ${node} have it: pvesm status --content snippets`,
      });
    default:
      return fail('remote-refused', { retry: 'never' });
  }
}
