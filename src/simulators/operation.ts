import { Interrupted } from './clock.js';
import type { SimulatorContext } from './context.js';
import type { FiredFaults } from './faults.js';
import type { SimAnswer, SimReply } from './http.js';
import type { JournalEntry } from './journal.js';

export interface Operation {
  readonly sim: string;
  readonly op: string;
  readonly actor: string;
  readonly cluster?: string;
  readonly node?: string;
  readonly vmid?: number;
  readonly params?: Readonly<Record<string, unknown>>;
}

/** What `act` gives: the reply and what the journal must say about it (`effect` left out = false). */
export interface Outcome {
  readonly reply: SimReply;
  readonly journal?: Partial<JournalEntry>;
  /** The work goes on behind the reply: what the journal must say when it is over. */
  readonly late?: Promise<Partial<JournalEntry>>;
}

/** Nobody is left to give the answer, while the work goes on elsewhere; `late` is what it did in the end. */
export class Unheard extends Interrupted {
  constructor(
    message: string,
    readonly late: Promise<Partial<JournalEntry>>,
  ) {
    super(message);
  }
}

/**
 * Runs one request as every simulator does: hold and faults before the effect, `act`, hold and faults after the effect, then the journal line
 * (`ns` = moment of the effect, `answered` = the answer was handed to an open socket). `status` gives a fault's status the envelope of this API.
 */
export async function perform(
  context: SimulatorContext,
  operation: Operation,
  delivered: Promise<boolean>,
  act: (faults: FiredFaults) => Promise<Outcome>,
  status: (status: number, message: string) => SimReply,
): Promise<SimAnswer> {
  const { journal, holds } = context;
  const fired = context.faults.match(operation);
  const faulted = async (when: 'before' | 'after', reply?: SimReply): Promise<SimAnswer | undefined> => {
    const taken = await fired.answer(when);
    if (!taken) return undefined;
    switch (taken.kind) {
      case 'status':
        return status(taken.status, taken.message);
      case 'truncate':
        return reply && { ...reply, cutAfterBytes: taken.bytes };
      case 'omit':
        return reply && { ...reply, body: withoutField(reply.body, taken.field) };
      case 'cut':
        throw new Error('only a transport is cut');
      default:
        return taken.kind;
    }
  };
  const conclude = (
    ns: string,
    answer: SimAnswer,
    more: Partial<JournalEntry>,
    late?: Outcome['late'],
  ): SimAnswer => {
    const line = (answered: boolean, later: Partial<JournalEntry> = {}): void =>
      journal.record({
        event: 'request',
        effect: false,
        ...operation,
        ...(fired.ids === undefined ? {} : { fault: fired.ids }),
        ...more,
        ...(typeof answer === 'string' ? {} : { status: answer.status }),
        answered,
        ns,
        ...later,
      });
    if (typeof answer === 'string' && !late) line(false);
    else
      void Promise.all([typeof answer === 'string' ? false : delivered, late]).then(([answered, later]) =>
        line(answered, later),
      );
    return answer;
  };
  try {
    await holds.pass(operation.op, 'before');
    const early = await faulted('before');
    if (early !== undefined) return conclude(journal.now(), early, {});
    const outcome = await act(fired);
    const ns = outcome.journal?.ns ?? journal.now();
    try {
      await holds.pass(operation.op, 'after');
      const late = await faulted('after', outcome.reply);
      return conclude(ns, late ?? outcome.reply, outcome.journal ?? {}, outcome.late);
    } catch (error) {
      if (error instanceof Interrupted) return conclude(ns, 'drop', outcome.journal ?? {}, outcome.late);
      throw error;
    }
  } catch (error) {
    const late = error instanceof Unheard ? error.late : undefined;
    if (error instanceof Interrupted) return conclude(journal.now(), 'drop', {}, late);
    throw error;
  }
}

/** The answer without one field: of its data, or else of itself; where that is a list, or holds objects by their id, of each of those. */
function withoutField(body: SimReply['body'], field: string): string {
  type Row = Record<string, unknown>;
  const whole = JSON.parse(String(body)) as { data?: unknown };
  const about = 'data' in whole ? whole.data : whole;
  for (const row of [about ?? []].flat() as Row[])
    for (const one of field in row ? [row] : (Object.values(row).filter(isObject) as Row[]))
      delete one[field];
  return JSON.stringify(whole);
}

const isObject = (value: unknown): boolean => typeof value === 'object' && value !== null;
