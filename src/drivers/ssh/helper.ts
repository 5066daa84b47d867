import { z } from 'zod';
import { HatcheryError, type ErrorMore } from '../../core/errors.js';
import type { Call } from '../../ports/call.js';
import { cleanText } from '../remote-text.js';
import { ConversationLost, nodeUnreachable, type CommandOutput } from './connection.js';
import { commandLine } from './quote.js';
import type { Sessions } from './sessions.js';

/** Version of the requests that `bin/hatchery-node` understands. */
const VERSION = 1;
const LIMIT_MS = 30_000;
const LEAST_LIMIT_MS = 15_000;

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
type Refusal = z.infer<typeof refusalShape>;

/**
 * Asks `hatchery-node` on a node: the program as one argument of perl, the request as JSON on its stdin. A key that is restricted to an
 * installed copy (`command=`) gets the same request there. A command that is cut anywhere holds no whole request, and does nothing.
 */
export class Helper {
  readonly #line: string;

  constructor(private readonly options: HelperOptions) {
    this.#line = commandLine(['perl', '-e', options.program]);
  }

  async ask<T>(shape: z.ZodType<T>, helperCall: HelperCall, call: Call): Promise<T> {
    const { now, metrics } = this.options;
    const startedAt = now();
    let outcome = 'ok';
    try {
      return await this.#ask(shape, helperCall, call);
    } catch (error) {
      outcome = error instanceof HatcheryError ? error.code : 'aborted';
      throw error;
    } finally {
      metrics?.observe(helperCall.request.op, (now() - startedAt) / 1000, outcome);
    }
  }

  async #ask<T>(shape: z.ZodType<T>, helperCall: HelperCall, call: Call): Promise<T> {
    const { node, what, request } = helperCall;
    const input = Buffer.from(JSON.stringify({ ...request, helper: VERSION, node }), 'utf8');
    const output = await this.#converse(helperCall, input, call);
    const answer = answerShape.safeParse(lastLineAsJson(output.stdout)).data;
    if (answer === undefined) throw noAnswer(helperCall, output);
    if (!answer.ok) throw refused(helperCall, refusalShape.parse(answer));
    const parsed = shape.safeParse(answer);
    if (parsed.success) return parsed.data;
    throw new HatcheryError('outcome-unknown', `Unable to ${what} on ${node}: its answer cannot be read`, {
      retry: 'later',
      cause: parsed.error,
    });
  }

  /** A kept connection may have ended unnoticed: as long as nothing was sent, another one is tried. */
  async #converse(helperCall: HelperCall, input: Buffer, call: Call): Promise<CommandOutput> {
    const { node, isWrite } = helperCall;
    const { sessions, remoteTimeScale } = this.options;
    for (let isAgain = false; ; isAgain = true) {
      try {
        return await sessions.with(node, call.signal, (connection) =>
          connection.run(this.#line, {
            input,
            signal: call.signal,
            beforeSend: isWrite ? call.beforeSend : () => {},
            limitMs: Math.max(LEAST_LIMIT_MS, LIMIT_MS * remoteTimeScale),
          }),
        );
      } catch (error) {
        if (!(error instanceof ConversationLost)) throw error;
        if (!error.wasSent && !isAgain) continue;
        if (isWrite && error.wasSent) throw unknownOutcome(helperCall, error.message, error);
        throw nodeUnreachable(node, error.message, { cause: error });
      }
    }
  }
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
